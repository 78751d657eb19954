"""`train`, `resume`, `fork`, `load_run`: what the command line calls, for notebooks and scripts."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from stablegrad.registry import absolute
from stablegrad.runs import checkpoint
from stablegrad.runs.config import RunConfig, section_types
from stablegrad.runs.files import read_lines
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.tree import misfit
from stablegrad.runs.trust import Trust, names_of
from stablegrad.supervised.classifier import Classifier
from stablegrad.supervised.seeds import (
    StackedTraining,
    Way,
    broke,
    members_of,
    record_members,
    seed_configs,
    unfinished,
)
from stablegrad.supervised.stacked import NotStackable
from stablegrad.supervised.training import SupervisedTraining
from stablegrad.training import fitting
from stablegrad.training.evaluate import POOL, Evaluation, evaluate
from stablegrad.training.fitting import StillLearns, still_learns
from stablegrad.training.loop import Training, build_agent
from stablegrad.training.memory import check_environments, check_learning
from stablegrad.training.recorder import Observer
from stablegrad.training.session import RunFailed, Session
from stablegrad.training.stop import StopRequest
from stablegrad.training.video import Video

log = logging.getLogger("stablegrad")

# A checkpoint of a small network; what an agent stores comes on top.
_MINIMUM_FREE_BYTES = 200_000_000


@dataclass(frozen=True)
class Run:
    """One run on disk. `trust` says which code that its config names may be imported (see `runs.trust`)."""

    path: Path
    trust: Trust = False

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.path, trust=self.trust)

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
        if self.config.env is None:
            raise UserError(f"{self.path} was trained on images and has no agent: see Run.classifier")
        return self._agent(self.state(path), learns=True)

    def _agent(self, state: Mapping[str, Any] | None, *, learns: bool = False) -> Agent:
        """The agent in this state of a run, or before its first step; only to play unless it `learns`."""
        assert self.config.env is not None, "what has an agent has an environment"
        check_environments(self.config.env, POOL)
        envs = make(self.config.env, num_envs=1, seed=0)  # for its spaces
        try:
            check_learning(self.config, envs.observation_space, envs.action_space, learns=learns)
            agent = build_agent(self.config, envs, learns=learns)
        finally:
            envs.close()
        if state is not None:
            agent.load_state_dict(state["agent"])
        return agent

    def evaluate(
        self,
        *,
        episodes: int,
        seed: int,
        epsilon: float | None = None,
        task: int | None = None,
        video: str | Path | None = None,
    ) -> Evaluation:
        """Play whole games with the newest checkpoint on environments of their own.

        `task` (from 1) is the one of a schedule, by default the one that the checkpoint stands at. `video` names a
        file (.mp4, .gif) for the first of the games.
        """
        state = self.state()
        agent = self._agent(state)
        assert self.config.env is not None, "what has an agent has an environment"
        tasks = len(self.config.env.task_schedule)
        if task is not None and not 1 <= task <= tasks:
            raise UserError(f"task {task}: {self.path} has {f'the tasks 1 to {tasks}' if tasks else 'no schedule'}")
        played = self._task(state["step"]) if task is None else task - 1
        with contextlib.ExitStack() as closing:
            film = None if video is None else Video(Path(video), self.config.env)
            if film is not None:
                closing.callback(film.close)
            result = evaluate(agent, self.config.env, episodes=episodes, seed=seed, epsilon=epsilon, task=played)
            if film is not None:
                film.write(result)
        return result

    def capacity(self, *, budget: int = fitting.BUDGET, inputs: int = fitting.INPUTS, seed: int = 0) -> StillLearns:
        """How fast a copy of the newest checkpoint's network fits random targets, beside the one the run began with.

        On `inputs` observations of games that the agent plays, or images of the current task; `budget` is in steps of
        Adam on all of them (see `diagnostics.capacity`).
        """
        if budget < 1 or inputs < 2:
            raise UserError("capacity needs a budget of at least 1 step and at least 2 inputs")
        if self.config.env is None:
            classifier = self.classifier()
            obs, fresh = classifier.probe_batch(inputs)["obs"], classifier.fresh_network(0).to(classifier.device)
            return still_learns(classifier.network, fresh, obs, budget=budget, seed=seed)
        state = self.state()
        agent, spec = self._agent(state), self.config.env
        obs = fitting.observations(agent, spec, count=inputs, seed=seed, task=self._task(state["step"]))
        group = fitting.reads_observations(agent, obs)
        module, began = (one.groups[group] for one in (agent, self._agent(None)))
        return still_learns(module, began, obs, budget=budget, seed=seed)

    def _task(self, step: int) -> int | None:
        """The task (from 0) that a checkpoint at `step` stands at; None without a schedule."""
        env, budget = self.config.env, self.config.budget
        assert env is not None, "what has an agent has an environment"
        assert budget is not None, "and steps to spend"
        return env.task_behind(step, num_envs=budget.num_envs)

    def classifier(self, path: Path | None = None) -> Classifier:
        """The classifier of a supervised run as a checkpoint holds it; `evaluate()` judges it on its current task."""
        if self.config.env is not None:
            raise UserError(f"{self.path} was not trained on images: see Run.agent")
        classifier = Classifier.build(self.config)
        classifier.load_state_dict(self.state(path)["agent"])
        return classifier


def load_run(path: str | Path, *, trust: Trust = False) -> Run:
    """An existing run. UserError when `path` is not one.

    Code that its config names (a user's own agent, environment, network) is imported only with `trust=True`, or where
    `trust` holds its name; without, what needs it raises UserError and imports nothing.
    """
    return Run(RunFolder.open(Path(path)).path, trust)


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
    if getattr(config.agent, "seeds", 1) > 1:
        raise UserError(f"--seeds {config.agent.seeds} are several runs: call train_seeds, which returns them all")
    path = Path(run_dir) if run_dir is not None else Path("runs") / config.name
    RunFolder.check_unused(path)

    def create(training: Session) -> RunFolder:
        _check_room(path, training)
        return RunFolder.create(path, config)

    return _run(config, create, observers)


def train_seeds(
    config: RunConfig | Mapping[str, Any],
    *,
    run_dir: str | Path | None = None,
    observers: Iterable[Observer] = (),
) -> list[Run]:
    """Train the seeds of a supervised config (its `seeds`) side by side, or in turn where they cannot be stacked.

    Each seed has a run folder: `run_dir/seed_<k>`, or its default name. Raises as `train` does.
    """
    if not isinstance(config, RunConfig):
        config = resolve(config)
    configs = seed_configs(config)
    root = None if run_dir is None else Path(run_dir)
    paths = [Path("runs") / one.name if root is None else root / f"seed_{one.run.seed}" for one in configs]
    for path in paths:
        RunFolder.check_unused(path, minimum_free_bytes=_MINIMUM_FREE_BYTES)

    def create(way: Way) -> list[RunFolder]:
        folders = [RunFolder.create(path, one) for path, one in zip(paths, configs, strict=True)]
        record_members(folders, way)
        return folders

    try:
        return _run_stacked(configs, lambda: create("side_by_side"), observers)
    except NotStackable as reason:
        log.warning("the seeds are trained in turn, not side by side: %s", reason)
    return _run_in_turn(create("in_turn"), observers)


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """The RunConfig of a flat mapping with its `algo`. UserError with every problem at once."""
    settings = dict(values)
    algo = settings.pop("algo", None)
    if algo is None:
        raise UserError(f"the config names no algo: one of {', '.join(AGENTS)}, or path/to/file.py:Name")
    return RunConfig.resolve(str(algo), settings)


def resume(path: str | Path, *, trust: Trust = False, observers: Iterable[Observer] = ()) -> Run:
    """Go on where a run stopped, with the seeds that it was trained with; a run that is done stays as it is.

    `trust` is as in `load_run`.
    A seed that broke is left out of its stack; RunFailed when it is the one that was asked for, behind the others.
    """
    folder = RunFolder.open(Path(path), trust=trust)
    if folder.status["state"] == "done":
        return Run(folder.path, trust)
    if members := members_of(folder.path, "side_by_side"):
        if together := unfinished(members, trust=trust):
            _run_stacked([member.config for member in together], lambda: together, observers)
    else:
        turns = unfinished(members_of(folder.path, "in_turn"), trust=trust)
        # The one that was asked for comes last: as long as it is not done, asking again finishes them all.
        _run_in_turn([*(other for other in turns if not other.path.samefile(folder.path)), folder], observers)
    if broke(folder):
        raise RunFailed(f"{folder.path}: {folder.status['reason']}")
    return Run(folder.path, trust)


def fork(
    path: str | Path,
    changes: Mapping[str, Any],
    *,
    run_dir: str | Path,
    checkpoint_path: Path | None = None,
    trust: Trust = False,
    observers: Iterable[Observer] = (),
) -> Run:
    """A new run that starts from a checkpoint of another, with some settings changed.

    Changed values are taken as used (a learning rate is not scaled again). What is in the checkpoint must fit
    the new settings: networks, storage and environments keep their shapes and numbers, and the optimizer its kind.
    UserError, and no folder, where it does not. `trust` is as in `load_run`; what `changes` name is trusted.
    """
    source = load_run(path, trust=trust is True or {*(trust or ()), *map(absolute, names_of(changes))})
    config = RunConfig.from_flat({**source.config.flat(), **changes})
    before, now = source.config.flat(), config.flat()
    problems = config.problems() + [
        f"--{name} {now[name]}: the checkpoint has the state of an optimizer with {before[name]}, which fits no other"
        for name in ("optimizer", "conv_view")
        if now[name] != before[name]
    ]
    if problems:
        raise UserError(problems)
    state = {**source.state(checkpoint_path), "config": now}
    end = AGENTS[config.algo].total_steps(**{name: getattr(config, name) for name in section_types(config.algo)})
    if end < state["step"]:
        raise UserError(
            f"the run would end at step {end:,}, and the checkpoint stands at {state['step']:,}: let it run longer, or"
            " name an earlier checkpoint with --step"
        )
    RunFolder.check_unused(Path(run_dir))

    def create(training: Session) -> RunFolder:
        _try_on(training, state, [f"--{name} {value}" for name, value in now.items() if value != before[name]])
        _check_room(Path(run_dir), training)
        folder = RunFolder.create(Path(run_dir), config)
        for record in ("metrics.jsonl", "episodes.jsonl", "evaluations.jsonl"):
            if (source.path / record).exists():
                shutil.copyfile(source.path / record, folder.path / record)
        checkpoint.save(folder.checkpoints, state["step"], state, keep=1)
        return folder

    return _run(config, create, observers)


def _try_on(training: Session, state: dict[str, Any], changed: Sequence[str]) -> None:
    """Let a training take over the state of one whose settings were others. UserError where it does not fit."""
    try:
        training.load_state_dict(state)
    except Exception as error:  # an agent may be anybody's, and refuse a state with anything
        if not changed:
            raise
        # What torch says of a module that does not fit is no sentence; what a replay or an environment says is one.
        reason = misfit(state["agent"], training.agent.state_dict()) if isinstance(error, RuntimeError) else None
        if reason is None:
            reason = f"{' '.join(line.strip() for line in str(error).splitlines()[:2])} ({type(error).__name__})"
        raise UserError(f"the checkpoint does not fit {', '.join(changed)}: {reason}") from error


def _check_room(path: Path, training: Session) -> None:
    """UserError where the disk of `path` has no room for one checkpoint at the end of the run."""
    RunFolder.check_unused(path, minimum_free_bytes=_MINIMUM_FREE_BYTES + training.agent.storage_bytes)


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


def _run(config: RunConfig, open_folder: Callable[[Session], RunFolder], observers: Iterable[Observer]) -> Run:
    """Build everything, and only then touch the folder: whatever is wrong with a config shows before."""
    check_device(config.run.device)
    factories(config.run.track)
    with _torch_settings(config), StopRequest() as stop:
        training = Training(config) if config.env is not None else SupervisedTraining(config)
        try:
            folder = open_folder(training)
            with folder.lock():
                mirrors = trackers(config.run.track, folder.path, config.flat())
                training.attach(folder, [*observers, *mirrors])
                training.run(stop)
        finally:
            training.close()
    return Run(folder.path, folder.trust)


def _run_stacked(
    configs: Sequence[RunConfig], open_folders: Callable[[], list[RunFolder]], observers: Iterable[Observer]
) -> list[Run]:
    """As `_run`, for runs that are trained side by side. Raises NotStackable before anything is touched."""
    first = configs[0].run
    check_device(first.device)
    factories(first.track)
    with _torch_settings(configs[0]), StopRequest() as stop, contextlib.ExitStack() as locks:
        training = StackedTraining(configs)
        try:
            folders = open_folders()
            for folder in folders:
                locks.enter_context(folder.lock())
            mirrors = [trackers(first.track, folder.path, folder.config.flat()) for folder in folders]
            training.attach(folders, [[*observers, *mirrors[0]], *mirrors[1:]])
            training.run(stop)
        finally:
            training.close()
    return [Run(folder.path, folder.trust) for folder in folders]


def _run_in_turn(folders: Sequence[RunFolder], observers: Iterable[Observer]) -> list[Run]:
    """Train in these folders, one after the other; when one is stopped, those behind it are too."""
    runs = [Run(folder.path, folder.trust) for folder in folders]
    for number, folder in enumerate(folders, 1):
        _go_on(folder, observers)
        if folder.status["state"] == "stopped":
            for waiting in folders[number:]:
                waiting.set_status("stopped", waiting.status["step"])
            break
    return runs


def _go_on(folder: RunFolder, observers: Iterable[Observer]) -> Run:
    """Train in a folder that exists, from its newest checkpoint."""
    return _run(folder.config, lambda training: folder, observers)


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
