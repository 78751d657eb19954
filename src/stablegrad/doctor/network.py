"""Illnesses of what the network has become: its units, its features, its curvature, its churn."""

import numpy as np

from stablegrad.doctor.findings import Finding, succession
from stablegrad.doctor.illnesses import Illness
from stablegrad.doctor.pictures import number
from stablegrad.doctor.reading import early, has_convolutions, ill_since, is_late, late, matrix, median, picture
from stablegrad.doctor.signals import Signals
from stablegrad.runs.series import Floats, Series


def dead(signals: Signals, illness: Illness) -> Finding | None:
    """Most units are dead, whether they died or were born so."""
    total = signals.get("units/dead/total")
    if total is None:
        return None
    share = median(late(signals, total))
    if share < illness["share"]:
        return None
    recent = late(signals, total)
    shares = {name: median(late(signals, series)) for name, series in signals.layers("units/dead").items()}
    named = tuple(layer for layer, dead_share in shares.items() if dead_share >= illness["layer"])
    return Finding(
        illness=illness,
        severity="critical" if share >= illness["layer"] else "warning",
        summary=f"{share:.0%} of the hidden units are dead: they give 0 on every input.",
        confidence=succession(int((recent.values >= illness["share"]).sum()), len(recent)),
        evidence={"share of dead units": share, "ill from": illness["share"], **_inputs(signals, "units/batch_size")},
        since=ill_since(total.steps, total.values >= illness["share"]),
        layers=named,
        picture=picture("units/dead/total", total),
    )


def dormancy(signals: Signals, illness: Illness) -> Finding | None:
    """The share of dormant units rose, and as a trend."""
    share = signals.get("units/dormant/total")
    if share is None or len(share) < 6:
        return None
    before, now = median(early(signals, share)), median(late(signals, share, share=0.25))
    trend = rank_correlation(share.values)
    limit = max(before + illness["rise"], illness["level"])
    if now < limit or trend < illness["trend"]:
        return None
    recent = late(signals, share, share=0.25)
    return Finding(
        illness=illness,
        severity="warning",
        summary=f"The share of dormant units rose from {before:.0%} to {now:.0%}.",
        confidence=succession(int((recent.values >= limit).sum()), len(recent)),
        evidence={"first quarter": before, "last quarter": now, "rank correlation with the step": trend,
                  "ill from": limit},
        since=ill_since(share.steps, share.values >= limit),
        picture=picture("units/dormant/total", share),
    )  # fmt: skip


def rank(signals: Signals, illness: Illness) -> Finding | None:
    """Few directions, one that outweighs all others, and inputs that point the same way: all three at once.

    Each alone is ordinary somewhere: few directions for small observations, a heavy first one for ReLU features. What
    counts as few depends on what there is to tell apart: images, or an observation of a few numbers.
    """
    names = ("ranks/effective_rank", "ranks/stable_rank", "features/cosine")
    found = {name: series for name in names if (series := signals.get(name)) is not None}
    steps, values = matrix(found)
    if len(found) < len(names) or not len(steps):
        return None
    few = illness["effective_rank" if has_convolutions(signals.layers("weights/norm")) else "effective_rank_small"]
    ill = (values[:, 0] < few) & (values[:, 1] < illness["stable_rank"]) & (values[:, 2] > illness["cosine"])
    recent = is_late(signals, steps)
    directions, weight, cosine = np.median(values[recent], axis=0).tolist()
    if ill[recent].mean() <= 0.5:
        return None
    return Finding(
        illness=illness,
        severity="warning",
        summary=f"The features span {number(directions)} effective directions, and one outweighs all others.",
        confidence=succession(int(ill[recent].sum()), int(recent.sum())),
        evidence={
            "effective rank": directions,
            "ill below": few,
            "stable rank": weight,
            "and below": illness["stable_rank"],
            "cosine between two inputs' features": cosine,
            "and above": illness["cosine"],
            **_inputs(signals, "ranks/ceiling"),
        },
        since=ill_since(steps, ill),
        picture=picture("ranks/effective_rank", found["ranks/effective_rank"], log=True),
    )


def churn(signals: Signals, illness: Illness) -> Finding | None:
    """Single iterations changed the values many times more than iterations do in this run."""
    value = signals.get("churn/value")
    if value is None:
        return None
    recent = late(signals, value)
    typical = median(recent)
    if len(recent) < 5 or typical <= 0:
        return None
    spikes = recent.values > illness["factor"] * typical
    if not spikes.any():
        return None
    largest = int(recent.values.argmax())
    return Finding(
        illness=illness,
        severity="warning",
        summary=(
            f"At step {recent.steps[largest]:,} one iteration changed the values"
            f" {number(recent.values[largest] / typical)} times as much as others do."
        ),
        # A spike is rare by nature: what counts is how far it stands out.
        confidence=1 - illness["factor"] * typical / float(recent.values[largest]) / 2,
        evidence={
            "spikes": float(spikes.sum()),
            "iterations looked at": float(len(recent)),
            "largest / median": float(recent.values[largest] / typical),
            "ill above": illness["factor"],
        },
        since=int(recent.steps[np.flatnonzero(spikes)[0]]),
        picture=picture("churn/value", value),
    )


def curvature(signals: Signals, illness: Illness) -> Finding | None:
    """The Hessian's trace fell to next to nothing and its error is no larger, or there is no curvature at all.

    It is held against the run's first half, whose median a single spike does not move.
    """
    trace, top = signals.get("curvature/hessian_trace"), signals.get("curvature/hessian_top_eigenvalue")
    if trace is None or top is None or len(trace) < 4:
        return None
    before = float(np.median(np.abs(early(signals, trace, share=0.5).values)))
    limit = illness["fraction"] * before
    recent = late(signals, trace)
    error = signals.get("curvature/hessian_trace_standard_error")
    size = np.abs(recent.values) + (0.0 if error is None else 2 * median(late(signals, error)))
    none = median(Series(recent.steps, np.abs(late(signals, top).values))) < illness["nothing"]
    flat = size < limit
    if not none and np.median(size) >= limit:
        return None
    return Finding(
        illness=illness,
        severity="warning",
        summary=(
            "The loss has no curvature: its Hessian is zero."
            if none
            else f"The Hessian's trace fell to {np.median(size) / before:.2%} of what it was."
        ),
        confidence=succession(len(recent) if none else int(flat.sum()), len(recent)),
        evidence={
            "|trace| and twice its error, last half": float(np.median(size)),
            "|trace|, first half": before,
            "|top eigenvalue|, last half": float(np.median(np.abs(late(signals, top).values))),
            "ill below": limit,
        },
        since=ill_since(trace.steps, np.abs(trace.values) < limit),
        picture=picture("curvature/hessian_trace", trace),
    )


def rank_correlation(values: Floats) -> float:
    """Spearman's rank correlation of a series with time, in [-1, 1]; 0 for a constant one."""
    ranks = np.array([(values < value).sum() + (values == value).sum() / 2 for value in values])
    times = np.arange(len(values), dtype=float)
    spread = ranks.std() * times.std()
    return float(((ranks - ranks.mean()) * (times - times.mean())).mean() / spread) if spread > 0 else 0.0


def _inputs(signals: Signals, metric: str) -> dict[str, float]:
    """On how few inputs the figures rest."""
    series = signals.get(metric)
    return {} if series is None else {"judged on" if "batch" in metric else "at most": float(series.values[-1])}
