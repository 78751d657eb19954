"""From final scores to a judgement: aggregates with intervals, and every arm against a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stablegrad.reports import comparisons
from stablegrad.reports.aggregates import (
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    relative_improvement,
)
from stablegrad.reports.arms import Arm, Study
from stablegrad.reports.bootstrap import Array, Interval, bootstrap_interval, difference_interval
from stablegrad.reports.final import ArmScores, Scale, collect, counted, score_metric
from stablegrad.reports.load import RunRecord

RESAMPLES = 20_000
PROBABILITY_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the baseline: `difference` of IQMs, `probability` that a run of the arm beats one of the
    baseline, two-sided permutation `p`, `improvement [tasks]` relative, of means over seeds.
    """

    difference: Interval
    probability: Interval
    p: float
    adjusted_p: float
    improvement: Array
    share_better: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One arm's aggregates; `comparison` is None for the baseline, and where a single seed allows none."""

    scores: ArmScores
    iqm: Interval
    median: Interval
    mean: Interval
    gap: Interval
    comparison: Comparison | None

    @property
    def label(self) -> str:
        return self.scores.arm.label

    @property
    def seeds(self) -> int:
        return len(self.scores.matrix)


@dataclass(frozen=True, slots=True)
class Judgement:
    """All arms that have a score, on the tasks they share (`games` maps them). `runs` are those that counted."""

    metric: str
    games: dict[str, str]
    scale: Scale
    verdicts: tuple[Verdict, ...]
    baseline: Arm
    runs: tuple[RunRecord, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.games)

    @property
    def where(self) -> str:
        """On what the arms are judged, in words."""
        games = len(set(self.games.values()))
        sizes = len(self.games) // games
        pooled = f" and {sizes} network sizes taken together" if sizes > 1 else ""
        return f"{games} game{'s' if games > 1 else ''}{pooled}"

    @property
    def ranked(self) -> list[Verdict]:
        """Best IQM first."""
        return sorted(self.verdicts, key=lambda verdict: -verdict.iqm.point)

    def of(self, arm: Arm) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.scores.arm is arm), None)


def judge(study: Study, base: Arm, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Judgement | None:
    """Judge the arms by the final scores of the runs that count; None where no run has a score.

    `base` is replaced by the first arm with a score where it has none itself.
    """
    runs = counted(study.runs)
    metric = score_metric(runs)
    collected = collect(study, runs, metric)
    if collected is None:
        return None
    scored, scale = collected
    reference = next((scores for scores in scored if scores.arm is base), scored[0])
    verdicts = _verdicts(scored, reference, rng=rng, resamples=resamples)
    games = {task: study.games[task] for task in scale.unit}
    return Judgement(metric, games, scale, verdicts, reference.arm, runs)


def _verdicts(
    scored: Sequence[ArmScores], reference: ArmScores, *, rng: np.random.Generator, resamples: int
) -> tuple[Verdict, ...]:
    def four(scores: Array) -> Array:
        return np.stack([iqm(scores), median(scores), mean(scores), optimality_gap(scores)], axis=-1)

    base = reference.matrix
    compared = [s for s in scored if s is not reference and len(s.matrix) > 1 < len(base)]
    p_values = [comparisons.permutation_test(s.matrix, base, rng=rng, statistic=iqm) for s in compared]
    adjusted = comparisons.holm(p_values)
    tests = {s.arm.label: (p, float(a)) for s, p, a in zip(compared, p_values, adjusted, strict=True)}
    verdicts = []
    for scores in scored:
        low, high, point = bootstrap_interval(scores.matrix, four, rng=rng, resamples=resamples)
        intervals = zip(low.tolist(), high.tolist(), point.tolist(), strict=True)
        middle, typical, average, gap = map(Interval._make, intervals)
        test = tests.get(scores.arm.label)
        against = None if test is None else _compare(scores.matrix, base, *test, rng=rng, resamples=resamples)
        verdicts.append(Verdict(scores, middle, typical, average, gap, against))
    return tuple(verdicts)


def _compare(
    ours: Array, base: Array, p: float, adjusted_p: float, *, rng: np.random.Generator, resamples: int
) -> Comparison:
    means, base_means = ours.mean(axis=0), base.mean(axis=0)
    return Comparison(
        difference=difference_interval(ours, base, iqm, rng=rng, resamples=resamples),
        probability=bootstrap_interval(
            (ours, base), probability_of_improvement, rng=rng, resamples=min(resamples, PROBABILITY_RESAMPLES)
        ),
        p=p,
        adjusted_p=adjusted_p,
        improvement=relative_improvement(means, base_means),
        share_better=float((means > base_means).mean()),
    )
