"""A run's own record as the doctor reads it: columns of numbers, finished games, and what was asked for.

Only files are read, so a run can be examined years later, while it is still training, or when it was written by
somebody else's code (`stablegrad.integrations`).
"""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablegrad.runs.files import read_lines
from stablegrad.runs.reading import is_number, read_config, read_status

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]

VALUES = ("losses/q_values", "losses/values")
TARGETS = ("losses/targets_mean", "losses/targets")


@dataclass(frozen=True)
class Series:
    """`values [n]` at `steps [n]`, ascending; never empty."""

    steps: Steps
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def since(self, step: float) -> "Series":
        """The part from `step` on; the last point where nothing is that late."""
        first = min(int(np.searchsorted(self.steps, step)), len(self) - 1)
        return Series(self.steps[first:], self.values[first:])

    def finite(self) -> "Series | None":
        """Without NaN and infinity; None when nothing is left."""
        kept = np.isfinite(self.values)
        return Series(self.steps[kept], self.values[kept]) if kept.any() else None


@dataclass(frozen=True)
class Signals:
    """One run. `series` is by metric name; `games` are the scores of finished training games, or None."""

    path: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    series: Mapping[str, Series]
    games: Series | None

    @classmethod
    def read(cls, path: Path) -> "Signals":
        """The record in a run's folder. UserError when there is none, or it has no readable config."""
        config = read_config(path)
        return cls(path, config, read_status(path), columns(read_lines(path / "metrics.jsonl")), games_of(path))

    @property
    def last_step(self) -> int:
        """The last step that left a trace."""
        logged = [int(series.steps[-1]) for series in self.series.values()]
        return max([*logged, int(self.status.get("step", 0))], default=0)

    @property
    def budget(self) -> int:
        """The steps that the run was to make; those it made where its config does not say."""
        return int(self.config.get("total_timesteps") or self.last_step)

    @property
    def groups(self) -> tuple[str, ...]:
        """The parameter groups that the run's metrics are told apart by; none where it has a single one."""
        begins, ends = "gradients/raw/", ".total"
        return tuple(n[len(begins) : -len(ends)] for n in self.series if n.startswith(begins) and n.endswith(ends))

    def of_group(self, group: str) -> "Signals":
        """The same run with the metrics of one group alone, under the names that they have in a run with one group.

        What no group owns (losses, scores, the norm of the gradient of all) is left out.
        """
        begins, own = f"{group}.", {}
        for name, series in self.series.items():
            family, slash, last = name.rpartition("/")
            if last.startswith(begins):
                own[f"{family}{slash}{last.removeprefix(begins)}"] = series
        return replace(self, series=own)

    def get(self, *names: str) -> Series | None:
        """The first of these metrics that was logged, without what is not finite."""
        for name in names:
            if name in self.series:
                return self.series[name].finite()
        return None

    def layers(self, family: str) -> dict[str, Series]:
        """Layer -> series of a per-layer family (`gradients/raw`), in the order of the network."""
        prefix = f"{family}/"
        found = {
            name.removeprefix(prefix): series.finite()
            for name, series in self.series.items()
            if name.startswith(prefix)
        }
        return {layer: series for layer, series in found.items() if layer != "total" and series is not None}


def columns(rows: Iterator[Mapping[str, Any]]) -> dict[str, Series]:
    """Rows as one series a metric, in the order in which the metrics first appeared."""
    found: dict[str, tuple[array[int], array[float]]] = {}
    for row in rows:
        step = row.get("step")
        if not isinstance(step, int):
            continue
        for name, value in row.items():
            if name == "step" or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            steps, values = found.setdefault(name, (array("q"), array("d")))
            steps.append(step)
            values.append(value)
    return {name: Series(np.array(steps, np.int64), np.array(values)) for name, (steps, values) in found.items()}


def games_of(path: Path) -> Series | None:
    """Scores of the games in a run's episodes.jsonl."""
    steps, scores = array("q"), array("d")
    for game in read_lines(path / "episodes.jsonl"):
        if "step" in game and is_number(game.get("score")):
            steps.append(int(game["step"]))
            scores.append(float(game["score"]))
    return Series(np.array(steps, np.int64), np.array(scores)) if steps else None
