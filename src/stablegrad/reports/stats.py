"""Statistics of reinforcement-learning evaluations: numpy only, vectorised, seeded by a `Generator`.

`scores` is `[runs, tasks]` of normalised scores, or `[..., runs, tasks]` to `[...]`. Definitions follow
rliable 1.2 (Agarwal et al., 2021) and agree with it. What stands where: `aggregates` (point estimates),
`bootstrap` (intervals), `comparisons` (tests, corrections, warnings).

    >>> import numpy as np
    >>> scores = np.random.default_rng(0).normal(1.0, 0.3, size=(5, 10))
    >>> low, high, point = bootstrap_interval(scores, iqm, rng=np.random.default_rng(1), resamples=2_000)
    >>> bool(low < point < high)
    True
"""

from stablegrad.reports.aggregates import (
    area_under_curve,
    iqm,
    mean,
    median,
    minimum_detectable_difference,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    relative_improvement,
    sample_efficiency,
)
from stablegrad.reports.bootstrap import Interval, bootstrap_interval, difference_interval
from stablegrad.reports.comparisons import (
    coverage,
    holm,
    permutation_test,
    smallest_p_value,
    warnings,
)

__all__ = [
    "Interval",
    "area_under_curve",
    "bootstrap_interval",
    "coverage",
    "difference_interval",
    "holm",
    "iqm",
    "mean",
    "median",
    "minimum_detectable_difference",
    "optimality_gap",
    "performance_profile",
    "permutation_test",
    "probability_of_improvement",
    "relative_improvement",
    "sample_efficiency",
    "smallest_p_value",
    "warnings",
]
