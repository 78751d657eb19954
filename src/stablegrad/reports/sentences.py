"""What the evidence supports, and what stands against it, in whole sentences."""

import math
from collections.abc import Sequence

import numpy as np

from stablegrad.reports import comparisons
from stablegrad.reports.aggregates import minimum_detectable_difference
from stablegrad.reports.arms import Study, duplicates
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.judge import Judgement, Verdict
from stablegrad.runs.series import TRAIN_RETURN

SIGNIFICANT = 0.05
_UNFINISHED = ("created", "running", "stopped")


def number(value: float) -> str:
    """Three significant digits, no exponent for everyday sizes."""
    if not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def interval_text(interval: Interval) -> str:
    return f"{number(interval.point)} ({number(interval.low)} to {number(interval.high)})"


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def supported(judgement: Judgement, *, arm: str = "arm") -> list[str]:
    """What the evidence supports, most important first; `arm` is what an arm is called."""
    if len(judgement.verdicts) == 1:
        return [_about_one(judgement.verdicts[0])]
    best = judgement.ranked[0]
    base = next(named(verdict) for verdict in judgement.verdicts if verdict.scores.arm is judgement.baseline)
    said = [
        f"{named(best)} has the highest IQM of {plural(len(judgement.verdicts), arm)} on {judgement.where}:"
        f" {_with_interval(best)}."
    ]
    compared = [verdict for verdict in judgement.ranked if verdict.comparison is not None]
    if not compared:
        return [*said, "A single seed an arm cannot tell a difference from chance: this supports no ranking."]
    better: list[Verdict] = []
    worse: list[Verdict] = []
    unsure: list[Verdict] = []
    for verdict in compared:
        assert verdict.comparison is not None
        if verdict.comparison.adjusted_p >= SIGNIFICANT:
            unsure.append(verdict)
        else:
            (better if verdict.comparison.difference.point > 0 else worse).append(verdict)
    for found, word in ((better, "Better"), (worse, "Worse")):
        if found:
            said.append(f"{word} than {base}, beyond chance (Holm-adjusted p < {SIGNIFICANT}): {_listed(found)}.")
    if len(unsure) == len(compared):
        said.append(f"No {arm} is told apart from {base} by these runs: the evidence supports no ranking of {arm}s.")
    elif unsure:
        said.append(f"Not told apart from {base} by these runs: {_listed(unsure)}.")
    return said


def doubts(study: Study, judgement: Judgement) -> list[str]:
    """What stands against the numbers."""
    verdicts, runs = judgement.verdicts, judgement.runs
    found = comparisons.warnings([verdict.seeds for verdict in verdicts], len(judgement.tasks))
    seeds = next((verdict.seeds for verdict in verdicts if verdict.scores.arm is judgement.baseline), 0)
    pairs = {verdict.label: (verdict.seeds, seeds) for verdict in verdicts if verdict.comparison is not None}
    found += comparisons.hopeless(pairs, len(judgement.tasks), level=SIGNIFICANT)
    if failed := sum(run.state == "failed" for run in runs):
        found.append(f"{failed} of {plural(len(runs), 'run')} failed and count with the score they failed at.")
    if unfinished := len(study.runs) - len(runs):
        found.append(f"Not ended, and left out of the final scores: {plural(unfinished, 'run')} of {len(study.runs)}.")
    elif any(run.state in _UNFINISHED for run in runs):
        found.append("No run has ended: these are the scores so far.")
    if left_out := sum(verdict.scores.left_out for verdict in verdicts):
        found.append(f"{plural(left_out, 'run')} left out of the aggregates: the seed lacks another game of its arm.")
    if repeated := sum(duplicates(arm, runs) for arm in study.arms):
        found.append(f"A seed that was run twice counts once: {plural(repeated, 'run')} left out.")
    if scoreless := len(study.arms) - len(verdicts):
        found.append(f"{plural(scoreless, 'arm')} of {len(study.arms)} without any score: left out.")
    if missing := [task for task in study.tasks if task not in judgement.tasks]:
        found.append(f"Not every arm has a score on {', '.join(missing)}: left out of the comparison.")
    if len(budgets := {run.budget for run in runs}) > 1:
        found.append(f"The runs have different budgets ({min(budgets):,} to {max(budgets):,} steps).")
    differences = [minimum_detectable_difference(v.scores.matrix) for v in verdicts if v.seeds > 1]
    if len(verdicts) > 1 and differences:
        found.append(
            "With this spread between seeds, a difference of two arms' means below"
            f" {number(float(np.median(differences)))} would be missed more than 20\u00a0% of the time."
        )
    if judgement.metric == TRAIN_RETURN:
        found.append("Scores are training returns, exploration included: no separate evaluation was made.")
    if judgement.scale.kind == "hns" and "DoubleDunk" in judgement.tasks:
        found.append(
            "Double Dunk's human and random scores are 2.2 points apart: one basket is about one"
            " human-normalised unit and rules the mean, so read IQM and median."
        )
    return found


def _about_one(only: Verdict) -> str:
    if only.seeds == 1:
        return f"{named(only)} ends at {number(only.iqm.point)}; one seed gives no interval, supports no claim."
    runs = plural(only.scores.matrix.size, "run")
    return f"{named(only)} ends at an IQM of {_with_interval(only)} over {runs}."


def named(verdict: Verdict) -> str:
    """An arm, and how many of its runs failed: what they failed at is a score that they might not have kept."""
    runs = verdict.scores.arm.runs
    failed = sum(run.state == "failed" for run in runs)
    return f"{verdict.label} [{failed} of {plural(len(runs), 'run')} failed]" if failed else verdict.label


def _with_interval(verdict: Verdict) -> str:
    if verdict.seeds == 1:
        return number(verdict.iqm.point)
    interval = verdict.iqm
    return f"{number(interval.point)} (95\u00a0% interval {number(interval.low)} to {number(interval.high)})"


def _listed(verdicts: Sequence[Verdict], most: int = 6) -> str:
    shown = [f"{named(v)} ({p_text(v.comparison.adjusted_p)})" for v in verdicts[:most] if v.comparison]
    rest = len(verdicts) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")
