"""A run's records as columns: the one reader, and the one final value, of reports, doctor, tuning and demonstration.

A run that was resumed by other means than ours may have logged some steps twice: the last word counts, and rows before
a row of the same or an earlier step are dropped. Values are float32. Torch-free.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablegrad.runs import records
from stablegrad.runs.files import read_lines
from stablegrad.runs.reading import is_number

Floats = NDArray[np.floating[Any]]
Steps = NDArray[np.integer[Any]]

TRAIN_RETURN = "train/episode_return"
EPISODES = "train/episodes"
FINAL_WINDOW = 0.10
"""Share of a run's steps, at its end, over which a final value averages."""
MEANS_OVER_GAMES = (TRAIN_RETURN, "train/episode_length", "train/hns")
"""Metrics that are means over the games of a row; runs on images have rows without games."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one run: `values [n]` logged at `steps [n]` int64 (agent steps, ascending)."""

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


def read_series(run: Path) -> dict[str, Series]:
    """Metric -> its float32 values, never empty, in the order in which metrics first appear in a run's rows.

    Training returns of a run whose rows have none are those of its games. Rows without a step are passed over.
    """
    found = _columns(run / records.METRICS)
    return found if TRAIN_RETURN in found else found | _returns(read_games(run))


def read_games(run: Path) -> Series | None:
    """The scores of the games that ended in training, in float64, as they were recorded; None where there are none."""
    steps, scores = array("q"), array("d")
    for game in read_lines(run / records.EPISODES):
        if "step" in game and is_number(game.get("score")):
            steps.append(int(game["step"]))
            scores.append(float(game["score"]))
    return Series(np.array(steps, np.int64), np.array(scores)) if steps else None


def final_value(series: Mapping[str, Series], metric: str, *, share: float = FINAL_WINDOW) -> float:
    """Mean of a metric over the last `share` of a run's steps, weighted by games; NaN if never logged."""
    found = series.get(metric)
    if found is None or not len(found):
        return float("nan")
    end = int(found.steps[-1])
    window = max(1, round(share * end))
    return float(windowed_mean(found, np.array([end]), window, games_behind(series, metric))[0])


def windowed_mean(series: Series, at: Steps, window: int, weights: Floats | None = None) -> Floats:
    """Mean of the values logged in (s - window, s], for every step s of `at [G]` -> `[G]` float64.

    `weights [n]` (games that a logged mean is of) default to 1. NaN where the window holds no value.
    """
    kept = np.isfinite(series.values)
    steps, values = series.steps[kept], series.values[kept].astype(float)
    counts = np.ones(len(values)) if weights is None else np.maximum(weights[kept].astype(float), 0.0)
    sums = np.concatenate([[0.0], np.cumsum(values * counts)])
    totals = np.concatenate([[0.0], np.cumsum(counts)])
    upper = np.searchsorted(steps, at, side="right")
    lower = np.searchsorted(steps, at - window, side="right")
    weight = totals[upper] - totals[lower]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, (sums[upper] - sums[lower]) / weight, np.nan)


def games_behind(series: Mapping[str, Series], metric: str) -> Floats | None:
    """How many games each logged mean stands for [n], or None where that is not known."""
    if metric not in MEANS_OVER_GAMES or EPISODES not in series:
        return None
    logged, counts = series[metric], series[EPISODES]
    position = np.searchsorted(counts.steps, logged.steps)
    if (position >= len(counts)).any() or (counts.steps[position] != logged.steps).any():
        return None
    return counts.values[position]


def _columns(path: Path) -> dict[str, Series]:
    steps = array("q")
    # Rows with the same names are kept together, so that numpy turns them into numbers and not a loop.
    alike: dict[tuple[str, ...], tuple[list[int], list[list[Any]]]] = {}
    for row in read_lines(path):
        if "step" not in row:
            continue
        numbers, values = alike.setdefault(tuple(row), ([], []))
        numbers.append(len(steps))
        values.append(list(row.values()))
        steps.append(int(row["step"]))
    at = np.array(steps, dtype=np.int64)
    current = at < np.append(np.minimum.accumulate(at[::-1])[::-1][1:], np.iinfo(np.int64).max)
    parts: dict[str, list[tuple[Steps, Floats]]] = {}
    for names, (numbers, values) in alike.items():
        rows = np.array(numbers)
        for name, column in zip(names, _transposed(values), strict=True):
            if name != "step" and column is not None:
                parts.setdefault(name, []).append((rows, column))
    found = {name: _series(pieces, at, current) for name, pieces in parts.items()}
    return {name: series for name, series in found.items() if len(series)}


def _transposed(values: list[list[Any]]) -> list[Floats | None]:
    """Columns of equally long rows as float32, None for one that holds anything but numbers."""
    with np.errstate(over="ignore"):  # what is larger counts as infinite
        try:
            return list(np.array(values, dtype=np.float32).T)
        except (ValueError, TypeError):
            columns = zip(*values, strict=True)
            return [
                np.array(column, dtype=np.float32) if all(isinstance(v, int | float) for v in column) else None
                for column in columns
            ]


def _series(pieces: list[tuple[Steps, Floats]], at: Steps, current: NDArray[np.bool_]) -> Series:
    rows = np.concatenate([rows for rows, _ in pieces])
    values = np.concatenate([values for _, values in pieces])
    order = np.argsort(rows)
    order = order[current[rows[order]]]
    return Series(at[rows[order]], values[order])


def _returns(games: Series | None) -> dict[str, Series]:
    """One row for every step at which games ended."""
    if games is None:
        return {}
    unique, where, counts = np.unique(games.steps, return_inverse=True, return_counts=True)
    means = np.bincount(where, weights=games.values) / counts
    return {
        TRAIN_RETURN: Series(unique, means.astype(np.float32)),
        EPISODES: Series(unique, counts.astype(np.float32)),
    }
