"""Is one arm better than another, and can so few runs tell? Tests, corrections, and what to doubt."""

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from stablegrad.reports.aggregates import mean
from stablegrad.reports.bootstrap import Array, Statistic, as_scores

ENOUGH_RUNS = 5
"""Runs a task below which a report warns (Agarwal et al., 2021, compare intervals of 3 to 100 runs)."""

COVERAGE = {2: 0.50, 3: 0.76, 4: 0.80, 5: 0.83, 10: 0.91, 20: 0.93}
"""How often the nominal 95 % percentile bootstrap interval of a mean holds the truth, by the number of runs.

One task, normal scores; measured by simulation (4,000 samples for each count, 4,000 resamples each; ±0.01).
More tasks help, since every task adds its own runs."""


def permutation_test(
    scores_x: ArrayLike,
    scores_y: ArrayLike,
    *,
    rng: np.random.Generator,
    statistic: Statistic = mean,
    permutations: int = 10_000,
) -> float:
    """Two-sided p-value of "the arms do not differ", `scores_x [n, tasks]`, `scores_y [m, tasks]`.

    Which runs of a task belong to which arm is shuffled within the task; p is the share of shufflings whose
    |statistic(X) - statistic(Y)| is at least the observed one, (hits + 1) / (permutations + 1), so it is
    valid at any number of runs. It cannot be smaller than `smallest_p_value(n, m, tasks)` whatever the scores
    are.
    """
    x, y = as_scores(scores_x), as_scores(scores_y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"the two arms have {x.shape[-1]} and {y.shape[-1]} tasks")
    pooled = np.concatenate([x, y])
    n = len(x)
    observed = abs(float(statistic(x) - statistic(y)))
    hits = 0
    chunk = max(1, 500_000 // pooled.size)
    for start in range(0, permutations, chunk):
        size = min(chunk, permutations - start)
        order = rng.random((size, *pooled.shape)).argsort(axis=1)
        shuffled = np.take_along_axis(pooled[None], order, axis=1)
        differences = np.abs(statistic(shuffled[:, :n]) - statistic(shuffled[:, n:]))
        hits += int((differences >= observed * (1 - 1e-9)).sum())
    return (hits + 1) / (permutations + 1)


def smallest_p_value(runs_x: int, runs_y: int, tasks: int) -> float:
    """The smallest two-sided p-value that a permutation test can give.

    2 / C(n+m, n)^tasks for n = m runs a task, 1 / C(n+m, n)^tasks otherwise.
    With 3 runs against 3 on one task it is 0.1: no difference, however large, is significant at 5 %.
    """
    arrangements = comb(runs_x + runs_y, runs_x) ** tasks
    return min(1.0, (2 if runs_x == runs_y else 1) / arrangements)


def holm(p_values: ArrayLike) -> Array:
    """Holm-Bonferroni adjusted p-values, in the given order: reject where they are below the family's level.

    The i-th smallest of m (from 0) becomes max over j <= i of min(1, (m - j) p_j) (Holm, 1979).
    """
    values = np.asarray(p_values, dtype=float)
    if values.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise ValueError("p-values must be a list of numbers between 0 and 1")
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order])) if len(values) else []
    return adjusted


def coverage(runs: int) -> float:
    """What `COVERAGE` says of the largest number of runs that does not exceed `runs`; 0 for a single run."""
    return max((share for count, share in COVERAGE.items() if count <= runs), default=0.0)


def warnings(runs: Sequence[int], tasks: int) -> list[str]:
    """What the numbers of runs (one an arm) and of tasks do not allow to be said, in whole sentences."""
    found = []
    fewest = min(runs)
    if fewest == 1:
        found.append(
            "At least one arm has a single seed: nothing separates its effect from chance, and no interval"
            " can be given."
        )
    elif fewest < ENOUGH_RUNS:
        found.append(
            f"Fewer than {ENOUGH_RUNS} seeds make the intervals too narrow: the nominal 95\u00a0% interval of {fewest}"
            f" runs of one game holds the truth about {100 * coverage(fewest):.0f}\u00a0% of the time."
        )
    if len(runs) > 1 and fewest > 1 and (floor := smallest_p_value(fewest, fewest, tasks)) > 0.05:
        found.append(
            f"With {fewest} seeds on {tasks} game{'s' if tasks > 1 else ''} no permutation test can fall"
            f" below p = {floor:.2g}: no difference, however large, is significant at 5\u00a0% here."
        )
    if len(set(runs)) > 1:
        found.append(f"The arms have different numbers of seeds ({min(runs)} to {max(runs)}).")
    return found
