"""`stablegrad sweep` from the command line: plans, exit codes, failures, retries, time budgets, status."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from stablegrad.cli import main
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.folder import SweepFolder

FILE = """
name = "tiny"
seeds = [1, 2]
[settings]
algo = "pqn"
env_id = "CartPole-v1"
total_timesteps = 512
num_envs = 4
num_steps = 8
num_minibatches = 2
[grid]
optimizer = ["adam", "radam"]
"""


@pytest.fixture
def here(tmp_path, stand_in, monkeypatch) -> Path:
    """A folder with `tiny.toml`, where runs are trained by the stand-in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", stand_in["PYTHONPATH"])
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "tiny.toml").write_text(FILE)
    return tmp_path


def states(out: Path) -> dict[str, list[str]]:
    folder = SweepFolder.open(out)
    found: dict[str, list[str]] = {}
    for entry in folder.entries:
        found.setdefault(entry.arm, []).append(folder.progress(entry).state)
    return found


def all_states() -> list[str]:
    return sorted(state for found in states(Path("runs/tiny")).values() for state in found)


def script(monkeypatch, **by_optimizer) -> None:
    monkeypatch.setenv("STAND_IN", json.dumps(by_optimizer))


def test_what_is_done_is_not_done_again(here, capsys) -> None:
    assert main(["sweep", "tiny.toml"]) == 0
    runs = sorted(path.name for path in Path("runs/tiny").iterdir() if path.is_dir())
    assert len(runs) == 4
    assert all(re.fullmatch(r"pqn-CartPole-v1-[12]-[0-9a-f]{10}", run) for run in runs)
    assert (here / "runs/tiny/sweep.toml").read_text() == FILE
    before = {run: (here / "runs/tiny" / run / "seen.json").stat().st_mtime_ns for run in runs}
    assert main(["sweep", "tiny.toml"]) == 0
    assert before == {run: (here / "runs/tiny" / run / "seen.json").stat().st_mtime_ns for run in runs}
    said = capsys.readouterr().out
    assert "4 of 4 runs done" in said
    assert "stablegrad report runs/tiny" in said


def test_a_grown_file_runs_what_is_new(here) -> None:
    assert main(["sweep", "tiny.toml"]) == 0
    Path("tiny.toml").write_text(FILE.replace("[1, 2]", "[1, 2, 3]"))
    assert main(["sweep", "tiny.toml"]) == 0
    assert states(Path("runs/tiny")) == {f"optimizer={name}": ["done"] * 3 for name in ("adam", "radam")}
    assert len(list(Path("runs/tiny").glob("pqn-*"))) == 6


def test_failures_stay_with_their_reason_until_they_are_retried(here, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # long lines are not broken: they hold paths
    script(monkeypatch, adam={"code": 1, "says": "error: no luck today"})
    assert main(["sweep", "tiny.toml"]) == 1
    assert states(Path("runs/tiny")) == {"optimizer=adam": ["failed"] * 2, "optimizer=radam": ["done"] * 2}
    said = capsys.readouterr().out
    assert (
        "failed: optimizer=adam · CartPole-v1 · seed 2: its process ended with exit code 1: error: no luck today (runs/"
        in said
    )
    script(monkeypatch, adam={"code": 1, "says": "error: again", "seconds": 3})
    assert main(["sweep", "tiny.toml", "--retry"]) == 1
    assert capsys.readouterr().out.count("error: again") == 4, "each is said when it fails again, and in the end"
    script(monkeypatch)
    assert main(["sweep", "tiny.toml"]) == 1, "nothing is retried unasked"
    assert main(["sweep", "tiny.toml", "--retry"]) == 0
    assert all_states() == ["done"] * 4


def test_a_time_budget_stops_cleanly_and_the_next_call_goes_on(here, monkeypatch, capsys) -> None:
    script(monkeypatch, radam={"seconds": 60})
    given = []

    def over_when_all_have_started(budget):
        given.append(budget)
        return lambda: len(list(Path("runs").glob("tiny/*/seen.json"))) == 4

    with monkeypatch.context() as patched:
        patched.setattr("stablegrad.commands.sweep.deadline", over_when_all_have_started)
        assert main(["sweep", "tiny.toml", "--time-budget", "3s", "--slots", "2"]) == 75
    assert given == [3.0]
    assert states(Path("runs/tiny")) == {"optimizer=adam": ["done", "done"], "optimizer=radam": ["stopped", "stopped"]}
    assert "the same command goes on from here" in capsys.readouterr().out
    script(monkeypatch)
    assert main(["sweep", "tiny.toml", "--time-budget", "1h"]) == 0


def test_one_command_runs_and_judges(here, capsys) -> None:
    assert main(["sweep", "tiny.toml", "--report"]) == 0
    page = Path("runs/tiny/report.html")
    assert f"report: {page}" in capsys.readouterr().out
    assert "2 arms" in page.read_text(encoding="utf-8")


def test_asked_to_stop_it_stops(here, monkeypatch) -> None:
    script(monkeypatch, adam={"seconds": 60}, radam={"seconds": 60})

    def ask() -> None:
        while len(list(Path("runs").glob("tiny/*/seen.json"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert main(["sweep", "tiny.toml", "--slots", "2"]) == 75
    asking.join()
    assert states(Path("runs/tiny"))["optimizer=adam"] == ["stopped", "waiting"]


def test_status_counts_and_names(here, monkeypatch, capsys) -> None:
    script(monkeypatch, adam={"code": 1, "says": "error: no luck today"})
    main(["sweep", "tiny.toml"])
    capsys.readouterr()
    assert main(["sweep", "status", "tiny.toml"]) == 0
    by_file = capsys.readouterr().out
    assert main(["sweep", "status", "runs/tiny"]) == 0
    assert capsys.readouterr().out == by_file
    assert "tiny: 2 of 4 runs done, 2 failed" in by_file
    assert re.search(r"optimizer=radam +2/2", by_file)
    assert "no luck today" in by_file


def test_a_run_whose_sweep_was_killed_counts_as_stopped_not_as_running(here) -> None:
    main(["sweep", "tiny.toml"])
    run = next(Path("runs/tiny").glob("pqn-*"))
    RunFolder(run).set_status("running", 100)
    assert all_states() == ["done"] * 3 + ["stopped"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--slots", "0"], "--slots 0: must be at least 1"),
        (["--slots", "1025"], "--slots 1025: must be at most 1024"),
        (["--runs_per_gpu", "1000000000000"], "--runs_per_gpu 1000000000000: must be at most 1024"),
        (["--time-budget", "40"], "write a time with its unit"),
        (["--time-budget", "9" * 400 + "d"], "write a time with its unit"),
        (["--gpus", "0"], 'needs device = "cuda"'),
        (["--gpus", "a"], "must be numbers of GPUs"),
        (["--address", "auto"], "--address needs --executor ray"),
        (["--executor", "ray", "--slots", "2"], "belong to the local pool"),
        (["--dryrun"], "unknown option --dryrun (did you mean 'dry_run'?)"),
    ],
)
def test_wrong_options_end_with_2_before_anything_is_made(here, capsys, options, said) -> None:
    assert main(["sweep", "tiny.toml", *options]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert said in message
    assert not Path("runs").exists()


def test_cells_that_no_memory_holds_are_refused_before_any_runs(here, capsys) -> None:
    """They failed one by one, each in its process, after what stood before them had been trained."""
    text = Path("tiny.toml").read_text()
    Path("huge.toml").write_text(text.replace("num_steps = 8\n", "") + "num_steps = [8, 100000000000]\n")
    assert main(["sweep", "huge.toml"]) == 2
    assert "num_steps=100000000000: this run would take at least" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_help_shows_examples(capsys) -> None:
    for command in (["sweep"], ["sweep", "status"], ["sweep", "presets"], ["sweep", "tune"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--help"])
        assert ended.value.code == 0
        assert "example:\n  stablegrad sweep" in capsys.readouterr().out
