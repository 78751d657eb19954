"""What is done while the disk fails: one scene for each command, how it is repaired, and what has to hold after that.

Every scene plays in a folder of its own, in this process, through the command line. Its run is tiny: DQN with a replay
that is cut into segments (so that checkpoints link files), or PQN, on CartPole, 16 steps, three checkpoints.
"""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faulty_disk import Killed, tree

from stablegrad import api, cli
from stablegrad.commands import sweep as sweep_command
from stablegrad.errors import DONE, FAILED
from stablegrad.replay.segments import SegmentedArray
from stablegrad.runs import checkpoint, folder, records
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.process import claim
from stablegrad.training.contract import StopAfter, differences
from stablegrad.training.loop import Training
from stablegrad.training.session import RunFailed

STEPS = 16
SETTINGS = {
    "env_id": "CartPole-v1", "total_timesteps": STEPS, "num_envs": 2, "mlp_width": 8, "mlp_depth": 1, "use_ln": False,
    "threads": 1, "diagnostics": "off", "log_every": 4, "checkpoint_every": 8, "eval_every": 8, "eval_episodes": 1,
    "max_episode_steps": 5, "eval_max_episode_steps": 5, "buffer_size": 32, "batch_size": 2, "learning_starts": 4,
    "train_frequency": 4, "target_network_frequency": 8,
}  # fmt: skip
SWEEP = f"""
name = "sweep"
seeds = [1]
[settings]
algo = "dqn"
{"".join(f"{name} = {json.dumps(value)}{chr(10)}" for name, value in SETTINGS.items())}
"""


def options() -> list[str]:
    """The settings as a command line says them."""
    return [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]


class Ended(NamedTuple):
    """How a command ended: its exit code (None: the process was killed), and what it said on standard error."""

    code: int | None
    said: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error:")]


def command(*words: str | Path) -> Ended:
    """Run a command of the house here; the process that is killed in the middle is this call."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            return Ended(cli.main([str(word) for word in words]), said.getvalue())
    except Killed:
        return Ended(None, said.getvalue())


class HerePool:
    """An executor that trains in this process: what a slot of the pool does, without a process for each run."""

    slots = 1

    def run(self, folders: Iterable[Path], *, stop: Any = None, on_tick: Any = None) -> dict[Path, int]:
        codes = {}
        for path in folders:
            while (claimed := claim(path)) is None:
                time.sleep(0.01)
            try:
                api.resume(path)
                codes[path] = DONE
            except RunFailed as error:
                logging.getLogger("stablegrad").warning("%s", error)
                codes[path] = FAILED
            finally:
                os.close(claimed)
        return codes


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Small segments, a pool in this process, no look at git: for the scenes alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SegmentedArray.__init__.__kwdefaults__, "segment_bytes", 256)
        patch.setattr(folder, "_git", lambda: None)
        patch.setattr(sweep_command, "make_executor", lambda arguments, plan: HerePool())
        yield


def start(path: Path, *more: str) -> Ended:
    return command("dqn", *options(), "--run_dir", path, "--quiet", *more)


def resume(path: Path, *more: str) -> Ended:
    return command("resume", path, "--quiet", *more)


def finish(path: Path, begin: Callable[[], Ended]) -> None:
    """What a user does after a mishap: go on with a run, or begin it again where it did not come into being."""
    ended = resume(path) if RunFolder(path).is_run else begin()
    assert (ended.code, ended.errors) == (DONE, []), ended.said


def stopped(path: Path, *, at: int) -> None:
    """A run that was stopped after so many steps of its environments."""
    config = api.resolve({"algo": "dqn", **SETTINGS})
    made = RunFolder.create(path, config)
    training = Training(config)
    try:
        training.attach(made)
        training.run(StopAfter(at // 2))
    finally:
        training.close()


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file, each of which has to be whole, without what differs from one clock to the next."""
    if not path.exists():
        return []
    text = path.read_bytes()
    assert text.endswith(b"\n") or not text, f"{path} ends with half a line"
    found = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in record.items() if not re.match(r"seconds|time", k)} for record in found]


def trained(path: Path) -> dict[str, Any]:
    """All that a finished run has to have in common with one that nothing happened to."""
    run = RunFolder(path)
    assert run.status["state"] == "done", run.status
    problems: list[str] = []
    state = checkpoint.load_newest(run.checkpoints, warn=problems.append)
    assert state is not None
    assert problems == []
    parts = {part: state.state[part] for part in ("step", "agent", "learner", "envs")}
    own = [record for record in lines(run.evaluations) if record.get("by") != records.BY_EVAL]
    return {
        **parts, "means": state.state["recorder"]["means"], "rows": lines(run.metrics),
        "episodes": lines(run.episodes), "evaluations": own,
    }  # fmt: skip


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    different = list(differences(found, expected, ""))
    assert different == [], different


@dataclass(frozen=True)
class Reference:
    """Finished runs that nothing happened to, by name, and what the scene's folder held before."""

    runs: dict[str, dict[str, Any]]
    before: dict[str, bytes]


@dataclass(frozen=True)
class Scene:
    """`prepare` what is there, `act` (which the disk spoils), and `check`: repair it, and see that nothing is lost."""

    name: str
    prepare: Callable[[Path], Any]
    act: Callable[[Path], Ended]
    check: Callable[[Path, Reference, Ended], None]
    trains: bool = True


def _nothing(root: Path) -> None:
    pass


def _check_run(root: Path, reference: Reference, ended: Ended) -> None:
    finish(root / "run", lambda: start(root / "run"))
    assert_same(trained(root / "run"), reference.runs["run"])


def _stopped_run(root: Path) -> None:
    stopped(root / "run", at=12)


def _torn_run(root: Path) -> None:
    """A run that was killed at step 12, four steps after its checkpoint, and evaluated: resuming moves lines aside."""
    stopped(root / "run", at=12)
    shutil.rmtree(checkpoint.paths(root / "run/checkpoints")[0])
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["eval", str(root / "run"), "--episodes", "1"])


def _check_torn(root: Path, reference: Reference, ended: Ended) -> None:
    _check_run(root, reference, ended)
    eval_lines = [line for line in lines(root / "run/evaluations.jsonl") if line.get("by") == "eval"]
    assert len(eval_lines) == 1
    aside = root / "run" / records.SUPERSEDED
    steps = {line["step"] for path in aside.glob("step_*/metrics.jsonl") for line in lines_but_torn(path)}
    assert 12 in steps


def _source(root: Path) -> None:
    stopped(root / "source", at=12)


def _fork(root: Path) -> Ended:
    return command("fork", root / "source", "--run_dir", root / "run", "--learning_rate", "1e-3", "--quiet")


def _check_fork(root: Path, reference: Reference, ended: Ended) -> None:
    _source_untouched(root, reference)
    finish(root / "run", lambda: _fork(root))
    # Where the newest checkpoint could not be read, it went out from the one before, and said so.
    same = list(differences(trained(root / "run"), reference.runs["fork"], "")) == []
    assert same or "falling back" in ended.said
    if not same:
        assert_same(trained(root / "run"), reference.runs["fork from the one before"])


def _source_untouched(root: Path, reference: Reference) -> None:
    before = {name: data for name, data in reference.before.items() if name.startswith("source/")}
    assert {name: data for name, data in tree(root).items() if name.startswith("source/")} == before


def _eval(root: Path) -> Ended:
    return command("eval", root / "run", "--episodes", "2", "--seed", "3")


def _check_eval(root: Path, reference: Reference, ended: Ended) -> None:
    own = {name: data for name, data in reference.before.items() if name != "run/evaluations.jsonl"}
    assert {name: data for name, data in tree(root).items() if name in own} == own
    had = reference.before["run/evaluations.jsonl"]
    assert (root / "run/evaluations.jsonl").read_bytes().startswith(had)
    assert _eval(root).code == DONE
    made = [line for line in lines_but_torn(root / "run/evaluations.jsonl") if line.get("by") == "eval"]
    assert 1 <= len(made) <= 2
    assert all(line == made[-1] for line in made) or "falling back" in ended.said
    assert made[-1]["step"] == 12
    _check_run(root, reference, ended)


def lines_but_torn(path: Path) -> list[dict[str, Any]]:
    """As a reader of the house sees them, after a process was killed in the middle of a line."""
    return [{k: v for k, v in line.items() if k != "time"} for line in folder.read_lines(path)]


def _sweep_file(root: Path) -> None:
    (root / "sweep.toml").write_text(SWEEP)


def _sweep(root: Path, *more: str) -> Ended:
    return command("sweep", root / "sweep.toml", "--out", root / "sweep", *more)


def _check_sweep(root: Path, reference: Reference, ended: Ended) -> None:
    again = _sweep(root, "--retry")
    assert (again.code, again.errors) == (DONE, []), again.said
    cells = [path for path in sorted((root / "sweep").iterdir()) if path.is_dir()]
    assert len(cells) == 1
    assert_same(trained(cells[0]), reference.runs["run"])


def _done_run(root: Path) -> None:
    assert start(root / "run").code == DONE


def _report(root: Path) -> Ended:
    return command("report", root / "run", "--no_files")


def _check_report(root: Path, reference: Reference, ended: Ended) -> None:
    ours = {name: data for name, data in tree(root).items() if not Path(name).name.startswith((".report", "report"))}
    assert ours == reference.before
    page = root / "run/report.html"
    assert not page.exists() or page.read_text().rstrip().endswith("</html>")
    assert _report(root).code == DONE
    assert page.read_text().rstrip().endswith("</html>")


def _check_start_over(root: Path, reference: Reference, ended: Ended) -> None:
    """Whatever became of it, asking again does it, and the old rows are there."""
    run = RunFolder(root / "run")
    again = resume(run.path) if run.status["state"] != "done" else Ended(DONE, "")
    if again.code != DONE:
        assert "--start_over" in again.said
        assert resume(run.path, "--start_over").code == DONE
    assert_same(trained(run.path), reference.runs["run"])
    aside = [lines_but_torn(path) for path in (run.path / records.SUPERSEDED).glob("step_*/metrics.jsonl")]
    rows = reference.runs["run"]["rows"]
    assert not aside or [row["step"] for row in rows] in [[row["step"] for row in found] for found in aside]


SCENES = {
    scene.name: scene
    for scene in (
        Scene("start", _nothing, lambda root: start(root / "run"), _check_run),
        Scene("resume", _stopped_run, lambda root: resume(root / "run"), _check_run),
        Scene("resume after a kill", _torn_run, lambda root: resume(root / "run"), _check_torn),
        Scene("fork", _source, _fork, _check_fork),
        Scene("eval", _stopped_run, _eval, _check_eval, trains=False),
        Scene("sweep", _sweep_file, _sweep, _check_sweep),
        Scene("start over", _done_run, lambda root: resume(root / "run", "--start_over"), _check_start_over),
        Scene("report", _done_run, _report, _check_report, trains=False),
    )
}


def references(root: Path) -> dict[str, dict[str, Any]]:
    """The runs of all scenes, undisturbed."""
    found = {}
    for name, more in (("run", []), ("seed 1", []), ("seed 2", ["--seed", "2"])):
        assert start(root / name, *more).code == DONE
        found[name] = trained(root / name)
    (root / "fork").mkdir()
    _source(root / "fork")
    assert _fork(root / "fork").code == DONE
    found["fork"] = trained(root / "fork/run")
    ended = command("fork", root / "fork/source", "--run_dir", root / "older", "--learning_rate", "1e-3", "--step", "8",
                    "--quiet")  # fmt: skip
    assert ended.code == DONE
    return {**found, "fork from the one before": trained(root / "older")}
