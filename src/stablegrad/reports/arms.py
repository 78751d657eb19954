"""Runs grouped into arms (all the seeds of one configuration) and tasks (games)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from stablegrad.errors import UserError, nearest
from stablegrad.reports.load import RunRecord
from stablegrad.reports.names import HEADLINE, frozen, labels, name_of, order, rank, show, size
from stablegrad.tables.games import find

# What says where and how a run was kept, watched and measured, not what was trained.
BOOKKEEPING = frozenset({
    "seed", "run_dir", "device", "threads", "track", "checkpoint_every", "keep_checkpoints", "log_every",
    "diagnostics", "diagnostics_every", "diagnostics_batch", "eval_every", "eval_episodes", "data_dir", "download",
    "check_bounds",
})  # fmt: skip
TASK_KEYS = ("env_id", "dataset")
SIZE_KEYS = ("mlp_depth", "mlp_width")


@dataclass(frozen=True, slots=True)
class Arm:
    """All runs of one configuration, by task and seed; `tasks[i]` is the task of `runs[i]`.

    `settings` are those in which the arms of the study differ.
    """

    label: str
    settings: dict[str, Any]
    runs: tuple[RunRecord, ...]
    tasks: tuple[str, ...]

    def on(self, task: str) -> tuple[RunRecord, ...]:
        """The arm's runs on one task, by seed."""
        return tuple(run for run, its in zip(self.runs, self.tasks, strict=True) if its == task)


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that a report compares. `games` maps tasks to games, which are the same unless tasks are strata."""

    arms: tuple[Arm, ...]
    games: dict[str, str]
    varying: tuple[str, ...]
    shared: dict[str, Any]
    by_task: tuple[str, ...]
    """Settings that follow from the game alone (its action set, say) and therefore tell no arms apart."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.games)

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        return tuple(run for arm in self.arms for run in arm.runs)


def game_of(run: RunRecord) -> str:
    """The game or data set of a run: an Atari game by its plain name, a schedule as one, others by their id.

    A game whose switches are set is another game, without a human score.
    """
    if schedule := run.config.get("task_schedule"):
        return f"{len(schedule)} tasks from {schedule[0]} on"
    for key in TASK_KEYS:
        if run.config.get(key):
            game = find(str(run.config[key]))
            switches = [f"+{name}:{run.config[name]}" for name in ("mode", "difficulty") if _is_set(run, name)]
            return "".join([game.name if game is not None else str(run.config[key]), *switches])
    return "task"


def _is_set(run: RunRecord, name: str) -> bool:
    return run.config.get(name) is not None


def study(runs: Sequence[RunRecord], *, strata: Sequence[str] = ()) -> Study:
    """Group runs into arms; raises UserError when there is no run.

    Settings in `strata` (network size, say) tell no arms apart: they are part of the task, so that arms are compared
    at each of their values and judged over all.
    """
    if not runs:
        raise UserError("there is no run to report on")
    skipped = BOOKKEEPING | {*TASK_KEYS, *strata}
    keys = list(dict.fromkeys(key for run in runs for key in run.config if key not in skipped))
    columns = {key: [frozen(run.config.get(key)) for run in runs] for key in keys}
    tasks = [_task(run, strata) for run in runs]
    differing = [key for key in keys if len(set(columns[key])) > 1]
    by_task = tuple(key for key in differing if key not in HEADLINE and _follows(columns[key], tasks))
    varying = tuple(sorted((key for key in differing if key not in by_task), key=rank))
    groups: dict[tuple[str, ...], list[int]] = {}
    for number in range(len(runs)):
        groups.setdefault(tuple(columns[key][number] for key in varying), []).append(number)
    members = [sorted(numbers, key=lambda n: (tasks[n], runs[n].seed)) for numbers in groups.values()]
    members.sort(key=lambda numbers: [order(key, runs[numbers[0]].config.get(key)) for key in varying])
    settings = [{key: runs[numbers[0]].config.get(key) for key in varying} for numbers in members]
    named = zip(labels(settings, varying, runs[0].config), settings, members, strict=True)
    by_size = sorted(range(len(runs)), key=lambda n: (game_of(runs[n]), [_size(runs[n], key) for key in strata]))
    return Study(
        arms=tuple(
            Arm(label, its, tuple(runs[n] for n in numbers), tuple(tasks[n] for n in numbers))
            for label, its, numbers in named
        ),
        games={tasks[n]: game_of(runs[n]) for n in by_size},
        varying=varying,
        shared={key: runs[0].config.get(key) for key in keys if key not in differing},
        by_task=by_task,
    )


def families(compared: Study) -> dict[str, list[Arm]]:
    """Arms that differ in network size only, by the label that they share; families of one size are left out."""
    rest = [key for key in compared.varying if key not in SIZE_KEYS]
    members: dict[tuple[str, ...], list[Arm]] = {}
    for arm in compared.arms:
        members.setdefault(tuple(frozen(arm.settings[key]) for key in rest), []).append(arm)
    settings = [{key: arms[0].settings[key] for key in rest} for arms in members.values()]
    named = zip(labels(settings, rest, compared.arms[0].runs[0].config), members.values(), strict=True)
    return {label: arms for label, arms in named if len(arms) > 1}


def pooled_over_sizes(compared: Study) -> Study | None:
    """The families as arms and every (game, size) as a task; None without two families of the full grid."""
    members = families(compared)
    full = max(map(len, members.values()), default=0)
    chosen = [arms for arms in members.values() if len(arms) == full]
    if len(chosen) < 2:
        return None
    return study([run for arms in chosen for arm in arms for run in arm.runs], strata=SIZE_KEYS)


def choose_baseline(arms: Sequence[Arm], wanted: str | None = None) -> Arm:
    """The arm that others are compared with.

    `wanted` is a label or an unambiguous part of one (UserError otherwise). By default the first arm with a plain
    trunk and another optimizer than Kron, or the first of all.
    """
    if wanted is None:
        return next(filter(_is_plain, arms), arms[0])
    fitting = _fitting(arms, wanted)
    if len(fitting) == 1:
        return fitting[0]
    known_labels = [arm.label for arm in arms]
    known = "; ".join(known_labels[:12]) + ("; …" if len(known_labels) > 12 else "")
    if fitting:
        raise UserError(f"baseline '{wanted}' fits {len(fitting)} arms; the arms are: {known}")
    raise UserError(f"no arm is called '{wanted}'{nearest(wanted, known_labels)}; the arms are: {known}")


def choose_baselines(compared: Study, pooled: Study, wanted: str | None = None) -> tuple[Arm, Arm]:
    """The baseline among single sizes and the one among arms pooled over sizes.

    A label of the pooled arms names its smallest network among the single ones.
    """
    over_sizes = _fitting(pooled.arms, wanted) if wanted is not None else []
    if len(over_sizes) == 1:
        members = {id(run) for run in over_sizes[0].runs}
        return next(arm for arm in compared.arms if id(arm.runs[0]) in members), over_sizes[0]
    single = choose_baseline(compared.arms, wanted)
    family = [arm for arm in pooled.arms if any(run is single.runs[0] for run in arm.runs)]
    return single, family[0] if family else choose_baseline(pooled.arms)


def _fitting(arms: Sequence[Arm], wanted: str) -> list[Arm]:
    """The arm of this label, or those of which it is a part."""
    exact = [arm for arm in arms if arm.label.lower() == wanted.lower()]
    return exact or [arm for arm in arms if wanted.lower() in arm.label.lower()]


def duplicates(arm: Arm, among: Collection[RunRecord]) -> int:
    """How many of the arm's runs `among` these repeat the seed of another on its task: they are no new evidence."""
    wanted = {id(run) for run in among}
    seeds = [(task, run.seed) for task, run in zip(arm.tasks, arm.runs, strict=True) if id(run) in wanted]
    return len(seeds) - len(set(seeds))


def _task(run: RunRecord, strata: Sequence[str]) -> str:
    return ", ".join([game_of(run), *(f"{name_of(key)} {show(key, run.config.get(key))}" for key in strata)])


def _size(run: RunRecord, key: str) -> float:
    return size(key, run.config.get(key))


def _is_plain(arm: Arm) -> bool:
    config = arm.runs[0].config
    return config.get("mlp_type", "default") == "default" and config.get("optimizer") != "kron"


def _follows(column: list[str], tasks: list[str]) -> bool:
    """Whether a setting has one value a task, on more than one task."""
    by_task: dict[str, set[str]] = {}
    for task, value in zip(tasks, column, strict=True):
        by_task.setdefault(task, set()).add(value)
    return len(by_task) > 1 and all(len(values) == 1 for values in by_task.values())
