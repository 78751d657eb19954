"""Stratified bootstrap intervals: runs are drawn anew within each task, tasks stay as they are.

Agarwal et al. (2021): tasks are fixed by the benchmark and only the runs are a sample, so a resample of
`scores [runs, tasks]` draws, for every task on its own, as many runs as there are, with replacement. The
interval is between percentiles of the statistic over the resamples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]
Statistic = Callable[..., Array]

_CHUNK_VALUES = 500_000
"""Values gathered at a time: few enough for the cache, many enough to hide Python's overhead."""


class Interval(NamedTuple):
    """A percentile interval and the statistic itself: floats, or arrays when the statistic is one.

    `point` is the statistic of the data, not of a resample: it may lie outside a very skewed interval.
    """

    low: Any
    high: Any
    point: Any


def as_scores(scores: ArrayLike, *, axes: int = 2) -> Array:
    """`scores` as float64 with at least `axes` axes; ValueError if it has fewer, or no run or task."""
    values = np.asarray(scores, dtype=float)
    if values.ndim < axes:
        raise ValueError(f"scores need at least {axes} axes ([..., runs, tasks]), got shape {values.shape}")
    if 0 in values.shape[-axes:]:
        raise ValueError(f"scores of shape {values.shape} hold no run or no task")
    return values


def bootstrap_interval(
    scores: ArrayLike | tuple[np.ndarray, ...],
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    resamples: int = 50_000,
    level: float = 0.95,
) -> Interval:
    """Stratified percentile bootstrap interval of `statistic`.

    `scores [runs, tasks, *rest]`: runs are drawn within each task, `rest` (checkpoints, say) moves along with
    its run. `statistic` maps `[R, runs, tasks, *rest]` to `[R, *out]`; one that knows a single resample only
    (`np.mean`) works too, many times slower. A tuple of arrays is several arms: they are drawn independently
    and handed to the statistic as separate arguments (`probability_of_improvement`). `level` is the
    interval's nominal coverage; with few runs its true one is smaller (`comparisons.COVERAGE`). Raises
    ValueError for scores that are not finite, and for a level or count that means nothing.
    """
    arms = scores if isinstance(scores, tuple) else (scores,)
    values = tuple(_with_runs_first(arm) for arm in arms)
    return _interval(values, statistic, rng=rng, resamples=resamples, level=level, together=False)


def difference_interval(
    scores_x: ArrayLike,
    scores_y: ArrayLike,
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    paired: bool = False,
    resamples: int = 50_000,
    level: float = 0.95,
) -> Interval:
    """Interval of statistic(X) - statistic(Y), both `[runs, tasks, *rest]` on the same tasks.

    `paired` draws the same runs of both arms: right when run i of X and run i of Y share what made them vary
    (the seed of the environment, a data order), and then narrower; it needs as many runs in both. Raises
    ValueError when the shapes do not allow it.
    """
    x, y = _with_runs_first(scores_x), _with_runs_first(scores_y)
    if x.shape[1:] != y.shape[1:] or (paired and x.shape != y.shape):
        raise ValueError(f"cannot compare scores of shapes {x.shape} and {y.shape}{' in pairs' if paired else ''}")

    def difference(first: Array, second: Array) -> Array:
        return statistic(first) - statistic(second)

    return _interval((x, y), difference, rng=rng, resamples=resamples, level=level, together=paired)


def _with_runs_first(scores: ArrayLike) -> Array:
    values = np.asarray(scores, dtype=float)
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(f"scores must be [runs, tasks, …] and not empty, got shape {values.shape}")
    return values


def _interval(
    arms: tuple[Array, ...],
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    resamples: int,
    level: float,
    together: bool,
) -> Interval:
    """`together`: all arms use one draw of run indices."""
    if not (0 < level < 1 and resamples > 0):
        raise ValueError(f"level {level} must lie between 0 and 1, and resamples {resamples} be positive")
    if not all(np.isfinite(arm).all() for arm in arms):
        raise ValueError("scores hold NaN or infinity: leave out the runs without a score first")
    point = statistic(*arms)
    vectorised = _is_vectorised(statistic, arms, point)
    chunk = max(1, _CHUNK_VALUES // max(arm.size for arm in arms))
    drawn = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        first = _draw(arms[0], size, rng)
        indices = [first] + [first if together else _draw(arm, size, rng) for arm in arms[1:]]
        samples = [arm[index, np.arange(arm.shape[1])] for arm, index in zip(arms, indices, strict=True)]
        drawn.append(
            statistic(*samples)
            if vectorised
            else np.stack([np.asarray(statistic(*sample)) for sample in zip(*samples, strict=True)])
        )
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail], axis=0)
    if np.ndim(point) == 0:
        return Interval(float(low), float(high), float(point))
    return Interval(low, high, point)


def _is_vectorised(statistic: Statistic, arms: tuple[Array, ...], point: Array) -> bool:
    """Whether three copies of the data give three times the same: a leading axis is kept."""
    copies = np.asarray(statistic(*(np.stack([arm, arm, arm]) for arm in arms)))
    expected = np.stack([np.asarray(point)] * 3)
    return copies.shape == expected.shape and np.allclose(copies, expected)


def _draw(arm: Array, size: int, rng: np.random.Generator) -> NDArray[np.integer[Any]]:
    """Run indices `[size, runs, tasks]`, independent for every task."""
    runs, tasks = arm.shape[:2]
    smallest: type[np.unsignedinteger[Any]] = np.uint8 if runs <= 256 else np.uint32
    return rng.integers(0, runs, size=(size, runs, tasks), dtype=smallest)
