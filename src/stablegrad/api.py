"""`train`, `resume`, `fork`, `load_run`: what the command line calls, for notebooks and scripts."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from stablegrad.agents import AGENTS
from stablegrad.agents.base import Agent
from stablegrad.envs import make
from stablegrad.errors import UserError
from stablegrad.integrations.trackers import factories, trackers
from stablegrad.runs import checkpoint
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import read_lines
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.training import SupervisedTraining
from stablegrad.training.evaluate import Evaluation, evaluate
from stablegrad.training.loop import Training, build_agent
from stablegrad.training.recorder import Observer
from stablegrad.training.stop import StopRequest

# A checkpoint of a small network; what a large replay buffer needs is checked by the agent itself.
_MINIMUM_FREE_BYTES = 200_000_000


@dataclass(frozen=True)
class Run:
    """One run on disk."""

    path: Path

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.path)

    @cached_property
    def config(self) -> RunConfig:
        return self.folder.config

    @property
    def status(self) -> dict[str, Any]:
        """{"state": created|running|done|stopped|failed, "step": n, …}."""
        return self.folder.status

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return self.folder.rows()

    @property
    def episodes(self) -> list[dict[str, Any]]:
        """One record for each game that ended in training."""
        return list(read_lines(self.folder.episodes))

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        return list(read_lines(self.folder.evaluations))

    @property
    def checkpoints(self) -> list[Path]:
        """Newest first."""
        return checkpoint.paths(self.folder.checkpoints)

    def state(self, path: Path | None = None) -> dict[str, Any]:
        """The state tree of a checkpoint (the newest valid one unless `path` names another)."""
        if path is not None:
            return checkpoint.load(path)
        problems: list[str] = []
        newest = checkpoint.load_newest(self.folder.checkpoints, warn=problems.append)
        if newest is None:
            raise UserError([f"{self.path} has no valid checkpoint yet", *problems])
        return newest.state

    def agent(self, path: Path | None = None) -> Agent:
        """The agent as a checkpoint holds it."""
        state = self.state(path)
        assert self.config.env is not None
        assert self.config.budget is not None
        envs = make(self.config.env, num_envs=1, seed=0)  # for its spaces
        try:
            agent = build_agent(self.config, envs)
        finally:
            envs.close()
        agent.load_state_dict(state["agent"])
        return agent

    def evaluate(self, *, episodes: int, seed: int, epsilon: float | None = None) -> Evaluation:
        """Play whole games with the newest checkpoint on environments of their own."""
        assert self.config.env is not None
        return evaluate(self.agent(), self.config.env, episodes=episodes, seed=seed, epsilon=epsilon)


def load_run(path: str | Path) -> Run:
    """An existing run. UserError when `path` is not one."""
    return Run(RunFolder.open(Path(path)).path)


def train(
    config: RunConfig | Mapping[str, Any],
    *,
    run_dir: str | Path | None = None,
    observers: Iterable[Observer] = (),
) -> Run:
    """Train from the start; returns when the run is done or was stopped (`Run.status` says which).

    `config` is a RunConfig, or its flat form: {"algo": "pqn", "env_id": "MinAtar/Breakout", …}, where what is
    not given takes the algorithm's default. The folder is ./runs/<algo>-<env>-<seed>-<hash> unless named.
    Raises UserError before anything starts, RunFailed when the training cannot go on.
    """
    if not isinstance(config, RunConfig):
        config = resolve(config)
    path = Path(run_dir) if run_dir is not None else Path("runs") / config.name
    RunFolder.check_unused(path, minimum_free_bytes=_MINIMUM_FREE_BYTES)
    return _run(config, lambda: RunFolder.create(path, config), observers)


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """The RunConfig of a flat mapping with its `algo`. UserError with every problem at once."""
    settings = dict(values)
    algo = settings.pop("algo", None)
    if algo is None:
        raise UserError(f"the config names no algo: one of {', '.join(AGENTS)}, or path/to/file.py:Name")
    return RunConfig.resolve(str(algo), settings)


def resume(path: str | Path, *, observers: Iterable[Observer] = ()) -> Run:
    """Go on where a run stopped; a run that is done stays as it is."""
    folder = RunFolder.open(Path(path))
    config = folder.config
    if folder.status["state"] == "done":
        return Run(folder.path)
    return _run(config, lambda: folder, observers)


def fork(
    path: str | Path,
    changes: Mapping[str, Any],
    *,
    run_dir: str | Path,
    checkpoint_path: Path | None = None,
    observers: Iterable[Observer] = (),
) -> Run:
    """A new run that starts from a checkpoint of another, with some settings changed.

    Changed values are taken as used (a learning rate is not scaled again). What is in the checkpoint must fit
    the new settings: the networks cannot change their shapes.
    """
    source = load_run(path)
    state = source.state(checkpoint_path)
    config = RunConfig.from_flat({**source.config.flat(), **changes})
    RunFolder.check_unused(Path(run_dir), minimum_free_bytes=_MINIMUM_FREE_BYTES)

    def create() -> RunFolder:
        folder = RunFolder.create(Path(run_dir), config)
        for record in ("metrics.jsonl", "episodes.jsonl", "evaluations.jsonl"):
            if (source.path / record).exists():
                shutil.copyfile(source.path / record, folder.path / record)
        checkpoint.save(folder.checkpoints, state["step"], {**state, "config": config.flat()}, keep=1)
        return folder

    return _run(config, create, observers)


def check_device(device: str) -> None:
    """UserError when `device` is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: this torch sees no CUDA device; leave --device out to train on the CPU")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: cpu and cuda are supported")


def _run(config: RunConfig, open_folder: Callable[[], RunFolder], observers: Iterable[Observer]) -> Run:
    """Build everything, and only then touch the folder: whatever is wrong with a config shows before."""
    check_device(config.run.device)
    factories(config.run.track)
    with _torch_settings(config), StopRequest() as stop:
        training = Training(config) if config.env is not None else SupervisedTraining(config)
        try:
            folder = open_folder()
            with folder.lock():
                mirrors = trackers(config.run.track, folder.path, config.flat())
                training.attach(folder, [*observers, *mirrors])
                training.run(stop)
        finally:
            training.close()
    return Run(folder.path)


@contextlib.contextmanager
def _torch_settings(config: RunConfig) -> Iterator[None]:
    """Threads and matmul precision are process-wide in torch: set for the run, put back behind it."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(config.run.threads or available_cores())
    torch.set_float32_matmul_precision(config.run.matmul_precision)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
