"""`train`, `resume`, `fork`, `load_run`: what the command line calls, for notebooks and scripts."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stablegrad.agents import AGENTS
from stablegrad.agents.base import Agent
from stablegrad.errors import UserError
from stablegrad.integrations.trackers import check_trackers
from stablegrad.launch import (
    Resumption,
    all_held,
    available_cores,
    check_device,
    publish,
    run_in_turn,
    run_one,
    run_stacked,
)
from stablegrad.registry import absolute, give, is_user_file, name_of
from stablegrad.run import Run, Unrecorded, load_run
from stablegrad.runs import checkpoint, files, records
from stablegrad.runs.config import RunConfig, section_types
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.reading import read_config
from stablegrad.runs.tree import misfit
from stablegrad.runs.trust import Trust, names_of
from stablegrad.supervised.seeds import Way, broke, members_of, record_members, seed_configs, unfinished
from stablegrad.supervised.stacked import NotStackable
from stablegrad.sweeps import file as sweep_file
from stablegrad.sweeps.folder import SweepFolder
from stablegrad.sweeps.grid import expand
from stablegrad.sweeps.memory import check_memory
from stablegrad.sweeps.pool import LocalPool
from stablegrad.training.recorder import Watcher
from stablegrad.training.session import RunFailed, Session
from stablegrad.training.stop import StopRequest

__all__ = [
    "Run",
    "RunFailed",
    "Unrecorded",
    "fork",
    "load_run",
    "resolve",
    "resume",
    "sweep",
    "train",
    "train_seeds",
]

log = logging.getLogger("stablegrad")

# A checkpoint of a small network; what an agent stores comes on top.
_MINIMUM_FREE_BYTES = 200_000_000


def train(
    config: RunConfig | Mapping[str, Any] | str | type[Agent],
    env: str | Callable[..., Any] | None = None,
    *,
    run_dir: str | Path | None = None,
    observers: Iterable[Watcher] = (),
    progress: bool = False,
    **settings: Any,
) -> Run:
    """Train from the start; returns when the run is done or was stopped (`Run.status` says which).

        run = train("pqn", "MinAtar/Breakout", total_timesteps=100_000, mlp_type="multiskip_residual", progress=True)

    The algorithm is a name (`pqn`, `ppo`, `dqn`, `rainbow`, `cifar`), `path/to/file.py:Name` or a class of your own;
    the environment an id, a class or a callable that returns a `gymnasium.Env`. `settings` are the flags of the command
    line, with the algorithm's defaults for the others. All of it may also be one mapping ({"algo": "pqn", "env_id":
    "MinAtar/Breakout", …}) or a RunConfig. `observers` are functions, called with every row of `Run.metrics`, or have
    the methods of `Observer`. The folder is ./runs/<algo>-<env>-<seed>-<hash> unless named.
    Raises UserError before anything starts, RunFailed when the training cannot go on.
    """
    config = _config(config, env, settings)
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

    with _shown(path, config, progress) as bars:
        return run_one(config, create, [*observers, *bars])


def _config(given: Any, env: Any, settings: Mapping[str, Any]) -> RunConfig:
    """The config that a call of `train` describes."""
    if isinstance(given, RunConfig):
        if env is not None or settings:
            raise UserError("a RunConfig says everything already: give it alone, or a mapping with further settings")
        return given
    values = (
        dict(given) if isinstance(given, Mapping) else {"algo": given if isinstance(given, str) else name_of(given)}
    )
    if env is not None:
        values["env_id"] = env
    values |= settings
    if "env_id" in values and not isinstance(values["env_id"], str):
        values["env_id"] = name_of(values["env_id"])
    return resolve(values)


@contextlib.contextmanager
def _shown(path: Path, config: RunConfig, progress: bool) -> Iterator[list[Watcher]]:
    """The observers that show how far a run is: the command line's, if asked for."""
    if not progress:
        yield []
        return
    from stablegrad.commands.progress import ProgressBar  # of the command line, and the same in a notebook

    with ProgressBar(path, config) as bar:
        yield [bar]


def train_seeds(
    config: RunConfig | Mapping[str, Any],
    *,
    run_dir: str | Path | None = None,
    observers: Iterable[Watcher] = (),
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
    env: Callable[..., Any] | None = None,
    trust: Trust = False,
    observers: Iterable[Watcher] = (),
    progress: bool = False,
    start_over: bool = False,
    accept_missing_rows: bool = False,
) -> Run:
    """Go on where a run stopped, with the seeds that it was trained with; a run that is done stays as it is.

    `trust` is as in `load_run`. `env` is the class or callable of an environment that no file has (a notebook's), where
    the session that gave it is over.
    A seed that broke is left out of its stack; RunFailed when it is the one that was asked for, after the others.
    `start_over` begins again at step 0, for the seeds that are trained side by side with this one too: what is there
    is moved into the folder's `superseded`. `accept_missing_rows` goes on although lines that the checkpoint counts
    are gone. UserError, with nothing changed, where there is nothing to go on from.
    """
    if env is not None:
        give(_environment_of(Path(path)), env)
    folder = RunFolder.open(Path(path), trust=trust)
    if folder.status["state"] == "done" and not start_over:
        return Run(folder.path, trust)
    with _shown(folder.path, folder.config, progress) as bars:
        _train_on(
            folder,
            [*observers, *bars],
            Resumption(start_over=start_over, accept_missing_rows=accept_missing_rows),
        )
    if broke(folder):
        raise RunFailed(f"{folder.path}: {folder.status['reason']}")
    return Run(folder.path, trust)


def _environment_of(path: Path) -> str:
    """The recorded name of a run's environment. UserError where there is none."""
    name = read_config(path).get("env_id")
    if not isinstance(name, str) or not is_user_file(name):
        raise UserError(f"{path} has no environment of your own to be given ({name or 'it was trained on images'})")
    return name


def _train_on(folder: RunFolder, observers: Sequence[Watcher], options: Resumption) -> None:
    """Train on in a folder, and in those of the seeds that are trained with it."""
    trust = folder.trust
    if members := members_of(folder.path, "side_by_side"):
        together = (
            [RunFolder.open(member, trust=trust) for member in members]
            if options.start_over
            else unfinished(members, trust=trust)
        )
        if together:
            run_stacked([member.config for member in together], lambda: all_held(together), observers, options=options)
    else:
        turns = unfinished(members_of(folder.path, "in_turn"), trust=trust)
        # The one that was asked for comes last: as long as it is not done, asking again finishes them all.
        others = [other for other in turns if not other.path.samefile(folder.path)]
        run_in_turn([*others, folder], observers, options=options)


def fork(
    path: Run | str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    at: float | None = None,
    run_dir: str | Path | None = None,
    trust: Trust = False,
    observers: Iterable[Watcher] = (),
    progress: bool = False,
    **more_changes: Any,
) -> Run:
    """A new run that starts from a checkpoint of another, with some settings changed.

        fork(run, at=0.5, learning_rate=1e-4)

    `at` is a step, or a share of the run (a float from 0 to 1): the newest checkpoint there or before is taken, and
    without it the newest of all. `changes`, as a mapping or by name, are taken as used (a learning rate is not scaled
    again). What is in the checkpoint must fit the new settings: networks, storage and environments keep their shapes
    and numbers, and the optimizer its kind. The folder is `<the run's>-fork-<n>` unless named.
    UserError, and no folder, where it does not fit. `trust` is as in `load_run`; what the changes name is trusted.
    """
    changes = {**(changes or {}), **more_changes}
    path, trust = (path.path, path.trust or trust) if isinstance(path, Run) else (Path(path), trust)
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
    state = {**source.state(None if at is None else _checkpoint_at(source, at)), "config": now}
    end = AGENTS[config.algo].total_steps(**{name: getattr(config, name) for name in section_types(config.algo)})
    if end < state["step"]:
        raise UserError(
            f"the run would end at step {end:,}, and the checkpoint stands at {state['step']:,}: let it run longer, or"
            " name an earlier checkpoint with --step"
        )
    new = Path(run_dir) if run_dir is not None else _unused(source.path)
    RunFolder.check_unused(new)

    cursors = state["recorder"]["cursors"]
    if missing := records.missing(source.path, cursors):
        raise UserError([f"{source.path}: {missing[0]}", *missing[1:], "put back what is missing, then fork"])

    @contextlib.contextmanager
    def create(training: Session) -> Iterator[RunFolder]:
        _try_on(training, state, [f"--{name} {value}" for name, value in now.items() if value != before[name]])
        _check_room(new, training)
        with RunFolder.creating(new, config) as folder:
            for name, cursor in zip(records.NAMES, cursors, strict=True):
                if cursor:
                    files.copy(source.path / name, folder.path / name, end=cursor)
            checkpoint.save(folder.checkpoints, state["step"], state, keep=1)
            yield folder

    with _shown(new, config, progress) as bars:
        return run_one(config, create, [*observers, *bars])


def _checkpoint_at(run: Run, at: float) -> Path:
    """The newest checkpoint at a step, or a share of the run, or before. UserError where there is none."""
    if isinstance(at, float) and not 0 <= at <= 1:
        raise UserError(f"at={at}: a share of the run is between 0.0 and 1.0, and a step a whole number")
    config = run.config
    total = AGENTS[config.algo].total_steps(**{name: getattr(config, name) for name in section_types(config.algo)})
    step = round(at * total) if isinstance(at, float) else at
    found = next((path for path in run.checkpoints if checkpoint.step_of(path) <= step), None)
    if found is None:
        known = ", ".join(f"{checkpoint.step_of(path):,}" for path in reversed(run.checkpoints)) or "none"
        raise UserError(
            f"{run.path} has no checkpoint at step {step:,} or before; it has {known} (--keep_checkpoints keeps more)"
        )
    if (there := checkpoint.step_of(found)) < step:
        log.warning("%s: forked at step %s, its newest checkpoint before %s", run.path, f"{there:,}", f"{step:,}")
    return found


def _unused(path: Path) -> Path:
    """The first `<path>-fork-<n>` that does not exist."""
    return next(new for n in itertools.count(1) if not (new := path.with_name(f"{path.name}-fork-{n}")).exists())


def sweep(file: str | Path, *, out: str | Path | None = None, slots: int | None = None, threads: int = 1) -> list[Run]:
    """Train every cell of a sweep file, `slots` at a time (by default one for each core), each on `threads` threads.

    Goes on where it was stopped if it is called again. Returns the runs in the order of the file; `Run.status` says
    which are done, stopped or failed. Their folder is ./runs/<the sweep's name> unless named. UserError before work.
    """
    path = Path(file)
    described = sweep_file.read(path)
    plan = expand(described, threads=threads)
    check_trackers(plan.trackers)
    for device in plan.devices:
        check_device(device)
    pool = LocalPool(slots or max(1, available_cores() // plan.threads), threads=threads)
    where = Path(out) if out is not None else Path("runs") / described.name
    check_memory(plan, where)
    folder = SweepFolder.create(where, plan, text=path.read_text(encoding="utf-8"), slots=pool.slots)
    with StopRequest() as stop:
        pool.run(folder.missing(plan, retry=False), stop=lambda: bool(stop))
    return [Run(folder.run_path(entry), True) for entry in folder.entries if folder.run_path(entry).exists()]


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
