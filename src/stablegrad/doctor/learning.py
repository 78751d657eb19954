"""Illnesses of the outcome: broken runs, values beyond what a game can pay, scores that never rose or fell again."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stablegrad.doctor.findings import Finding, Picture, succession
from stablegrad.doctor.illnesses import Illness
from stablegrad.doctor.pictures import number
from stablegrad.doctor.reading import ill_since, late, picture
from stablegrad.doctor.signals import VALUES, Signals

_PARTS = 10


class Part(NamedTuple):
    """The games that ended in one tenth of the run: how many, their mean score and its standard error."""

    start: int
    games: int
    mean: float
    error: float


def failed(signals: Signals, illness: Illness) -> Finding | None:
    """The run says so itself, or it logged a loss or gradient that is not finite."""
    broken = {
        name: int(series.steps[np.flatnonzero(~np.isfinite(series.values))[0]])
        for name, series in signals.series.items()
        if name.startswith(("losses/", "gradients/raw/")) and not np.isfinite(series.values).all()
    }
    says_so = signals.status.get("state") == "failed"
    if not says_so and not broken:
        return None
    evidence: dict[str, float | str] = {}
    if says_so:
        evidence["reason"] = str(signals.status.get("reason", "none was recorded"))
    if broken:
        first = min(broken, key=lambda name: broken[name])
        evidence["first metric that is not finite"] = first
    since = min(broken.values()) if broken else int(signals.status.get("step", signals.last_step))
    return Finding(
        illness=illness,
        severity="critical",
        summary=f"The run broke down at step {since:,}" + (f": {signals.status['reason']}" if "reason" in signals.status
                                                           else "."),
        confidence=1.0,
        evidence=evidence,
        since=since,
    )  # fmt: skip


def divergence(signals: Signals, illness: Illness) -> Finding | None:
    """Values above what any game can pay.

    A discounted return cannot exceed 1 / (1 - gamma) where rewards are clipped to 1, nor, where all rewards of a
    game have one sign, the game's score.
    """
    values = signals.get(*VALUES)
    if values is None or signals.config.get("normalize_reward"):
        return None
    gamma = signals.config.get("gamma")
    gamma = 0.99 if gamma is None else float(gamma)
    if signals.config.get("reward_clip") and gamma < 1:
        largest, why = 1 / (1 - gamma), "1 / (1 - gamma)"
    elif signals.games is not None:
        largest, why = float(np.abs(signals.games.values).max()), "largest |score| of a game"
    else:
        return None
    limit = illness["excess"] * max(largest, 1.0)
    recent = late(signals, values, share=0.25)
    typical = float(np.median(np.abs(recent.values)))
    if typical <= limit:
        return None
    return Finding(
        illness=illness,
        severity="critical",
        summary=f"The network predicts returns of {number(typical)} on average; no game can pay {number(largest)}.",
        confidence=succession(int((np.abs(recent.values) > limit).sum()), len(recent)),
        evidence={"mean |value|, last quarter": typical, why: largest, "ill above": limit},
        since=ill_since(values.steps, np.abs(values.values) > limit),
        picture=picture("values", values, log=bool((values.values > 0).all())),
    )


def never_learned(signals: Signals, illness: Illness) -> Finding | None:
    """No tenth of the run stands significantly above the first games."""
    parts = _parts(signals, least=illness["games"])
    if parts is None or signals.last_step < illness["started"] * signals.budget:
        return None
    first, *others = parts
    rises = [_rise(first, part) for part in others]
    if max(rises) >= illness["significance"]:
        return None
    best = max(others, key=lambda part: part.mean)
    fell = min(rises) <= -illness["significance"] and rises[-1] < 0
    return Finding(
        illness=illness,
        severity="warning",
        summary=(
            f"The score did not rise: {number(first.mean)} in the first games,"
            f" {number(parts[-1].mean)} in the last" + (", which is significantly worse." if fell else ".")
        ),
        confidence=succession(sum(rise < illness["significance"] for rise in rises), len(rises)),
        evidence={
            "mean score, first tenth": first.mean,
            "mean score, best tenth": best.mean,
            "mean score, last tenth": parts[-1].mean,
            "best rise, standard errors": max(rises),
            "ill below": illness["significance"],
            "share of the budget so far": signals.last_step / max(signals.budget, 1),
        },
        since=first.start,
        picture=_curve(parts),
    )


def stopped(signals: Signals, illness: Illness) -> Finding | None:
    """The score rose and fell again for good; a score that only stands still is a remark, not an illness.

    A fifth of the run is compared with a fifth: single tenths go up and down in healthy runs.
    """
    parts = _parts(signals, least=illness["games"])
    if parts is None:
        return None
    first = parts[0]
    fifths = [_pooled(one, other) for one, other in itertools.pairwise(parts)]
    best, last = max(fifths[1:], key=lambda part: part.mean), fifths[-1]
    if _rise(first, best) < illness["significance"]:
        return None
    lost = (best.mean - last.mean) / (best.mean - first.mean)
    evidence: dict[str, float | str] = {
        "mean score, first tenth": first.mean,
        "mean score, best fifth": best.mean,
        "mean score, last fifth": last.mean,
        "share of the gain that was lost": lost,
        "ill above": illness["loss"],
    }
    if lost <= illness["loss"] or _rise(last, best) < illness["significance"]:
        return _plateau(illness, parts, evidence)
    half_lost = best.mean - illness["loss"] * (best.mean - first.mean)
    after = [part for part in parts if part.start > best.start]
    since = ill_since(np.array([part.start for part in after]), np.array([part.mean < half_lost for part in after]))
    return Finding(
        illness=illness,
        severity="warning",
        summary=f"The score rose from {number(first.mean)} to {number(best.mean)} and fell to {number(last.mean)}.",
        confidence=1 - math.erfc(_rise(last, best) / math.sqrt(2)) / 2,
        evidence=evidence,
        since=since,
        picture=_curve(parts),
    )


def _plateau(illness: Illness, parts: Sequence[Part], evidence: dict[str, float | str]) -> Finding | None:
    """The last fifth of the run does not stand above the one in its middle."""
    if len(parts) < _PARTS:
        return None
    middle, last = _pooled(*parts[_PARTS // 2 - 1 : _PARTS // 2 + 1]), _pooled(*parts[-2:])
    rise = _rise(middle, last)
    if rise >= illness["still"]:
        return None
    return Finding(
        illness=illness,
        severity="info",
        summary=f"The score has stood at about {number(last.mean)} since half of the run: solved, or stuck.",
        confidence=math.erfc((rise - illness["still"]) / math.sqrt(2)) / 2,
        evidence={**evidence, "rise since the middle, standard errors": rise, "still below": illness["still"]},
        since=middle.start,
        picture=_curve(parts),
    )


def _parts(signals: Signals, *, least: float) -> list[Part] | None:
    """The games by tenths of the run so far; tenths with fewer than three games are left out, None if few remain."""
    games = signals.games
    if games is None or len(games) < least:
        return None
    edges = np.linspace(0, signals.last_step, _PARTS + 1)
    found = []
    for low, high in itertools.pairwise(edges):
        scores = games.values[(games.steps > low) & (games.steps <= high)]
        if len(scores) >= 3:
            error = float(scores.std(ddof=1)) / math.sqrt(len(scores))
            found.append(Part(int(low), len(scores), float(scores.mean()), error))
    return found if len(found) >= 3 else None


def _rise(before: Part, after: Part) -> float:
    """How many standard errors the mean score stands higher; infinite where neither varies."""
    error = math.hypot(before.error, after.error)
    difference = after.mean - before.mean
    if error > 0:
        return difference / error
    return math.copysign(math.inf, difference) if difference else 0.0


def _pooled(one: Part, other: Part) -> Part:
    """Two parts as one."""
    games = one.games + other.games
    mean = (one.games * one.mean + other.games * other.mean) / games
    error = math.hypot(one.games * one.error, other.games * other.error) / games
    return Part(one.start, games, mean, error)


def _curve(parts: Sequence[Part]) -> Picture:
    """Mean scores by tenths of the run."""
    return Picture("mean score by tenths of the run", tuple(p.start for p in parts), tuple(p.mean for p in parts))
