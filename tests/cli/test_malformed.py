"""A thousand malformed command lines: each ends with exit 2 and one error, or works; none with a traceback.

They run in this process, with training cut short where its loop would begin, so that all that comes before it is real:
reading, resolving, building environments and networks. A handful, those that could end a process, run as processes.
"""

import os
import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from malformed import lines, settings_of
from malformed_world import BASE, World

from stablegrad.cli import COMMANDS, main
from stablegrad.commands.parsing import underscored
from stablegrad.replay import memory
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.seeds import StackedTraining
from stablegrad.sweeps import calibrate
from stablegrad.sweeps.pool import LocalPool
from stablegrad.training.session import Session
from stablegrad.training.stop import StopRequest

SEED, PARTS, LINES_A_PART = 0, 10, 100
_SHARES = {f"time/{part}_share": 0.25 for part in ("environment", "inference", "update", "diagnostics")}


def at_once(session: Session, stop: StopRequest) -> str:
    """In place of the loop: what a run leaves, without one step of it."""
    for part in range(1, 11):
        head = {"step": part * session.total_steps // 10, "update": part, "seconds": float(part)}
        session.recorder.row(head, _SHARES)
    session.folder.set_status("done", session.total_steps)
    return "done"


def all_seeds_at_once(training: StackedTraining, stop: StopRequest) -> str:
    for member in training.members:
        member.folder.set_status("done", member.total_steps)
    return "done"


def all_at_once(pool: LocalPool, folders: Iterable[Path], **rest: Any) -> dict[Path, int]:
    """In place of the processes of a pool."""
    trained = list(folders)
    for path in trained:
        RunFolder(path).set_status("done", 64)
    return dict.fromkeys(trained, 0)


def cut_short(patch: Callable[[Any, str, Any], None]) -> None:
    patch(Session, "run", at_once)
    patch(StackedTraining, "run", all_seeds_at_once)
    patch(LocalPool, "run", all_at_once)
    patch(calibrate, "measure", lambda config, *, limit_seconds: None)
    # What is impossible is the same on every machine.
    patch(memory, "available_bytes", lambda: 8_000_000_000)


def verdict(
    line: list[str], code: int | str | None, error: str, output: str = "", *, imported: bool = False
) -> str | None:
    """What is wrong with how a line ended; None where nothing is. `imported`: code that only a run's files name."""
    if imported and "--trust" not in line:
        return "a stranger's code was imported"
    if any(sign != "\n" and unicodedata.category(sign) in ("Cc", "Cs") for sign in output + error):
        return "what was printed acts"
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


def end_of(line: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    """Exit code (or what was raised), standard output and standard error."""
    try:
        code: int | str | None = main(line)
    except SystemExit as ended:  # --help
        code = ended.code
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        code = f"{type(error).__name__}: {error}"
    return code, *capsys.readouterr()


@pytest.fixture
def shortened(world, monkeypatch) -> None:
    cut_short(monkeypatch.setattr)
    monkeypatch.chdir(world.root)
    monkeypatch.syspath_prepend(str(world.root))


@pytest.mark.parametrize(
    "part", [part if part < PARTS // 2 else pytest.param(part, marks=pytest.mark.evidence) for part in range(PARTS)]
)
def test_a_malformed_line_is_one_error_or_works(world, shortened, capsys, part):
    wrong, worked = [], 0
    for line in islice(lines(world, seed=SEED), part * LINES_A_PART, (part + 1) * LINES_A_PART):
        world.prepare(line)
        code, output, error = end_of(line, capsys)
        problem = verdict(line, code, error, output, imported=world.imported())
        worked += code in (0, None)
        if problem is not None:
            wrong.append((problem, line))
    assert wrong == []
    assert worked >= LINES_A_PART // 20  # that all of them are refused would prove little


def test_a_traceback_or_a_second_error_would_be_seen():
    assert verdict(["pqn"], 2, "error: one\n       and its second line\n") is None
    assert verdict(["pqn"], 2, "error: one\nerror: two\n") == "not one error"
    assert verdict(["pqn"], 2, "Traceback (most recent call last)\n") == "not one error"
    assert verdict(["pqn"], "KeyError: 'x'", "") == "exit code KeyError: 'x'"
    assert verdict(["pqn"], 1, "error: one\n") == "exit code 1"
    assert verdict(["pqn"], 0, "") is None
    assert verdict(["list"], 0, "", "\x1b[31mred") == "what was printed acts"
    assert verdict(["eval", "a"], 0, "", imported=True) == "a stranger's code was imported"
    assert verdict(["eval", "a", "--trust"], 0, "", imported=True) is None


def test_a_stranger_s_code_would_be_seen(world, shortened, capsys):
    """The negative control: trusted, the code that an edited config names is imported."""
    named = [name for name, edit in world.edits["good-code"].items() if b'"env_id": "stranger' in edit.content]
    assert len(named) == 2
    for name in named:
        line = ["eval", f"copies/control={name}", "--episodes", "1"]
        world.prepare(line)
        assert (end_of(line, capsys)[0], world.imported()) == (2, False)
        end_of([*line, "--trust"], capsys)
        assert world.imported()
        assert not world.imported()


def test_every_option_of_every_command_is_among_the_lines(world, shortened, capsys):
    drawn: dict[str, set[str]] = defaultdict(set)
    for line in islice(lines(world, seed=SEED), PARTS * LINES_A_PART):
        two = " ".join(line[:2])
        command = two if two in ("sweep status", "sweep presets", "sweep tune") else line[0]
        given = {underscored(text).partition("=")[0] for text in line[1:]}
        drawn[command].update(given, (text.replace("--no_", "--") for text in given))
    for command in [*COMMANDS, "sweep status", "sweep presets", "sweep tune"]:
        code, shown, _ = end_of([*command.split(), "--help"], capsys)
        assert code == 0
        options = set(re.findall(r"^ +(?:-\w, )?(--\w+)", shown, re.MULTILINE)) - {"--help"}
        if command not in (*BASE, "check", "bench"):  # whose settings are those of what they run
            assert options - drawn[command] == set(), command
    for algo in BASE:
        given = drawn[algo if algo in COMMANDS else "train"]
        assert {f"--{name}" for name in settings_of(algo)} - given == set(), algo
        assert {"--quiet", "--run_dir"} <= given
    assert {"--config", "--faithful"} <= set.union(*drawn.values())


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
