"""The `[tune]` table of a sweep file, checked. Torch-free.

[tune]
trials = 20                             settings tried for each arm
seeds = [101, 102]                      none of the sweep's own `seeds`
metric = "train/episode_return"         of metrics.jsonl: its mean over the last tenth of a run; a trial's
goal = "maximize"                       value is the mean over its games and seeds
batch = 1                               trials that an arm has in flight at a time

[tune.space]
learning_rate = {low = 1e-5, high = 1e-2, log = true}
num_minibatches = {choices = [8, 16, 32]}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stablegrad.errors import UserError, nearest
from stablegrad.runs.reading import is_number
from stablegrad.settings import coerce
from stablegrad.sweeps.file import SweepFile

_KEYS = {"trials": int, "seeds": tuple[int, ...], "metric": str, "goal": Literal["maximize", "minimize"], "batch": int}
_RANGE_KEYS = ("low", "high", "log", "choices")


@dataclass(frozen=True)
class Space:
    """What is varied: ranges as (low, high, log), and choices, by setting."""

    ranges: Mapping[str, tuple[float, float, bool]]
    choices: Mapping[str, tuple[Any, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.ranges, *self.choices)

    def corners(self) -> Iterator[dict[str, Any]]:
        """Settings that hold every bound and every choice at least once: if they resolve, so does what is between."""
        axes = {**{name: (low, high) for name, (low, high, _) in self.ranges.items()}, **self.choices}
        for number in range(max(map(len, axes.values()))):
            yield {name: values[min(number, len(values) - 1)] for name, values in axes.items()}


@dataclass(frozen=True)
class TuneSpec:
    """The `[tune]` table, checked."""

    trials: int
    seeds: tuple[int, ...]
    space: Space
    metric: str = "train/episode_return"
    goal: Literal["maximize", "minimize"] = "maximize"
    batch: int = 1


def tune_spec(sweep: SweepFile) -> TuneSpec:
    """The sweep's `[tune]` table. Raises UserError with every problem at once, also where there is none."""
    if sweep.tune is None:
        raise UserError(f"sweep '{sweep.name}' has no [tune] table: it says what to search (docs/sweeps.md)")
    problems = [f"unknown key '{key}'{nearest(key, _KEYS)}" for key in sweep.tune if key not in (*_KEYS, "space")]
    values: dict[str, Any] = {}
    for key, annotation in _KEYS.items():
        if key in sweep.tune:
            try:
                values[key] = coerce(sweep.tune[key], annotation)
            except ValueError as error:
                problems.append(f"{key} {sweep.tune[key]!r}: {error}")
    for key in ("trials", "seeds"):
        if not sweep.tune.get(key):
            problems.append(f"{key} is missing")
    problems += [f"{key} must be at least 1" for key in ("trials", "batch") if values.get(key, 1) < 1]
    if shared := set(values.get("seeds", ())) & set(sweep.seeds):
        problems.append(f"seeds {sorted(shared)} also judge the arms: what is tuned on a seed looks too good on it")
    values["space"] = _space(sweep, sweep.tune.get("space"), problems)
    if problems:
        raise UserError([f"sweep '{sweep.name}', [tune]: {problem}" for problem in problems])
    return TuneSpec(**values)


def _space(sweep: SweepFile, table: Any, problems: list[str]) -> Space:
    if not isinstance(table, dict) or not table:
        problems.append("[tune.space] is missing: setting = {low = …, high = …}, or {choices = […]}")
        return Space({}, {})
    ranges, choices = {}, {}
    varied = set(sweep.grid).union(*(arm.grid for arm in sweep.arms))
    for name, entry in table.items():
        entry = {"choices": entry} if isinstance(entry, list) else entry
        if name in varied:
            problems.append(f"{name} is varied by a grid of the file: it cannot be tuned too")
        elif not isinstance(entry, dict) or (unknown := [key for key in entry if key not in _RANGE_KEYS]):
            wrong = f" '{unknown[0]}'" if isinstance(entry, dict) else ""
            problems.append(f"{name}{wrong}: write {{low = …, high = …, log = true}}, or {{choices = […]}}")
        elif isinstance(entry.get("choices"), list) and entry["choices"] and len(entry) == 1:
            choices[name] = tuple(entry["choices"])
        elif _is_range(entry):
            ranges[name] = (entry["low"], entry["high"], bool(entry.get("log", False)))
        else:
            problems.append(f"{name}: needs low < high (above 0 where log = true), or a list of choices")
    return Space(ranges, choices)


def _is_range(entry: Mapping[str, Any]) -> bool:
    low, high = entry.get("low"), entry.get("high")
    if not is_number(low) or not is_number(high):
        return False
    return low < high and (low > 0 or not entry.get("log", False))
