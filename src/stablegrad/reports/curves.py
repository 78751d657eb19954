"""Curves of many runs on one grid of steps, with the smoothing stated; final scores; bands.

A point of a smoothed curve is the mean over the window of steps behind it: nothing of the future leaks into
it, and every game counts once.
"""

from collections.abc import Sequence

import numpy as np

from stablegrad.reports.aggregates import sample_efficiency
from stablegrad.reports.bootstrap import Interval, bootstrap_interval
from stablegrad.reports.load import EPISODES, TRAIN_RETURN, Floats, RunRecord, Series, Steps

GRID_POINTS = 100
CURVE_WINDOW = 0.05
"""Share of the budget over which a point of a curve averages."""
FINAL_WINDOW = 0.10
"""Share of the budget, at its end, over which a final score averages."""
CURVE_RESAMPLES = 1_000
MEANS_OVER_GAMES = (TRAIN_RETURN, "train/episode_length", "train/hns")
"""Metrics that are means over the games of a row; runs on images have rows without games."""


def step_grid(runs: Sequence[RunRecord], points: int = GRID_POINTS) -> Steps:
    """`points` evenly spaced steps up to the largest budget among the runs."""
    longest = max((run.last_step for run in runs), default=0)
    return np.unique(np.ceil(np.linspace(0, max(longest, 1), points + 1)[1:]).astype(np.int64))


def windowed_mean(series: Series, at: Steps, window: int, weights: Floats | None = None) -> Floats:
    """Mean of the values logged in (s - window, s], for every step s of `at [G]` -> `[G]` float64.

    `weights [n]` (games behind a logged mean) default to 1. A window without a value keeps the previous
    window's; NaN before the first value and behind the run's last one.
    """
    kept = np.isfinite(series.values)
    steps, values = series.steps[kept], series.values[kept].astype(float)
    if not len(steps):
        return np.full(len(at), np.nan)
    counts = np.ones(len(values)) if weights is None else np.maximum(weights[kept].astype(float), 0.0)
    sums = np.concatenate([[0.0], np.cumsum(values * counts)])
    totals = np.concatenate([[0.0], np.cumsum(counts)])
    upper = np.searchsorted(steps, at, side="right")
    lower = np.searchsorted(steps, at - window, side="right")
    weight = totals[upper] - totals[lower]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(weight > 0, (sums[upper] - sums[lower]) / weight, np.nan)
    means = _held(means)
    # A run logs at intervals: it has not ended until a whole window has passed without a row.
    means[at > steps[-1] + window] = np.nan
    return means


def return_curve(run: RunRecord, metric: str, at: Steps, *, window: int) -> Floats:
    """A run's smoothed curve of a metric `[G]`; a mean over games is weighted by the number of games.

    A run that failed keeps the value it failed at up to its budget: leaving it out would flatter its arm.
    """
    series = run.series.get(metric)
    if series is None:
        return np.full(len(at), np.nan)
    curve = windowed_mean(series, at, window, _games(run, metric, series))
    return np.where(at <= run.budget, _held(curve), np.nan) if run.state == "failed" else curve


def final_value(run: RunRecord, metric: str, *, share: float = FINAL_WINDOW) -> float:
    """Mean of a metric over the last `share` of the run's steps, weighted by games; NaN if never logged."""
    series = run.series.get(metric)
    if series is None or not len(series.steps):
        return float("nan")
    end = int(series.steps[-1])
    window = max(1, round(share * end))
    return float(windowed_mean(series, np.array([end]), window, _games(run, metric, series))[0])


def band(curves: Floats, *, rng: np.random.Generator, resamples: int = CURVE_RESAMPLES) -> Interval:
    """IQM over runs x tasks with its 95 % stratified bootstrap interval, `[runs, tasks, G]` -> three `[G]`.

    Where a run has no value yet (or none any more) there is no aggregate: NaN.
    """
    complete = np.isfinite(curves).all(axis=(0, 1))
    low, high, point = (np.full(curves.shape[-1], np.nan) for _ in range(3))
    if complete.any():
        interval = bootstrap_interval(curves[..., complete], sample_efficiency, rng=rng, resamples=resamples)
        low[complete], high[complete], point[complete] = interval
    return Interval(low, high, point)


def _games(run: RunRecord, metric: str, series: Series) -> Floats | None:
    """How many games each logged mean stands for, or None where that is not known."""
    if metric not in MEANS_OVER_GAMES or EPISODES not in run.series:
        return None
    counts = run.series[EPISODES]
    position = np.searchsorted(counts.steps, series.steps)
    if (position >= len(counts.steps)).any() or (counts.steps[position] != series.steps).any():
        return None
    return counts.values[position]


def _held(values: Floats) -> Floats:
    """NaN replaced by the last finite value before it."""
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    return np.where(last >= 0, values[np.maximum(last, 0)], np.nan)
