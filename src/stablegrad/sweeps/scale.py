"""Shrinking a sweep to what a machine can do in some hours, keeping its shape, and saying what was given up.

The shape are the arms and the grid of networks: they stay. What gives way, in this order:

1. steps of a run, down to LEAST_FRACTION of the file's;
2. games, to the next smaller published suite (Atari-57, -10, -5, -3, -1), or to the first of a list;
3. seeds, one after the other from the back.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig, known_fields
from stablegrad.sweeps.calibrate import Price, estimate
from stablegrad.sweeps.cost import shape_of
from stablegrad.sweeps.file import ArmEntry, SweepFile
from stablegrad.sweeps.grid import Plan, expand, games_of
from stablegrad.sweeps.presets import with_settings
from stablegrad.tables.suites import SUITES

LEAST_FRACTION = 0.02
_SUITES = ("Atari-57", "Atari-10", "Atari-5", "Atari-3", "Atari-1")
_LENGTHS = ("total_timesteps", "epochs")

_SMOKE_WIDTHS: Mapping[Any, int] = {"small": 16, "medium": 24, "large": 32, "xlarge": 64}

# One or two updates of each algorithm: enough to go through everything, too little to learn anything.
_SMOKE: Mapping[str, Any] = {
    "total_timesteps": 64,
    "cnn_size": 4,
    "num_envs": 2,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 1,
    "learning_starts": 32,
    "buffer_size": 256,
    "batch_size": 8,
    "diagnostics_batch": 8,
    "eval_episodes": 1,
    "epochs": 5,
    "subset": 16,
    "dataset": "textures",
}


@dataclass(frozen=True)
class Shrunk:
    """`given_up` has a sentence for everything that is less than in the original; `hours` of wall-clock time."""

    sweep: SweepFile
    hours: float
    given_up: tuple[str, ...]


def shrink(sweep: SweepFile, prices: Mapping[str, Price], *, hours: float, slots: int) -> Shrunk:
    """The largest version of `sweep` that `slots` runs at a time finish within `hours`; `prices` are by shape.

    Raises UserError when even the smallest one takes longer.
    """
    if any(math.isnan(price.step) for price in prices.values()):
        raise UserError("not one step could be measured in that time: give --calibration more")
    seconds = hours * 3600 * slots
    for candidate in _smaller(sweep):
        plan = expand(candidate)
        fraction = _fraction_that_fits(plan, prices, seconds)
        if fraction >= LEAST_FRACTION:
            break
    else:
        raise UserError(
            f"{hours:g} hours do not hold even the smallest version of '{sweep.name}': one game, one seed and"
            f" {LEAST_FRACTION:.0%} of its steps take {_hours(plan, prices, LEAST_FRACTION, slots):.1f} hours here"
        )
    fraction = min(1.0, fraction)
    shrunk = candidate
    for name in _LENGTHS:
        shrunk = _with_each(shrunk, name, lambda length: max(1, round(length * fraction)))
    given_up = tuple(_given_up(sweep, shrunk))
    if given_up:
        shrunk = dataclasses.replace(shrunk, name=f"{sweep.name}_{hours:g}h", notes=(*sweep.notes, *given_up))
    return Shrunk(shrunk, _hours(plan, prices, fraction, slots), given_up)


def smoke(sweep: SweepFile) -> SweepFile:
    """The smallest version that still runs every arm and depth: one game, one seed, narrow, an update or two."""
    if "algo" in sweep.settings:
        sweep = with_settings(sweep, _smoke_settings(str(sweep.settings["algo"])))
    arms = tuple(
        ArmEntry(arm.name, {**arm.settings, **_smoke_settings(str(arm.settings["algo"]))}, arm.grid)
        if "algo" in arm.settings
        else arm
        for arm in sweep.arms
    )
    games = sweep.grid.get("env_id")
    sweep = _with_games(sweep, None if games is None else _first_game(games))
    notes = (*sweep.notes, "smoke: an update or two of a narrow network shows that everything runs, and nothing else")
    sweep = dataclasses.replace(sweep, name=f"{sweep.name}_smoke", seeds=sweep.seeds[:1], arms=arms, notes=notes)
    return _with_each(sweep, "mlp_width", lambda width: _SMOKE_WIDTHS.get(width, width))


def _smoke_settings(algo: str) -> dict[str, Any]:
    known = known_fields(algo)
    return {name: value for name, value in _SMOKE.items() if name in known}


def _smaller(sweep: SweepFile) -> Iterator[SweepFile]:
    """The sweep with ever fewer games, then with ever fewer seeds."""
    games = list(_fewer_games(sweep.grid.get("env_id")))
    for chosen in games:
        yield _with_games(sweep, chosen)
    for count in range(len(sweep.seeds) - 1, 0, -1):
        yield dataclasses.replace(_with_games(sweep, games[-1]), seeds=sweep.seeds[:count])


def _fewer_games(games: Sequence[Any] | None) -> Iterator[Sequence[Any] | None]:
    yield games
    if games is None:
        return
    if len(games) == 1 and games[0] in _SUITES:
        yield from ([suite] for suite in _SUITES[_SUITES.index(games[0]) + 1 :])
    elif len(list(games_of(games))) > 1:
        yield _first_game(games)


def _first_game(games: Sequence[Any]) -> list[Any]:
    """The game that stands for an Atari suite best, or the first of others."""
    return list(games_of(["Atari-1"] if games[0] in SUITES else games))[:1]


def _with_games(sweep: SweepFile, games: Sequence[Any] | None) -> SweepFile:
    return sweep if games is None else dataclasses.replace(sweep, grid={**sweep.grid, "env_id": games})


def _fraction_that_fits(plan: Plan, prices: Mapping[str, Price], seconds: float) -> float:
    """The fraction of every run's steps that `seconds` of work hold: the rest of a run's time stays as it is."""
    fixed = sum(_fixed_seconds(cell.config, prices) for cell in plan.cells)
    whole = sum(estimate(cell.config, prices[shape_of(cell.config)]).seconds for cell in plan.cells)
    return (seconds - fixed) / (whole - fixed)


def _fixed_seconds(config: RunConfig, prices: Mapping[str, Price]) -> float:
    """Start-up and diagnostics, whose number follows the length of a run."""
    price = prices[shape_of(config)]
    whole = estimate(config, price).seconds
    without_steps = estimate(config, dataclasses.replace(price, step=0.0)).seconds
    return min(whole, without_steps)


def _hours(plan: Plan, prices: Mapping[str, Price], fraction: float, slots: int) -> float:
    total = 0.0
    for cell in plan.cells:
        fixed = _fixed_seconds(cell.config, prices)
        total += fixed + fraction * (estimate(cell.config, prices[shape_of(cell.config)]).seconds - fixed)
    return total / slots / 3600


def _with_each(sweep: SweepFile, name: str, change: Callable[[Any], Any]) -> SweepFile:
    """The sweep with every value of one setting changed, wherever the file states it."""

    def fixed(table: Mapping[str, Any]) -> dict[str, Any]:
        return {key: change(value) if key == name else value for key, value in table.items()}

    def varied(grid: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        return {key: [change(value) for value in values] if key == name else values for key, values in grid.items()}

    arms = tuple(ArmEntry(arm.name, fixed(arm.settings), varied(arm.grid)) for arm in sweep.arms)
    return dataclasses.replace(sweep, settings=fixed(sweep.settings), grid=varied(sweep.grid), arms=arms)


def _given_up(before: SweepFile, after: SweepFile) -> Iterator[str]:
    tables = [(before.settings, after.settings)]
    tables += [(old.settings, new.settings) for old, new in zip(before.arms, after.arms, strict=True)]
    lengths = {(name, old[name], new[name]) for old, new in tables for name in _LENGTHS if name in old}
    for name, old, new in sorted(lengths):
        if new < old:
            yield f"{name}: {old:,} -> {new:,} ({new / old:.1%}); schedules that are fractions of a run shrink with it"
    old_games, new_games = (len(list(games_of(sweep.grid.get("env_id", ())))) for sweep in (before, after))
    if new_games < old_games:
        yield f"games: {old_games} -> {new_games} ({', '.join(map(str, after.grid['env_id']))})"
    if len(after.seeds) < len(before.seeds):
        few = "; with fewer than 3 no interval means much" if len(after.seeds) < 3 else ""
        yield f"seeds: {len(before.seeds)} -> {len(after.seeds)}{few}"
