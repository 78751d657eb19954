"""Seeds trained side by side: each is its own run, whatever happens to the others."""

import errno
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from supervised_runs import SMALL, StopAfter, final_state, identical, never, tensors_of

from stablegrad import api
from stablegrad.errors import UserError
from stablegrad.reports.arms import study
from stablegrad.reports.load import load_runs
from stablegrad.runs import checkpoint
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import DiskError
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.seeds import StackedTraining, members_of, record_members, seed_configs
from stablegrad.supervised.stacked import NotStackable
from stablegrad.supervised.training import SupervisedTraining
from stablegrad.training.session import RunFailed

Train = Callable[..., list[RunFolder]]

BASE = {**SMALL, "epochs": 5, "diagnostics": "light", "diagnostics_batch": 32, "non_stationary": True, "seeds": 3}


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train seeds side by side; `stops` interrupts all of them and resumes them together."""

    def run(*, stops: tuple[int, ...] = (), name: str = "arm", **settings: Any) -> list[RunFolder]:
        configs = seed_configs(RunConfig.resolve("cifar", {**BASE, **settings}))
        folders = [RunFolder.create(tmp_path / name / str(one.run.seed), one) for one in configs]
        record_members(folders, "side_by_side")
        for stop in (*map(StopAfter, stops), never()):
            training = StackedTraining([folder.config for folder in folders])
            try:
                training.attach(folders)
                training.run(stop)
            finally:
                training.close()
        return folders

    return run


def _alone(folder: RunFolder, path: Path, stop: StopAfter | None = None) -> RunFolder:
    """The same seed, trained by itself."""
    alone = RunFolder.create(path, folder.config)
    training = SupervisedTraining(alone.config)
    training.attach(alone)
    training.run(never() if stop is None else stop)
    training.close()
    return alone


def _apart(one: RunFolder, other: RunFolder) -> list[str]:
    """Tensors of two runs of a seed that are farther apart than 1e-9 of what training made of them in the second.

    For runs `in_float64`: sums in another order are 1e-16 of a gradient, an optimizer that divides by small gradients
    makes up to 1e-13 of it, and the last of 20 updates is 7e-4 at least. In float32 rounding has as many orders of
    magnitude less, and how far it is carried depends on the processor.
    """
    began = tensors_of({"agent": SupervisedTraining(other.config).agent.state_dict()})
    ours, theirs = (tensors_of({part: final_state(run)[part] for part in ("agent", "learner")}) for run in (one, other))
    assert {name: value.shape for name, value in ours.items()} == {n: v.shape for n, v in theirs.items()}
    found = []
    for name, value in theirs.items():
        if not value.is_floating_point():
            same = torch.equal(ours[name], value)
        else:
            moved = value - began.get(name, torch.zeros(()))
            same = bool((ours[name] - value).norm() <= 1e-9 * moved.norm())
        found += [] if same else [name]
    return found


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Networks, and all that is computed from them, in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


OPTIMIZERS = ["adam", "adamw", "radam", "sgd", "rmsprop", "kron"]


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_seed_ends_where_its_own_run_does(train: Train, tmp_path: Path, optimizer: str) -> None:
    folders = train(optimizer=optimizer, learning_rate=1e-2, max_grad_norm=0.1)
    for folder in folders:
        assert _apart(folder, _alone(folder, tmp_path / f"alone{folder.config.run.seed}")) == []


@pytest.mark.usefixtures("in_float64")
def test_an_update_or_another_seed_makes_a_difference(train: Train, tmp_path: Path) -> None:
    """The control: every parameter and both moments of Adam tell 19 updates from 20, and one seed from another."""
    first, second, _ = train(learning_rate=1e-2)
    parameters = [name for name in tensors_of(final_state(first)) if name.startswith("/agent/")]
    for other in (_alone(first, tmp_path / "shorter", StopAfter(19)), second):
        apart = _apart(first, other)
        assert set(parameters) < set(apart)
        assert {name.rpartition("/")[2] for name in apart} >= {"exp_avg", "exp_avg_sq"}


def test_the_seeds_share_their_images() -> None:
    configs = seed_configs(RunConfig.resolve("cifar", {**BASE, "seeds": 5}))
    together, apart = StackedTraining(configs).members, [SupervisedTraining(config) for config in configs]

    def copies(trainings: Sequence[SupervisedTraining]) -> int:
        return len({training.agent.images.train.images.data_ptr() for training in trainings})

    assert (copies(together), copies(apart)) == (1, 5)


def test_seeds_trained_together_and_alone_are_one_arm(train: Train, tmp_path: Path) -> None:
    together = train(epochs=2)
    alone = RunFolder.create(tmp_path / "alone", RunConfig.resolve("cifar", {**BASE, "epochs": 2, "seeds": 1}))
    assert together[0].config == alone.config
    assert len(study(load_runs([alone.path, *(folder.path for folder in together)])).arms) == 1


@pytest.mark.usefixtures("in_float64")
def test_rows_are_those_of_each_seeds_own_run(train: Train, tmp_path: Path) -> None:
    folder = train(cnn_type="cifar", cnn_size=4, subset=100)[1]
    alone = _alone(folder, tmp_path / "alone")
    for ours, theirs in zip(folder.rows(), alone.rows(), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if not name.startswith(("time/", "seconds", "ranks/", "units/", "features/")):
                assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "kron"}, {"fresh_networks": True}], ids=["adam", "kron", "fresh"]
)
def test_stopped_and_resumed_together_is_bit_identical(train: Train, settings: dict[str, Any]) -> None:
    whole = train(name="whole", **settings)
    pieces = train(name="pieces", stops=(1, 5, 3), **settings)
    for left, right in zip(whole, pieces, strict=True):
        assert identical(left, right)


def test_a_kill_between_two_checkpoints_falls_back_to_the_common_one(train: Train) -> None:
    whole = train(name="whole", checkpoint_every=7)
    killed = train(name="killed", checkpoint_every=7)
    newest = checkpoint.paths(killed[1].checkpoints)[0]
    shutil.rmtree(newest)  # as if the process had died behind the first member's save
    training = StackedTraining([folder.config for folder in killed])
    training.attach(killed)
    assert {member.step for member in training.members} == {14}
    training.run(never())
    training.close()
    for left, right in zip(whole, killed, strict=True):
        ours, theirs = tensors_of(final_state(left)["agent"]), tensors_of(final_state(right)["agent"])
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert [row["step"] for row in left.rows()] == [row["step"] for row in right.rows()]


@pytest.fixture
def train_with_a_broken_seed(tmp_path: Path) -> Train:
    """Train three seeds side by side until `stop`, the second of them with a NaN from the beginning."""

    def run(stop: StopAfter, *, name: str = "arm") -> list[RunFolder]:
        configs = seed_configs(RunConfig.resolve("cifar", BASE))
        folders = [RunFolder.create(tmp_path / name / str(one.run.seed), one) for one in configs]
        record_members(folders, "side_by_side")
        training = StackedTraining(configs)
        training.attach(folders)
        with torch.no_grad():
            training.members[1].agent.network.head.bias[3] = float("nan")
        with pytest.raises(RunFailed, match=rf"{name}/2: at update 1: the loss is nan; .* are in .*failure"):
            training.run(stop)
        training.close()
        return folders

    return run


@pytest.mark.usefixtures("in_float64")
def test_a_seed_that_breaks_does_not_stop_the_others(train: Train, train_with_a_broken_seed: Train) -> None:
    folders = train_with_a_broken_seed(never())
    assert [folder.status["state"] for folder in folders] == ["done", "failed", "done"]
    unharmed = train(name="unharmed")
    assert _apart(folders[0], unharmed[0]) == []
    assert _apart(folders[2], unharmed[2]) == []


class Steps(list[int]):
    """An observer that keeps the steps it is told, and asks to stop, as Ctrl-C does, when it has so many."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after = stop_after

    def on_row(self, row: Any) -> None:
        pass

    def on_progress(self, step: int, total: int) -> None:
        self.append(step)
        if len(self) == self.stop_after:
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        pass


def test_resuming_goes_on_without_the_broken_seed(train_with_a_broken_seed: Train) -> None:
    """The second seed broke before the first checkpoint: the others go on behind it all the same, not from step 0."""
    whole = train_with_a_broken_seed(never(), name="whole")
    folders = train_with_a_broken_seed(StopAfter(6))
    assert [folder.status["state"] for folder in folders] == ["stopped", "failed", "stopped"]
    steps = Steps()
    with pytest.raises(RunFailed, match=r"arm/2: the loss is nan; .* are in .*failure"):
        api.resume(folders[1].path, observers=[steps])
    assert steps == list(range(6, 21))
    assert [folder.status["state"] for folder in folders] == ["done", "failed", "done"]
    assert identical(whole[0], folders[0])
    assert identical(whole[2], folders[2])


def test_a_full_disk_at_the_end_fails_the_seeds_that_it_meets(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save = checkpoint.save

    def full_for_the_second(folder: Path, step: int, *args: Any, **kwargs: Any) -> Path:
        if folder.parent.name == "2" and step == 20:
            raise DiskError(folder, "written", OSError(errno.ENOSPC, "No space left on device"))
        return save(folder, step, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full_for_the_second)
        with pytest.raises(RunFailed, match=r"arm/2: the last checkpoint could not be written \(the disk is full\)"):
            train(checkpoint_every=15)
    folders = [RunFolder.open(tmp_path / "arm" / str(seed)) for seed in (1, 2, 3)]
    assert [folder.status["state"] for folder in folders] == ["done", "failed", "done"]
    steps = Steps()
    assert api.resume(folders[1].path, observers=[steps]).status["state"] == "done"
    assert steps == list(range(16, 21))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"diagnostics": "full"}, "full diagnostics"),
        ({"keep_checkpoints": 1}, "--keep_checkpoints 2"),
        ({"use_spectral_norm": True}, "SpectralLinear"),
        ({"stream": "class_incremental", "subset": 500, "batch_size": 500}, "the tasks of the seeds differ in size"),
    ],
)
def test_what_cannot_go_side_by_side_goes_in_turn(
    tmp_path: Path, settings: dict[str, Any], reason: str, caplog: Any
) -> None:
    config = RunConfig.resolve("cifar", {**BASE, "epochs": 2, "seeds": 2, **settings})
    with pytest.raises(NotStackable, match=reason):
        StackedTraining(seed_configs(config))
    runs = api.train_seeds(config, run_dir=tmp_path / "arm")
    assert "in turn, not side by side" in caplog.text
    assert [run.path.name for run in runs] == ["seed_1", "seed_2"]
    assert [run.status["state"] for run in runs] == ["done", "done"]
    assert [run.config.agent.seeds for run in runs] == [1, 1]


def test_what_goes_in_turn_can_be_stopped_anywhere_and_resumed(tmp_path: Path) -> None:
    """Three seeds of 8 updates, stopped in the first at 3, again in the second at 5; any of them resumes them all."""
    settings = {"algo": "cifar", **BASE, "epochs": 2, "diagnostics": "full"}
    whole = api.train_seeds(settings, run_dir=tmp_path / "whole")
    first = Steps(stop_after=3)
    runs = api.train_seeds(settings, run_dir=tmp_path / "arm", observers=[first])
    assert [(run.status["state"], run.status["step"]) for run in runs] == [
        ("stopped", 3),
        ("stopped", 0),
        ("stopped", 0),
    ]
    second, third = Steps(stop_after=5 + 5), Steps()
    assert api.resume(runs[2].path, observers=[second]).status["state"] == "stopped"
    assert [(run.status["state"], run.status["step"]) for run in runs] == [("done", 8), ("stopped", 5), ("stopped", 0)]
    assert api.resume(runs[2].path, observers=[third]).status["state"] == "done"
    assert [run.status["state"] for run in runs] == ["done"] * 3
    assert first + second + third == [*range(1, 9)] * 3
    assert all(identical(left.folder, right.folder) for left, right in zip(whole, runs, strict=True))


@pytest.mark.parametrize("diagnostics", ["light", "full"], ids=["side by side", "in turn"])
def test_a_seed_whose_folder_was_deleted_is_missed_in_words(tmp_path: Path, diagnostics: str, caplog: Any) -> None:
    settings = {"algo": "cifar", **BASE, "epochs": 2, "diagnostics": diagnostics}
    runs = api.train_seeds(settings, run_dir=tmp_path / "arm", observers=[Steps(stop_after=3)])
    shutil.rmtree(runs[1].path)
    assert api.resume(runs[0].path).status["state"] == "done"
    assert runs[2].status["state"] == "done"
    assert f"{runs[1].path} is not there any more: the other seeds go on without it" in caplog.messages


def test_the_api_trains_and_resumes_all_of_them(tmp_path: Path) -> None:
    runs = api.train_seeds({"algo": "cifar", **BASE}, run_dir=tmp_path / "arm")
    assert [run.config.run.seed for run in runs] == [1, 2, 3]
    assert members_of(runs[0].path, "side_by_side") == [run.path for run in runs]
    runs[1].folder.set_status("stopped", 3)
    assert api.resume(runs[1].path).status["state"] == "done"
    with pytest.raises(UserError, match="--seeds 3 are several runs: call train_seeds"):
        api.train({"algo": "cifar", **BASE}, run_dir=tmp_path / "one")


def test_every_seed_has_its_own_mirror(tmp_path: Path) -> None:
    tracker = tmp_path / "tracker.py"
    tracker.write_text("""
class ToFile:
    def __init__(self, path, config):
        self.file, self.seed = (path / "mirrored").open("a"), config["seed"]
    def log(self, step, scalars):
        self.file.write(f"{self.seed} {step}\\n")
    def close(self):
        self.file.close()
""")
    settings = {"algo": "cifar", **BASE, "epochs": 2, "track": [f"{tracker}:ToFile"]}
    for run in api.train_seeds(settings, run_dir=tmp_path / "arm"):
        expected = [f"{run.config.run.seed} {row['step']}" for row in run.folder.rows()]
        assert (run.path / "mirrored").read_text().splitlines() == expected


def test_a_moved_arm_is_found_again(tmp_path: Path) -> None:
    runs = api.train_seeds({"algo": "cifar", **BASE, "epochs": 2}, run_dir=tmp_path / "arm")
    (tmp_path / "arm").rename(tmp_path / "moved")
    expected = [tmp_path / "moved" / run.path.name for run in runs]
    assert members_of(expected[0], "side_by_side") == expected
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    expected = [tmp_path / "copied" / run.path.name for run in runs]
    assert members_of(expected[0], "side_by_side") == expected
    expected[0].rename(tmp_path / "alone")
    expected[0].parent.rename(tmp_path / "arm")
    assert members_of(tmp_path / "arm" / expected[1].name, "side_by_side")[1:] == [run.path for run in runs[1:]]


def test_a_renamed_seed_is_said_to_be_one(tmp_path: Path) -> None:
    """Its seed is in nobody's list any more: resuming it trained the others, and left it where it stood."""
    runs = api.train_seeds(
        {"algo": "cifar", **BASE, "epochs": 2}, run_dir=tmp_path / "arm", observers=[Steps(stop_after=3)]
    )
    renamed = runs[0].path.rename(tmp_path / "arm" / "mine")
    with pytest.raises(UserError, match=r"does not list .*mine, but seed_1, seed_2, seed_3: give the folder its old"):
        api.resume(renamed)
    assert api.load_run(renamed).status["state"] == "stopped"
