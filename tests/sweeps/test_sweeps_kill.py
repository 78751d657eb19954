"""kill -9 of a sweep and of everything it started: finished runs stay, the rest goes on and ends the same."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from stablegrad.errors import UserError
from stablegrad.runs import checkpoint
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import read_json
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.locks import CLAIM, is_held
from stablegrad.sweeps.folder import SweepFolder
from stablegrad.training.loop import Training
from stablegrad.training.stop import StopRequest

FILE = """
name = "killed"
seeds = [1, 2]
[settings]
algo = "pqn"
env_id = "CartPole-v1"
num_envs = 4
num_steps = 8
num_minibatches = 2
mlp_width = 16
mlp_depth = 1
diagnostics = "off"
log_every = 256
checkpoint_every = 256
[[arms]]
name = "short"
total_timesteps = 64
[[arms]]
name = "long"
total_timesteps = 4096
"""


def sweep(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "stablegrad", "sweep", "killed.toml", "--slots", "1", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)


def started_by(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in tasks]


def final(folder: Path) -> dict:
    return checkpoint.load(checkpoint.paths(folder / "checkpoints")[0])


def run_of(out: Path, arm: str, seed: int) -> Path:
    folder = SweepFolder.open(out)
    return next(folder.run_path(entry) for entry in folder.entries if (entry.arm, entry.seed) == (arm, seed))


def started(folder: Path) -> tuple["subprocess.Popen[bytes]", Path]:
    """A sweep that is in the middle of its first long run, and that run's folder."""
    (folder / "killed.toml").write_text(FILE)
    process = sweep(folder)
    while process.poll() is None:
        time.sleep(0.05)
        with contextlib.suppress(UserError, StopIteration):
            long = run_of(folder / "runs/killed", "long", 1)
            at = RunFolder(long).status
            if at["state"] == "running" and at["step"] >= 512:
                return process, long
    raise AssertionError("the sweep ended before its long run was in the middle")


def test_killed_with_everything_and_started_again_it_ends_the_same(tmp_path) -> None:
    process, long = started(tmp_path)
    for doomed in (process.pid, *started_by(process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(doomed, signal.SIGKILL)
    process.wait()
    while is_held(long / CLAIM):  # until the last of them is gone
        time.sleep(0.05)
    short = run_of(tmp_path / "runs/killed", "short", 1)
    assert RunFolder(short).status["state"] == "done"
    finished = {path: path.stat().st_mtime_ns for path in short.rglob("*") if path.is_file() and path.name != "claim"}
    assert read_json(long / "status.json")["state"] == "running", "nobody was left to say that it stopped"
    assert RunFolder(long).status["state"] == "stopped", "and nobody is at work on it"
    assert 0 < RunFolder(long).status["step"] < 4096

    # The second seed's long run is beside the point here.
    (tmp_path / "killed.toml").write_text(FILE.replace("[1, 2]", "[1]"))
    assert sweep(tmp_path).wait() == 0
    assert finished == {path: path.stat().st_mtime_ns for path in finished}, "what is done is not touched again"
    assert RunFolder(long).status | {"time": 0} == {"state": "done", "step": 4096, "time": 0}

    straight = trained_straight(RunFolder(long).config, tmp_path / "straight")
    assert torch.equal(flat(final(straight.path)), flat(final(long)))
    assert not torch.equal(flat(final(long)), flat(final(short)))
    names = ("step", "update", "losses/loss", "train/episode_return")
    there, here = ([[row.get(name) for name in names] for row in run.rows()] for run in (straight, RunFolder(long)))
    assert there == here


def test_when_only_the_sweep_is_killed_its_runs_save_and_stop_by_themselves(tmp_path) -> None:
    process, long = started(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while is_held(long / CLAIM):  # as long as its process lives
        time.sleep(0.05)
    assert RunFolder(long).status["state"] == "stopped"


def trained_straight(config: RunConfig, path: Path) -> RunFolder:
    """The same run without any sweep and any stop, in this process."""
    folder = RunFolder.create(path, config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = Training(config)
    try:
        training.attach(folder, ())
        with StopRequest() as stop:
            training.run(stop)
    finally:
        training.close()
        torch.set_num_threads(threads)
    return folder


def flat(state: dict) -> torch.Tensor:
    """Every tensor of the agent in one vector."""
    found: list[torch.Tensor] = []

    def visit(node: object) -> None:
        if isinstance(node, torch.Tensor):
            found.append(node.flatten().double())
        elif isinstance(node, dict):
            for value in node.values():
                visit(value)
        elif isinstance(node, list | tuple):
            for value in node:
                visit(value)

    visit(state["agent"])
    return torch.cat(found)
