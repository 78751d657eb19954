"""A thousand malformed command lines: each ends with exit 2 and one error, or works; none with a traceback.

They run in this process, with training cut short where its loop would begin, so that all that comes before it is real:
reading, resolving, building environments and networks. A handful, those that could end a process, run as processes.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from malformed import World, lines

from stablegrad.cli import main
from stablegrad.replay import memory
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.seeds import StackedTraining
from stablegrad.sweeps import calibrate
from stablegrad.sweeps.pool import LocalPool
from stablegrad.training.session import Session
from stablegrad.training.stop import StopRequest

LINES_A_SEED = 100
_SHARES = {f"time/{part}_share": 0.25 for part in ("environment", "inference", "update", "diagnostics")}


def at_once(session: Session, stop: StopRequest) -> str:
    """In place of the loop: what a run leaves, without one step of it."""
    for part in range(1, 11):
        head = {"step": part * session.total_steps // 10, "update": part, "seconds": float(part)}
        session.recorder.row(head, _SHARES)
    session.folder.set_status("done", session.total_steps)
    return "done"


def all_at_once(pool: LocalPool, folders: Iterable[Path], **rest: Any) -> dict[Path, int]:
    """In place of the processes of a pool."""
    trained = list(folders)
    for path in trained:
        RunFolder(path).set_status("done", 64)
    return dict.fromkeys(trained, 0)


def cut_short(patch: Callable[[Any, str, Any], None]) -> None:
    patch(Session, "run", at_once)
    patch(StackedTraining, "run", lambda training, stop: "done")
    patch(LocalPool, "run", all_at_once)
    patch(calibrate, "measure", lambda config, *, limit_seconds: None)
    # What is impossible is the same on every machine.
    patch(memory, "available_bytes", lambda: 8_000_000_000)


def verdict(line: list[str], code: int | str | None, error: str) -> str | None:
    """What is wrong with how a line ended; None where nothing is."""
    if code in (0, None):
        return None
    if code == 1 and line[:1] == ["check"]:
        return None  # a promise is broken: that is what was asked
    if code != 2:
        return f"exit code {code}"
    said = [text for text in error.splitlines() if not text.startswith("       ")]
    if line and sum(text.startswith("error: ") for text in said) != 1:
        return "not one error"
    return "a traceback" if "Traceback" in error else None


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    before = Path.cwd()
    yield World.build(tmp_path_factory.mktemp("world"))
    os.chdir(before)


@pytest.mark.parametrize("seed", range(10))
def test_a_malformed_line_is_one_error_or_works(world, monkeypatch, capsys, seed):
    cut_short(monkeypatch.setattr)
    monkeypatch.chdir(world.root)
    wrong, worked = [], 0
    for line in lines(world, seed=seed, count=LINES_A_SEED):
        world.prepare(line)
        try:
            code: int | str | None = main(line)
        except SystemExit as ended:  # --help
            code = ended.code
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            code = f"{type(error).__name__}: {error}"
        problem = verdict(line, code, capsys.readouterr().err)
        worked += code in (0, None)
        if problem is not None:
            wrong.append((problem, line))
    assert wrong == []
    assert worked >= LINES_A_SEED // 20  # that all of them are refused would prove little


def test_a_traceback_or_a_second_error_would_be_seen():
    assert verdict(["pqn"], 2, "error: one\n       and its second line\n") is None
    assert verdict(["pqn"], 2, "error: one\nerror: two\n") == "not one error"
    assert verdict(["pqn"], 2, "Traceback (most recent call last)\n") == "not one error"
    assert verdict(["pqn"], "KeyError: 'x'", "") == "exit code KeyError: 'x'"
    assert verdict(["pqn"], 1, "error: one\n") == "exit code 1"
    assert verdict(["pqn"], 0, "") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["pqn", "--threads", "100000"], b"--threads 100000: must be at most 1024"),
        (["pqn", "--threads", "1e12"], b"--threads 1000000000000: must be at most 1024"),
        (["ppo", "--mlp_depth", "1e8", "--env_id", "CartPole-v1"], b"would take at least"),
        (["report", b"runs/\xff\xfe", b"--out", b"\xff.html"], b"does not exist"),
    ],
)
def test_what_could_end_a_process_is_refused_by_a_process(tmp_path, line, said):
    """100,000 threads were a segmentation fault, and a hundred million blocks filled the memory."""
    command = [sys.executable, "-m", "stablegrad", *line]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"error: ") == 1
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
