"""Curves of many runs on one grid of steps, with the smoothing stated; final scores; bands.

A point of a smoothed curve is the mean over the window of steps before it: nothing of the future leaks into it, every
game counts once, and where nothing was measured in the window there is no point. No value is carried on. So that rows
alone leave no gaps, a window is never shorter than the distance between two rows; what is measured in few of the rows
(`rarely`) is drawn where it was measured and nowhere else.
"""

from collections.abc import Sequence

import numpy as np

from stablegrad.reports.aggregates import sample_efficiency
from stablegrad.reports.bootstrap import Interval, bootstrap_interval
from stablegrad.reports.load import RunRecord
from stablegrad.runs.series import Floats, Steps, games_behind, windowed_mean

GRID_POINTS = 100
CURVE_WINDOW = 0.05
"""Share of the budget over which a point of a curve averages."""
CURVE_RESAMPLES = 1_000


def step_grid(runs: Sequence[RunRecord], points: int = GRID_POINTS) -> Steps:
    """`points` evenly spaced steps up to the largest budget among the runs."""
    longest = max((run.last_step for run in runs), default=0)
    return np.unique(np.ceil(np.linspace(0, max(longest, 1), points + 1)[1:]).astype(np.int64))


def row_interval(run: RunRecord) -> int:
    """The largest number of steps between two rows of a run (or its begin and the first); 0 where it has none."""
    rows = max((series.steps for series in run.series.values()), key=len, default=np.zeros(0, np.int64))
    return int(np.diff(rows, prepend=0).max()) if len(rows) else 0


def window_of(runs: Sequence[RunRecord], steps: float) -> int:
    """A window of so many steps, or as long as the largest distance between two rows of any of the runs."""
    return max([1, round(steps), *map(row_interval, runs)])


def rarely(run: RunRecord, metric: str, window: int) -> bool:
    """Whether a run measured a metric in so few of its rows that most windows hold no measurement."""
    series = run.series.get(metric)
    if series is None or not len(series.steps):
        return False
    return float(np.median(np.diff(series.steps, prepend=0))) > window


def measured_at(runs: Sequence[RunRecord], metric: str) -> Steps:
    """The steps at which any of the runs measured a metric, rising."""
    steps = [run.series[metric].steps for run in runs if metric in run.series]
    return np.unique(np.concatenate(steps)) if steps else np.zeros(0, np.int64)


def return_curve(run: RunRecord, metric: str, at: Steps, *, window: int) -> Floats:
    """A run's smoothed curve of a metric `[G]`; a mean over games is weighted by the number of games.

    It ends with the last row, failed or not: the next grid point after it is the last.
    """
    series = run.series.get(metric)
    if series is None:
        return np.full(len(at), np.nan)
    curve = windowed_mean(series, at, window, games_behind(run.series, metric))
    curve[at >= run.last_step + row_interval(run)] = np.nan
    return curve


def band(curves: Floats, *, rng: np.random.Generator, resamples: int = CURVE_RESAMPLES) -> Interval:
    """IQM over runs x tasks with its 95 % stratified bootstrap interval, `[runs, tasks, G]` -> three `[G]`.

    Where a run has no value (yet, any more, or just there) there is no aggregate: NaN.
    """
    complete = np.isfinite(curves).all(axis=(0, 1))
    low, high, point = (np.full(curves.shape[-1], np.nan) for _ in range(3))
    if complete.any():
        interval = bootstrap_interval(curves[..., complete], sample_efficiency, rng=rng, resamples=resamples)
        low[complete], high[complete], point[complete] = interval
    return Interval(low, high, point)
