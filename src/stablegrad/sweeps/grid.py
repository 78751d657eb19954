"""A sweep file's cells: every combination, resolved to the run it stands for. Asked twice, done once."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablegrad.envs.ids import MINATAR_GAMES
from stablegrad.errors import UserError, nearest
from stablegrad.runs.config import RunConfig
from stablegrad.sweeps.file import MOST_CELLS, ArmEntry, SweepFile
from stablegrad.tables.suites import SUITES

_SEPARATOR = " · "
TASKS = ("env_id", "dataset")


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a sweep. `given` is what the file says of it; `arm` names the configuration without task and seed."""

    arm: str
    task: str
    seed: int
    given: Mapping[str, Any]
    config: RunConfig

    @property
    def label(self) -> str:
        return _SEPARATOR.join([self.arm, self.task, f"seed {self.seed}"])


@dataclass(frozen=True)
class Plan:
    """A sweep's cells in the order in which they are run, each configuration once.

    Seeds are the outermost loop: wherever a sweep is stopped, no arm is more than one seed ahead of another.
    `merged` says which cells turned out to be the same run as an earlier one.
    """

    name: str
    cells: tuple[Cell, ...]
    merged: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.task for cell in self.cells))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(cell.seed for cell in self.cells))

    @property
    def trackers(self) -> list[str]:
        """Whatever any run is to be mirrored to."""
        return list(dict.fromkeys(name for cell in self.cells for name in cell.config.run.track))

    @property
    def devices(self) -> set[str]:
        return {cell.config.run.device for cell in self.cells}

    @property
    def threads(self) -> int:
        """CPU threads of the run that has the most."""
        return max(cell.config.run.threads or 1 for cell in self.cells)


@dataclass(frozen=True)
class Combination:
    """A cell before it is resolved."""

    arm: str
    seed: int
    given: Mapping[str, Any]

    @property
    def label(self) -> str:
        task = [str(self.given[name]) for name in TASKS if name in self.given]
        return _SEPARATOR.join([self.arm, *task, f"seed {self.seed}"])


def expand(sweep: SweepFile, *, threads: int = 1) -> Plan:
    """The plan of a sweep; `threads` holds for the runs of a file that does not set it.

    Raises UserError with every problem of every cell at once, before anything is started.
    """
    problems: list[str] = []
    combinations = list(itertools.islice(kept(sweep, problems), MOST_CELLS + 1))
    if len(combinations) > MOST_CELLS:
        raise UserError(f"sweep '{sweep.name}' has more than {MOST_CELLS:,} cells: vary less, or in several sweeps")
    cells: dict[str, Cell] = {}
    merged: list[str] = []
    rejected: dict[str, list[str]] = {}
    for combination in combinations:
        try:
            cell = resolve(combination, threads=threads)
        except UserError as error:
            for problem in error.problems:
                rejected.setdefault(problem, []).append(combination.label)
            continue
        first = cells.setdefault(cell.config.identity, cell)
        if first is not cell:
            merged.append(f"{cell.label} is the same run as {first.label}")
    problems += [_where(labels) + problem for problem, labels in rejected.items()]
    if not combinations and not problems:
        problems.append("every cell is excluded: nothing is left to run")
    if problems:
        raise UserError([f"sweep '{sweep.name}': {problem}" for problem in problems])
    return Plan(sweep.name, tuple(cells.values()), tuple(merged))


def resolve(combination: Combination, *, threads: int) -> Cell:
    """The cell of a combination. Raises UserError with all that is wrong with it."""
    settings = dict(combination.given)
    algo = settings.pop("algo", None)
    if algo is None:
        raise UserError('no algo is named: write algo = "pqn" (or another) under [settings]')
    config = RunConfig.resolve(str(algo), {"threads": threads, **settings, "seed": combination.seed})
    if getattr(config.agent, "seeds", 1) > 1:
        raise UserError("seeds side by side belong to one command; here each seed is a run: list them in `seeds`")
    return Cell(combination.arm, config.subject, combination.seed, combination.given, config)


def combinations(sweep: SweepFile) -> Iterator[Combination]:
    """Every combination of seeds, grid, arms and their grids, in running order; exclusions are not looked at."""
    arms = sweep.arms or (ArmEntry(""),)
    for seed in sweep.seeds:
        for shared in _product(sweep.grid):
            for arm in arms:
                for own in _product(arm.grid):
                    given = {**sweep.settings, **shared, **arm.settings, **own}
                    varied = [f"{name}={value}" for name, value in {**own, **shared}.items() if name not in TASKS]
                    named = [arm.name] if arm.name else []
                    label = _SEPARATOR.join([*named, *varied]) or str(given.get("algo", sweep.name))
                    yield Combination(label, seed, given)


def _product(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    axes = [list(games_of(values)) if name == "env_id" else values for name, values in grid.items()]
    for values in itertools.product(*axes):
        yield dict(zip(grid, values, strict=True))


def games_of(values: Iterable[Any]) -> Iterator[Any]:
    """The values of `env_id` with suites replaced by their games."""
    for value in values:
        if value == "MinAtar":
            yield from (f"MinAtar/{game}" for game in MINATAR_GAMES)
        elif isinstance(value, str) and value in SUITES:
            yield from (f"{game}-v5" for game in SUITES[value])
        else:
            yield value


def _overlaps(sweep: SweepFile) -> list[str]:
    """Settings that two parts of the file both mean to decide."""
    problems = [
        f"[grid] varies {name}, which [settings] sets: say it once" for name in sweep.grid if name in sweep.settings
    ]
    for arm in sweep.arms:
        own = {**arm.settings, **arm.grid}
        problems += [
            f"arm '{arm.name}' sets {name}, which [grid] varies: say it once" for name in own if name in sweep.grid
        ]
        problems += [f"arm '{arm.name}' both sets and varies {name}" for name in arm.settings if name in arm.grid]
    return problems


def kept(sweep: SweepFile, problems: list[str]) -> Iterator[Combination]:
    """The combinations that no exclusion takes out; what is wrong with the file is added to `problems`."""
    problems += _overlaps(sweep)
    rules = [dict(rule) for rule in sweep.exclude]
    used = [False] * len(rules)
    named: set[str] = {"arm", "seed"}
    for combination in combinations(sweep):
        named.update(combination.given)
        facts = {**combination.given, "arm": combination.arm, "seed": combination.seed}
        matching = [number for number, rule in enumerate(rules) if rule and _matches(rule, facts)]
        for number in matching:
            used[number] = True
        if not matching:
            yield combination
    for number, rule in enumerate(rules):
        unknown = [f"'{name}'{nearest(name, named)}" for name in rule if name not in named]
        if unknown:
            problems.append(
                f"[[exclude]] entry {number + 1} names {', '.join(unknown)}, which no part of the file sets"
            )
        elif not used[number]:
            problems.append(f"[[exclude]] entry {number + 1} fits no cell: {rule}")


def _matches(rule: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether every entry of the rule holds; an arm is meant by its own name, whatever its grid adds to it."""
    for name, wanted in rule.items():
        choices = wanted if isinstance(wanted, list) else [wanted]
        if name == "arm":
            label = facts["arm"]
            if not any(label == choice or label.startswith(f"{choice}{_SEPARATOR}") for choice in choices):
                return False
        elif name not in facts or facts[name] not in choices:
            return False
    return True


def _where(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f"cell '{labels[0]}'{more}: "
