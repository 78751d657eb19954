"""Tuning: the same budget for every arm, seeds of its own, and a killed study that ends as the one that was not."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from stablegrad.errors import UserError
from stablegrad.reports.final import final_score
from stablegrad.reports.load import load_run
from stablegrad.runs.files import read_json
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.series import EPISODES, TRAIN_RETURN
from stablegrad.sweeps import file
from stablegrad.sweeps.grid import expand
from stablegrad.sweeps.tune_spec import tune_spec
from stablegrad.sweeps.tuning import Tuning

TUNE = """
name = "tuned"
seeds = [1, 2]
[settings]
algo = "pqn"
env_id = "CartPole-v1"
total_timesteps = 512
num_envs = 4
num_steps = 8
num_minibatches = 2
[[arms]]
name = "adam"
optimizer = "adam"
[[arms]]
name = "kron"
optimizer = "kron"
[tune]
trials = 4
seeds = [11, 12]
[tune.space]
learning_rate = {low = 1e-5, high = 1e-1, log = true}
num_minibatches = {choices = [1, 2, 4]}
"""


class Pretended:
    """An executor that trains nothing: a run's score has its peak at a learning rate of 1e-3, and depends on the seed.

    `kill_at`: the process kills itself in the middle of that run. `fail_above`: higher learning rates fail.
    """

    slots = 1

    def __init__(self, *, kill_at: int | None = None, fail_above: float = math.inf) -> None:
        self.kill_at, self.fail_above = kill_at, fail_above
        self.trained: list[Path] = []

    def run(self, folders: Iterable[Path], *, stop=None, on_tick=None) -> dict[Path, int]:
        for folder in folders:
            if len(self.trained) == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.trained.append(folder)
            config = read_json(folder / "config.json")
            rate = config["learning_rate"] / config["lr_scale"]
            score = -abs(math.log10(rate) + 3) + 0.1 * config["seed"] + 0.01 * config["num_minibatches"]
            rows = [{"step": 100, "train/episode_return": -99.0}, {"step": 512, "train/episode_return": score}]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            RunFolder(folder).set_status("failed" if rate > self.fail_above else "done", 512)
        return {}


def trials(folder: Path) -> dict[str, list[tuple]]:
    """What the journal holds: number, state, parameters and value of every trial, by arm."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    names = [study.study_name for study in storage.get_all_studies()]
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
    return {
        name: [(t.number, t.state.name, t.params, t.value) for t in study.trials] for name, study in studies.items()
    }


def tune(folder: Path, executor: Pretended, text: str = TUNE) -> Tuning:
    tuning = Tuning(file.parse(text, source="test"), folder)
    tuning.run(executor)
    return tuning


@pytest.mark.needs("Optuna")
def test_every_arm_gets_the_same_budget_on_seeds_of_its_own(tmp_path) -> None:
    executor = Pretended()
    tuning = Tuning(file.parse(TUNE, source="test"), tmp_path)
    bests = tuning.run(executor)
    assert [(best.arm, best.tried, best.failed) for best in bests] == [("adam", 4, 0), ("kron", 4, 0)]
    configs = [read_json(path / "config.json") for path in executor.trained]
    assert {config["seed"] for config in configs} == {11, 12}
    assert len(configs) == 2 * 4 * 2
    for best in bests:
        found = trials(tmp_path)[best.arm]
        assert best.value == max(value for *_, value in found)
        _, _, params, value = found[0]
        expected = -abs(math.log10(params["learning_rate"]) + 3) + 0.1 * 11.5 + 0.01 * params["num_minibatches"]
        assert value == pytest.approx(expected), "the mean over the two seeds"
    assert trials(tmp_path)["adam"] != trials(tmp_path)["kron"], "arms do not share their luck"


@pytest.mark.needs("Optuna")
def test_the_tuned_sweep_is_judged_on_the_seeds_of_the_file(tmp_path) -> None:
    tuning = Tuning(file.parse(TUNE, source="test"), tmp_path)
    bests = tuning.run(Pretended())
    tuned = tuning.tuned(bests)
    plan = expand(file.parse(file.write(tuned), source="written"))
    assert plan.arms == ("adam", "kron")
    assert plan.seeds == (1, 2)
    for cell in plan.cells:
        best = next(best for best in bests if best.arm == cell.arm)
        assert best.settings is not None
        rate = cell.config.optimizer.learning_rate / (cell.config.optimizer.lr_scale or 1)
        assert rate == pytest.approx(best.settings["learning_rate"])
        assert cell.config.agent.num_minibatches == best.settings["num_minibatches"]
        assert cell.config.optimizer.optimizer == cell.arm


@pytest.mark.needs("Optuna")
@pytest.mark.parametrize("kill_at", [3, 8])
def test_a_study_that_was_killed_and_resumed_is_the_study_that_was_not(tmp_path, kill_at) -> None:
    tune(tmp_path / "straight", Pretended())
    (tmp_path / "sweep.toml").write_text(TUNE)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "import test_sweeps_tuning as t\n"
        f"t.tune(Path(sys.argv[2]), t.Pretended(kill_at={kill_at}))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path / "killed")])
    assert killed.returncode == -signal.SIGKILL
    before = trials(tmp_path / "killed")
    assert before != trials(tmp_path / "straight")
    executor = Pretended()
    tune(tmp_path / "killed", executor)
    assert trials(tmp_path / "killed") == trials(tmp_path / "straight")
    assert len(executor.trained) == 16 - kill_at, "what was trained is not trained again"


@pytest.mark.needs("Optuna")
def test_half_a_line_in_the_journal_is_cut_off(tmp_path) -> None:
    tune(tmp_path / "a", Pretended(), TUNE.replace("trials = 4", "trials = 2"))
    with (tmp_path / "a/journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker')
    (tmp_path / "a/journal.log.lock").symlink_to("somewhere")
    tune(tmp_path / "a", Pretended())
    tune(tmp_path / "b", Pretended())
    assert trials(tmp_path / "a") == trials(tmp_path / "b"), "a longer budget goes on from a shorter one"


@pytest.mark.needs("Optuna")
def test_a_trial_whose_run_failed_counts_as_tried_and_never_wins(tmp_path) -> None:
    text = TUNE.replace("low = 1e-5", "low = 1e-4")
    tuning = Tuning(file.parse(text, source="test"), tmp_path)
    bests = tuning.run(Pretended(fail_above=1e-3))
    assert [best.tried for best in bests] == [4, 4]
    assert sum(best.failed for best in bests) > 0
    for best in bests:
        assert best.settings is None or best.settings["learning_rate"] <= 1e-3


@pytest.mark.needs("Optuna")
def test_two_at_a_time_would_not_be_one_study(tmp_path) -> None:
    from stablegrad.sweeps.process import claim

    tmp_path.mkdir(exist_ok=True)
    held = claim(tmp_path)
    assert held is not None
    with pytest.raises(UserError, match="another process is tuning"):
        tune(tmp_path, Pretended())
    os.close(held)


class Uneven(Pretended):
    """Runs that made some steps twice, and have rows of many games beside rows of one."""

    def run(self, folders: Iterable[Path], *, stop=None, on_tick=None) -> dict[Path, int]:
        for folder in folders:
            super().run([folder])
            top = 1e5 * read_json(folder / "config.json")["learning_rate"]
            rows = [(100, 50.0, 100), (500, 99.0, 9), (512, 99.0, 1), (490, 7.0, 5), (500, 0.0, 9), (512, top, 1)]
            lines = [{"step": step, TRAIN_RETURN: score, EPISODES: games} for step, score, games in rows]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return {}


@pytest.mark.needs("Optuna")
def test_tuning_judges_a_run_as_the_report_does(tmp_path) -> None:
    """It took the mean of the last rows, those that were made again among them, and the report that of the games."""
    executor = Uneven()
    tune(tmp_path, executor, TUNE.replace("seeds = [11, 12]", "seeds = [11]"))
    told = {value for arm in trials(tmp_path).values() for *_, value in arm}
    assert told == {final_score(load_run(path), TRAIN_RETURN) for path in executor.trained}
    assert len(told) == 8
    tops = [1e5 * read_json(path / "config.json")["learning_rate"] for path in executor.trained]
    assert sorted(told) == pytest.approx(sorted((5 * 7 + 9 * 0 + top) / 15 for top in tops))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = [11, 12]", "seeds = [2, 12]", "seeds [2] also judge the arms"),
        ("trials = 4", "trails = 4", "unknown key 'trails' (did you mean 'trials'?)"),
        ("trials = 4", "trials = 0", "trials must be at least 1"),
        ("low = 1e-5, ", "", "needs low < high"),
        ("low = 1e-5", "low = 0", "needs low < high (above 0 where log = true)"),
        ("low = 1e-5", "lo = 1e-5", "learning_rate 'lo': write {low"),
        ('optimizer = "adam"', "[arms.grid]\nnum_minibatches = [1, 2]", "num_minibatches is varied by a grid"),
        ("[tune.space]", "[tune.nothing]", "[tune.space] is missing"),
    ],
)
def test_mistakes_in_the_table_are_told_before_anything_runs(old, new, said) -> None:
    assert old in TUNE
    with pytest.raises(UserError, match=r"\[tune\]") as caught:
        tune_spec(file.parse(TUNE.replace(old, new, 1), source="test"))
    assert any(said in problem for problem in caught.value.problems)


def test_a_bound_that_makes_no_run_is_a_mistake(tmp_path) -> None:
    text = TUNE.replace("choices = [1, 2, 4]", "choices = [1, 2, 5]")
    with pytest.raises(UserError, match="32 rows cannot be cut into --num_minibatches 5"):
        Tuning(file.parse(text, source="test"), tmp_path)


def test_games_without_a_common_scale_are_refused(tmp_path) -> None:
    text = TUNE.replace('env_id = "CartPole-v1"\n', "").replace(
        "[[arms]]", '[grid]\nenv_id = ["CartPole-v1", "Acrobot-v1"]\n[[arms]]', 1
    )
    with pytest.raises(UserError, match="2 games share no scale"):
        Tuning(file.parse(text, source="test"), tmp_path)
