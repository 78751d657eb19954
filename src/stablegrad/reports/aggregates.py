"""Point estimates over runs and tasks, as defined by Agarwal et al. (2021, "Deep RL at the Edge of the
Statistical Precipice") and computed by their library rliable 1.2.

`scores` is `[..., runs, tasks]` of normalised scores (1 = human, say), without gaps; leading axes are kept,
so that thousands of bootstrap resamples are one call. Every function raises ValueError on scores of fewer
than two axes.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from stablegrad.reports.bootstrap import Array, as_scores


def mean(scores: ArrayLike) -> Array:
    """Mean over all runs and tasks: `[..., runs, tasks]` -> `[...]`."""
    return as_scores(scores).mean(axis=(-2, -1))


def median(scores: ArrayLike) -> Array:
    """Median over tasks of the mean over runs: `[..., runs, tasks]` -> `[...]`."""
    return np.median(as_scores(scores).mean(axis=-2), axis=-1)


def iqm(scores: ArrayLike) -> Array:
    """Interquartile mean: the mean of the middle half of all runs x tasks, `[..., runs, tasks]` -> `[...]`.

    int(n / 4) of the n values are cut at either end (the count of `scipy.stats.trim_mean(x, 0.25)`): with
    fewer than four values nothing is cut and the IQM is the mean.
    """
    values = as_scores(scores)
    ordered = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)
    cut = int(0.25 * ordered.shape[-1])
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def optimality_gap(scores: ArrayLike, gamma: float = 1.0) -> Array:
    """`gamma` minus the mean of min(score, gamma): how far short runs fall, `[...]`; lower is better."""
    return gamma - np.minimum(as_scores(scores), gamma).mean(axis=(-2, -1))


def probability_of_improvement(scores_x: ArrayLike, scores_y: ArrayLike) -> Array:
    """P(a run of X beats a run of Y on a task), averaged over tasks: 0.5 when neither is better.

    Per task the Mann-Whitney statistic U / (n m): the share of the n x m pairs that X wins, a tie counting
    half. `scores_x [..., n, tasks]`, `scores_y [..., m, tasks]` -> `[...]`; raises ValueError when the tasks
    differ.
    """
    x, y = as_scores(scores_x), as_scores(scores_y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"the two arms have {x.shape[-1]} and {y.shape[-1]} tasks")
    ours, theirs = x[..., :, None, :], y[..., None, :, :]
    wins = (ours > theirs).mean(axis=(-3, -2)) + 0.5 * (ours == theirs).mean(axis=(-3, -2))
    return wins.mean(axis=-1)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of runs x tasks with a score above each threshold: `[..., runs, tasks]`, `[K]` -> `[..., K]`."""
    values, levels = as_scores(scores), np.asarray(thresholds, dtype=float)
    above = [(values > level).mean(axis=(-2, -1)) for level in levels]
    return np.stack(above, axis=-1)


def sample_efficiency(curves: ArrayLike) -> Array:
    """IQM at every checkpoint: `[..., runs, tasks, checkpoints]` -> `[..., checkpoints]`."""
    return iqm(np.moveaxis(as_scores(curves, axes=3), -1, -3))


def area_under_curve(curves: ArrayLike) -> Array:
    """Mean over evenly spaced checkpoints: `[..., runs, tasks, checkpoints]` -> `[..., runs, tasks]`.

    The score that an arm would have if it were judged by all of training rather than by its end.
    """
    return as_scores(curves, axes=3).mean(axis=-1)


def relative_improvement(ours: ArrayLike, base: ArrayLike, *, floor: float = 0.01) -> Array:
    """(ours - base) / max(|base|, floor) per task, for normalised scores whose zero is random play.

    `ours`, `base` `[..., tasks]` are means over runs -> `[..., tasks]`, as fractions (0.83 = 83 %). The paper
    reports "relative improvement" and defines it nowhere. This is its plainest reading, taken on scores from
    which random play has been subtracted: on raw scores the ratio would depend on where each game happens to
    put its zero. Below `floor` (1 % of the human range) the baseline plays at random and the ratio means
    nothing, so its size is bounded there. The mean over games is then ruled by such games: report the median,
    and the share of games that are better.
    """
    first, second = np.asarray(ours, dtype=float), np.asarray(base, dtype=float)
    return (first - second) / np.maximum(np.abs(second), floor)


def minimum_detectable_difference(
    scores: ArrayLike, *, runs: int | None = None, level: float = 0.95, power: float = 0.8
) -> float:
    """The true difference of two arms' means that `runs` runs a task would show, `power` of the time.

        (t_{(1+level)/2} + t_power) * s * sqrt(2 / (runs * tasks)),    t with 2 (runs - 1) tasks d.o.f.

    in the units of `scores [runs, tasks]`, from whose spread between runs (pooled over tasks) s is estimated;
    `runs` defaults to as many as there are. Infinite with a single run, because its spread is unknown.
    """
    values = as_scores(scores)
    have, tasks = values.shape[-2:]
    wanted = have if runs is None else runs
    if have < 2 or wanted < 2:
        return math.inf
    spread = math.sqrt(float(values.var(axis=-2, ddof=1).mean()))
    freedom = 2 * (wanted - 1) * tasks
    quantiles = _student_quantile((1 + level) / 2, freedom) + _student_quantile(power, freedom)
    return quantiles * spread * math.sqrt(2 / (wanted * tasks))


def _student_quantile(probability: float, freedom: int) -> float:
    """Student's t quantile, by bisection of its distribution function (integrated with Simpson's rule)."""
    target = probability - 0.5
    if target < 0:
        return -_student_quantile(1 - probability, freedom)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def mass(upper: float) -> float:
        points = np.linspace(0.0, upper, 2001)
        density = scale * (1 + points**2 / freedom) ** (-(freedom + 1) / 2)
        weights = np.ones(2001)
        weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
        return float(density @ weights) * upper / 6000

    low, high = 0.0, 1.0
    while mass(high) < target:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) < target else (low, middle)
    return (low + high) / 2
