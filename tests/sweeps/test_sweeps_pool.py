"""The local pool: slots, crashes that stay alone, stops that save, claims that keep hands off."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from stablegrad.errors import DONE, FAILED, STOPPED
from stablegrad.runs.files import read_json
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.locks import CLAIM, is_held
from stablegrad.sweeps import child, process
from stablegrad.sweeps.pool import LocalPool
from stablegrad.sweeps.progress import Progress, progress_of, seconds_left


def status(path: Path) -> dict:
    return RunFolder(path).status


def test_a_crash_takes_nobody_along_and_leaves_its_reason(scripted, stand_in) -> None:
    runs = {
        "good": scripted("good"),
        "shot": scripted("shot", kill=signal.SIGKILL),
        "wrong": scripted("wrong", code=1, says="some line\nerror: the disk is full\ntrailing words"),
        "silent": scripted("silent", code=3, says=""),
        "last": scripted("last"),
    }
    codes = LocalPool(2, environment=[stand_in]).run(runs.values())
    assert codes == {runs[name]: FAILED for name in ("shot", "wrong", "silent")} | {
        runs[name]: DONE for name in ("good", "last")
    }
    assert status(runs["shot"]) | {"time": 0} == {
        "state": "failed", "step": 3, "time": 0, "reason": "its process was killed by SIGKILL (out of memory?)",
    }  # fmt: skip
    assert status(runs["wrong"])["reason"] == "its process ended with exit code 1: error: the disk is full"
    assert status(runs["silent"])["reason"] == "its process ended with exit code 3"


def test_a_reason_is_not_taken_from_an_earlier_process(scripted, stand_in) -> None:
    run = scripted("run", code=1, says="")
    (run / "log.txt").write_text("error: of yesterday\n")
    LocalPool(1, environment=[stand_in]).run([run])
    assert "yesterday" not in status(run)["reason"]


def test_no_more_at_a_time_than_slots_and_each_gets_its_own_gpu(scripted, stand_in) -> None:
    runs = [scripted(f"run{number}", seconds=0.4) for number in range(4)]
    seen: list[int] = []
    pool = LocalPool(2, threads=3, environment=[{**stand_in, "CUDA_VISIBLE_DEVICES": gpu} for gpu in "01"])
    pool.run(runs, on_tick=lambda running: seen.append(len(running)))
    assert max(seen) == 2
    assert seen[-1] == 0
    facts = [json.loads((run / "seen.json").read_text()) for run in runs]
    assert {fact["gpu"] for fact in facts} == {"0", "1"}
    assert {fact["threads"] for fact in facts} == {"3"}


def test_the_next_run_is_asked_for_only_when_there_is_room(scripted, stand_in) -> None:
    asked: list[int] = []

    def runs():
        for number in range(3):
            asked.append(number)
            yield scripted(f"run{number}", seconds=30)

    LocalPool(1, environment=[stand_in]).run(runs(), stop=lambda: True)
    assert asked == [], "a stopped pool asks for nothing"
    started = time.monotonic()
    LocalPool(1, environment=[stand_in]).run(runs(), stop=lambda: time.monotonic() - started > 1.5)
    assert asked == [0]


def test_a_stop_lets_runs_save_and_leaves_the_rest(scripted, stand_in, monkeypatch) -> None:
    monkeypatch.setattr(process, "_PATIENCE_SECONDS", 2.0)
    soft, deaf, later = scripted("soft", seconds=60), scripted("deaf", seconds=60, deaf=True), scripted("later")
    both = lambda: all((run / "seen.json").exists() for run in (soft, deaf))  # noqa: E731
    codes = LocalPool(2, environment=[stand_in]).run([soft, deaf, later], stop=both)
    time.sleep(0.1)
    assert codes == {soft: STOPPED, deaf: STOPPED}
    assert status(soft)["step"] == 7, "it saved"
    assert read_json(deaf / "status.json")["state"] == "running", "it was killed, and could say nothing"
    assert status(deaf)["state"] == "stopped", "not failed: its last checkpoint stands"
    assert status(later)["state"] == "created"


def test_a_crash_behind_the_end_of_training_loses_nothing(scripted, stand_in) -> None:
    run = scripted("run", kill=signal.SIGKILL)
    RunFolder(run).set_status("done", 512)
    claimed = process.claim(run)
    assert claimed is not None
    started = process.RunProcess.start(run, claimed, threads=1, environment={**stand_in})
    while (run / "seen.json").exists() is False:
        time.sleep(0.02)
    RunFolder(run).set_status("done", 512)
    while (code := started.poll()) is None:
        RunFolder(run).set_status("done", 512)
        time.sleep(0.02)
    assert code == DONE


def test_what_somebody_else_is_at_work_on_is_waited_for_not_trained_twice(scripted, stand_in) -> None:
    theirs, free = scripted("theirs"), scripted("free")
    held = process.claim(theirs)
    assert held is not None
    assert is_held(theirs / CLAIM)

    def finish() -> None:
        time.sleep(1.0)
        RunFolder(theirs).set_status("done", 512)
        os.close(held)

    other = threading.Thread(target=finish)
    other.start()
    codes = LocalPool(1, environment=[stand_in]).run([theirs, free])
    other.join()
    assert codes == {theirs: DONE, free: DONE}
    assert not (theirs / "seen.json").exists(), "it was not started again"
    assert not is_held(theirs / CLAIM)


def test_a_claim_outlives_its_starter_as_long_as_the_process_lives(scripted, stand_in) -> None:
    run = scripted("run", seconds=60)
    claimed = process.claim(run)
    assert claimed is not None
    started = process.RunProcess.start(run, claimed, threads=1, environment={**stand_in})
    os.close(claimed)
    assert is_held(run / CLAIM), "the process inherited it"
    started._process.send_signal(signal.SIGKILL)
    started._process.wait()
    assert not is_held(run / CLAIM)
    assert started._process.stdin is not None
    started._process.stdin.close()


def test_the_real_process_stops_when_its_starter_is_gone(scripted) -> None:
    """Killing a sweep leaves no orphans: the process sees its standard input end."""
    run = scripted("run")
    command = ["python", "-c", "import stablegrad.sweeps.child as c, time, runpy\n"
               "runpy.run_module = lambda *a, **k: time.sleep(60)\nc.main('x')"]  # fmt: skip
    import sys

    alone = subprocess.Popen([sys.executable, *command[1:]], stdin=subprocess.PIPE)
    assert alone.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        alone.wait(1.0)
    alone.stdin.close()
    assert alone.wait() == STOPPED
    assert run.exists()


def test_a_folder_may_be_called_like_an_option(tmp_path, monkeypatch) -> None:
    """Runs in a folder `-` failed, all of them: its name was read as an option of the command that trains a run."""
    said = list[list[str]]()
    monkeypatch.setattr(child.runpy, "run_module", lambda *args, **rest: said.append(sys.argv))
    monkeypatch.setattr(child.threading, "Thread", lambda **rest: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(child.signal, "signal", lambda *args: None)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.chdir(tmp_path)
    child.main("-/run")
    assert said == [["stablegrad", "resume", f"{tmp_path}/-/run", "--quiet", "--trust"]]


def test_time_left_takes_each_shapes_own_speed() -> None:
    def at(state: str, step: int, seconds: float) -> Progress:
        return Progress(Path(), state, step, 100, {"step": step, "seconds": seconds})

    waiting = Progress(Path(), "waiting", 0, 100, {})
    runs = [("fast", at("done", 100, 10.0)), ("slow", at("running", 50, 50.0)), ("slow", waiting), ("fast", waiting)]
    assert seconds_left(runs, slots=1) == pytest.approx(50 * 1.0 + 100 * 1.0 + 100 * 0.1)
    assert seconds_left(runs, slots=2) == pytest.approx(100.0), "no shorter than the longest run"
    assert seconds_left([("fast", waiting)], slots=1) is None
    assert seconds_left(runs[:1], slots=1) == 0.0


def test_progress_is_read_from_the_folder(scripted) -> None:
    run = scripted("run")
    (run / "metrics.jsonl").write_text('{"step": 64, "seconds": 2.0}\n{"step": 96, "sec')
    folder = RunFolder(run)
    folder.set_status("running", 32)
    with folder.lock():
        now = progress_of(run)
    assert progress_of(run).state == "stopped", "nobody is at work on it any more"
    assert (now.state, now.step, now.total, now.seconds_per_step) == ("running", 64, 512, 2.0 / 64)
