"""`train`, `resume`, `fork`, `load_run`: what the command line calls, for notebooks and scripts."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stablegrad.agents import AGENTS
from stablegrad.errors import UserError
from stablegrad.integrations.trackers import check_trackers
from stablegrad.launch import Resumption, all_held, publish, run_in_turn, run_one, run_stacked
from stablegrad.registry import absolute
from stablegrad.run import Run, Unrecorded, load_run
from stablegrad.runs import checkpoint, files, records
from stablegrad.runs.config import RunConfig, section_types
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.tree import misfit
from stablegrad.runs.trust import Trust, names_of
from stablegrad.supervised.seeds import Way, broke, members_of, record_members, seed_configs, unfinished
from stablegrad.supervised.stacked import NotStackable
from stablegrad.training.recorder import Observer
from stablegrad.training.session import RunFailed, Session

__all__ = ["Run", "RunFailed", "Unrecorded", "fork", "load_run", "resolve", "resume", "train", "train_seeds"]

log = logging.getLogger("stablegrad")

# A checkpoint of a small network; what an agent stores comes on top.
_MINIMUM_FREE_BYTES = 200_000_000


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
    check_trackers(config.run.track)
    path = Path(run_dir) if run_dir is not None else Path("runs") / config.name
    RunFolder.check_unused(path)

    @contextlib.contextmanager
    def create(training: Session) -> Iterator[RunFolder]:
        _check_room(path, training)
        with RunFolder.creating(path, config) as folder:
            yield folder

    return run_one(config, create, observers)


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
    check_trackers(config.run.track)
    configs = seed_configs(config)
    root = None if run_dir is None else Path(run_dir)
    paths = [Path("runs") / one.name if root is None else root / f"seed_{one.run.seed}" for one in configs]
    for path in paths:
        RunFolder.check_unused(path, minimum_free_bytes=_MINIMUM_FREE_BYTES)

    @contextlib.contextmanager
    def create(way: Way) -> Iterator[list[RunFolder]]:
        with contextlib.ExitStack() as made:
            folders = [
                made.enter_context(RunFolder.creating(path, one)) for path, one in zip(paths, configs, strict=True)
            ]
            record_members(folders, way)
            yield folders

    try:
        return run_stacked(configs, lambda: create("side_by_side"), observers)
    except NotStackable as reason:
        log.warning("the seeds are trained in turn, not side by side: %s", reason)
    with create("in_turn") as folders:
        publish(folders)
    return run_in_turn(folders, observers)


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """The RunConfig of a flat mapping with its `algo`. UserError with every problem at once."""
    settings = dict(values)
    algo = settings.pop("algo", None)
    if algo is None:
        raise UserError(f"the config names no algo: one of {', '.join(AGENTS)}, or path/to/file.py:Name")
    return RunConfig.resolve(str(algo), settings)


def resume(
    path: str | Path,
    *,
    trust: Trust = False,
    observers: Iterable[Observer] = (),
    start_over: bool = False,
    accept_missing_rows: bool = False,
) -> Run:
    """Go on where a run stopped, with the seeds that it was trained with; a run that is done stays as it is.

    `trust` is as in `load_run`.
    A seed that broke is left out of its stack; RunFailed when it is the one that was asked for, after the others.
    `start_over` begins again at step 0, for the seeds that are trained side by side with this one too: what is there
    is moved into the folder's `superseded`. `accept_missing_rows` goes on although lines that the checkpoint counts
    are gone. UserError, with nothing changed, where there is nothing to go on from.
    """
    folder = RunFolder.open(Path(path), trust=trust)
    if folder.status["state"] == "done" and not start_over:
        return Run(folder.path, trust)
    options = Resumption(start_over=start_over, accept_missing_rows=accept_missing_rows)
    if members := members_of(folder.path, "side_by_side"):
        together = (
            [RunFolder.open(member, trust=trust) for member in members]
            if start_over
            else unfinished(members, trust=trust)
        )
        if together:
            run_stacked([member.config for member in together], lambda: all_held(together), observers, options=options)
    else:
        turns = unfinished(members_of(folder.path, "in_turn"), trust=trust)
        # The one that was asked for comes last: as long as it is not done, asking again finishes them all.
        others = [other for other in turns if not other.path.samefile(folder.path)]
        run_in_turn([*others, folder], observers, options=options)
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
    check_trackers(config.run.track)
    state = {**source.state(checkpoint_path), "config": now}
    end = AGENTS[config.algo].total_steps(**{name: getattr(config, name) for name in section_types(config.algo)})
    if end < state["step"]:
        raise UserError(
            f"the run would end at step {end:,}, and the checkpoint stands at {state['step']:,}: let it run longer, or"
            " name an earlier checkpoint with --step"
        )
    RunFolder.check_unused(Path(run_dir))

    cursors = state["recorder"]["cursors"]
    if missing := records.missing(source.path, cursors):
        raise UserError([f"{source.path}: {missing[0]}", *missing[1:], "put back what is missing, then fork"])

    @contextlib.contextmanager
    def create(training: Session) -> Iterator[RunFolder]:
        _try_on(training, state, [f"--{name} {value}" for name, value in now.items() if value != before[name]])
        _check_room(Path(run_dir), training)
        with RunFolder.creating(Path(run_dir), config) as folder:
            for name, cursor in zip(records.NAMES, cursors, strict=True):
                if cursor:
                    files.copy(source.path / name, folder.path / name, end=cursor)
            checkpoint.save(folder.checkpoints, state["step"], state, keep=1)
            yield folder

    return run_one(config, create, observers)


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
