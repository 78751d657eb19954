"""Is one arm better than another, and can so few runs tell? Tests, corrections, and what to doubt."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stablegrad.reports.aggregates import mean
from stablegrad.reports.bootstrap import Array, Statistic, as_scores

ENOUGH_RUNS = 10
"""Runs a task below which a report warns: from there on an interval of the IQM holds the truth nine times in ten."""

Measured = Literal["iqm", "mean"]
"""The statistics whose intervals' coverage was measured."""

COVERAGE: dict[Measured, dict[int, dict[int, tuple[float, float]]]] = {
    "iqm": {
        1: {
            2: (0.462, 0.495),
            3: (0.683, 0.751),
            4: (0.815, 0.877),
            5: (0.817, 0.902),
            6: (0.83, 0.906),
            7: (0.872, 0.909),
            8: (0.927, 0.931),
            9: (0.928, 0.936),
            10: (0.93, 0.937),
            15: (0.927, 0.942),
            20: (0.934, 0.946),
        },
        10: {3: (0.884, 0.89), 5: (0.899, 0.917), 10: (0.933, 0.943)},
    },
    "mean": {
        1: {
            2: (0.424, 0.495),
            3: (0.633, 0.751),
            4: (0.688, 0.807),
            5: (0.704, 0.837),
            6: (0.739, 0.86),
            7: (0.748, 0.888),
            8: (0.774, 0.914),
            9: (0.796, 0.923),
            10: (0.793, 0.916),
            15: (0.832, 0.932),
            20: (0.85, 0.93),
        },
        10: {3: (0.785, 0.877), 5: (0.841, 0.905), 10: (0.894, 0.933)},
    },
}
"""How often the nominal 95 % percentile bootstrap interval holds the truth: statistic, tasks, runs -> the least and
the most over normal, skewed and bimodal scores.

Measured by `benchmarks/coverage.py`, whose record is `benchmarks/results/coverage.json`. More tasks help, since every
task adds its own runs."""

EXACT = 10_000
"""Up to so many arrangements a permutation test takes all of them, and draws none."""


def permutation_test(
    scores_x: ArrayLike,
    scores_y: ArrayLike,
    *,
    rng: np.random.Generator,
    statistic: Statistic = mean,
    permutations: int = 10_000,
) -> float:
    """Two-sided p-value of "the arms do not differ", `scores_x [n, tasks]`, `scores_y [m, tasks]`.

    Which runs of a task belong to which arm is exchanged within the task; p is the share of the arrangements whose
    |statistic(X) - statistic(Y)| is at least the observed one. Where there are at most `EXACT` arrangements, all of
    them are taken, the observed one among them. Else `permutations` are drawn and p is (hits + 1) / (permutations + 1),
    which is valid at any number of runs (Phipson and Smyth, 2010). Either way p is never below
    `smallest_p_value(n, m, tasks)`. `statistic` does not depend on the order of the runs.
    """
    x, y = as_scores(scores_x), as_scores(scores_y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"the two arms have {x.shape[-1]} and {y.shape[-1]} tasks")
    pooled = np.concatenate([x, y])
    n, tasks = x.shape
    observed = abs(float(statistic(x) - statistic(y)))
    total = comb(len(pooled), n) ** tasks
    hits = 0
    chunk = max(1, 500_000 // pooled.size)
    for start in range(0, total if total <= EXACT else permutations, chunk):
        if total <= EXACT:
            order = _arrangements(len(pooled), n, tasks, np.arange(start, min(start + chunk, total)))
        else:
            order = rng.random((min(chunk, permutations - start), *pooled.shape)).argsort(axis=1)
        shuffled = np.take_along_axis(pooled[None], order, axis=1)
        differences = np.abs(statistic(shuffled[:, :n]) - statistic(shuffled[:, n:]))
        hits += int((differences >= observed * (1 - 1e-9)).sum())
    if total <= EXACT:
        return hits / total
    return max((hits + 1) / (permutations + 1), smallest_p_value(n, len(y), tasks))


def _arrangements(runs: int, first: int, tasks: int, numbers: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Arrangements by number `[A]` -> run indices `[A, runs, tasks]`: every way to choose `first` runs of each task."""
    chosen = np.array(list(combinations(range(runs), first)))
    rest = np.array([[run for run in range(runs) if run not in some] for some in chosen.tolist()], dtype=chosen.dtype)
    orders = np.concatenate([chosen, rest.reshape(len(chosen), runs - first)], axis=1)
    of_task = np.stack(np.unravel_index(numbers, (len(orders),) * tasks), axis=1)
    return np.moveaxis(orders[of_task], 1, 2)


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


def coverage(runs: int, tasks: int, statistic: Measured = "iqm") -> tuple[float, float] | None:
    """How often an interval of so few runs held the truth: the least and the most over the kinds of scores tried.

    Of the measured numbers of runs and tasks, the largest that do not exceed these; None for a single run.
    """
    measured = _measured(runs, tasks, statistic)
    return None if measured is None else COVERAGE[statistic][measured[0]][measured[1]]


def _measured(runs: int, tasks: int, statistic: Measured) -> tuple[int, int] | None:
    """The numbers of tasks and of runs whose measurement stands for these."""
    known = [(t, n) for t, table in COVERAGE[statistic].items() for n in table if t <= tasks and n <= runs]
    return max(known, default=None)


def too_few(runs: int, tasks: int, statistic: Measured = "iqm") -> str | None:
    """A sentence where intervals of the statistic over so few runs (of each task) are too narrow; None where not."""
    measured = _measured(runs, tasks, statistic)
    if measured is None or runs >= ENOUGH_RUNS:
        return None
    of_tasks, of_runs = measured
    least, most = (f"{100 * share:.0f}" for share in COVERAGE[statistic][of_tasks][of_runs])
    name = "interquartile mean" if statistic == "iqm" else statistic
    return (
        f"Fewer than {ENOUGH_RUNS} seeds make the intervals too narrow: in simulations with {of_runs} runs of"
        f" {'one task' if of_tasks == 1 else f'{of_tasks} tasks'}, the nominal 95\u00a0% interval of the {name} held"
        f" the truth {least} to {most}\u00a0% of the time (normal, skewed and bimodal scores)."
    )


def warnings(runs: Sequence[int], tasks: int) -> list[str]:
    """What the numbers of runs (one an arm) and of tasks do not allow to be said, in whole sentences."""
    found = []
    fewest = min(runs)
    if fewest == 1:
        found.append(
            "At least one arm has a single seed: nothing separates its effect from chance, and no interval"
            " can be given."
        )
    elif sentence := too_few(fewest, tasks):
        found.append(sentence)
    if len(set(runs)) > 1:
        found.append(f"The arms have different numbers of seeds ({min(runs)} to {max(runs)}).")
    return found


def best_p_values(pairs: Sequence[tuple[int, int]], tasks: int) -> Array:
    """The smallest Holm-adjusted p-values that comparisons of arms with (n, m) runs can give, all at once.

    Adjusted p-values do not fall when any of the p-values rises, so no set of scores gives smaller ones.
    """
    return holm([smallest_p_value(n, m, tasks) for n, m in pairs])


def hopeless(pairs: Mapping[str, tuple[int, int]], tasks: int, *, level: float = 0.05) -> list[str]:
    """Which comparisons, by name, no difference however large can make significant, in whole sentences.

    `pairs` are the numbers of runs of the two arms of each comparison of a family.
    """
    best = dict(zip(pairs, best_p_values(list(pairs.values()), tasks).tolist(), strict=True))
    alike: dict[tuple[tuple[int, int], float], list[str]] = {}
    for name, counts in pairs.items():
        if best[name] >= level:
            alike.setdefault((counts, best[name]), []).append(name)
    games = f"{tasks} game{'s' if tasks > 1 else ''}"
    found = []
    for ((n, m), adjusted), names in alike.items():
        floor = smallest_p_value(n, m, tasks)
        of_all = "" if len(pairs) == 1 else f" (Holm-adjusted for {len(pairs)} comparisons: {adjusted:.2g})"
        whom = "" if len(names) == len(pairs) else f", as for {', '.join(names)},"
        found.append(
            f"With {n} seeds against {m} on {games}{whom} no permutation test can fall below p = {floor:.2g}{of_all}:"
            f" no difference, however large, is significant at {100 * level:.0f}\u00a0% there."
        )
    return found
