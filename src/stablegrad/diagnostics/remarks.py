"""What the numbers of one look at a network say, in plain words.

Thresholds are data. They are rules of thumb for a single look: what grows over a run is the doctor's business.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from stablegrad.diagnostics.catalogue import entry

Severity = Literal["warning", "note"]


@dataclass(frozen=True)
class Remark:
    """One sentence about a network, and the metrics that it rests on."""

    severity: Severity
    text: str
    metrics: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A remark that is made when `metric` lies beyond `limit`; `text` may use {value} and {layers}.

    A metric with `{layer}` is looked at in every layer, and all that are beyond are named in one remark.
    """

    metric: str
    worse: Literal["above", "below"]
    limit: float
    text: str
    source: str


THRESHOLDS = (
    Threshold(
        metric="units/dead/total",
        worse="above",
        limit=0.1,
        text="{value:.0%} of the hidden units never fire on this batch, so no gradient reaches them: a lower"
        " learning rate, layer norm, or recycling units (ReDo) have helped.",
        source="Sokar et al., 2023; Lyle et al., 2023; limit: stablegrad",
    ),
    Threshold(
        metric="units/dead/{layer}",
        worse="above",
        limit=0.5,
        text="More than half of the units are dead in layer {layers}.",
        source="stablegrad",
    ),
    Threshold(
        metric="units/dormant/total",
        worse="above",
        limit=0.25,
        text="{value:.0%} of the hidden units are dormant: that part of the network's width does next to nothing.",
        source="Sokar et al., 2023; limit: stablegrad",
    ),
    Threshold(
        metric="units/grama/total",
        worse="above",
        limit=0.25,
        text="Hardly any gradient reaches {value:.0%} of the hidden units: they cannot learn, whatever they output.",
        source="Liu et al., 2025; limit: stablegrad",
    ),
    Threshold(
        metric="units/saturated/total",
        worse="above",
        limit=0.1,
        text="{value:.0%} of the tanh or sigmoid units are saturated on every input: smaller weights or layer norm"
        " in front of them keep their slope.",
        source="Glorot & Bengio, 2010; limit: stablegrad",
    ),
    Threshold(
        metric="features/cosine",
        worse="above",
        limit=0.98,
        text="All inputs look nearly the same to the head (mean cosine {value:.3f}): the representation has"
        " collapsed, or the batch holds one situation only.",
        source="Kumar et al., 2022; limit: stablegrad",
    ),
    Threshold(
        metric="features/ntk_effective_rank",
        worse="below",
        limit=1.5,
        text="The tangent kernel has rank {value:.1f}: an update on one input moves all the others alike.",
        source="Tang et al., 2025; limit: stablegrad",
    ),
    Threshold(
        metric="gradients/below_median_share",
        worse="above",
        limit=0.2,
        text="{value:.0%} of the layers get less than a tenth of the median layer's gradient: skip connections"
        " (multi-skip), layer norm, or an optimizer that rescales layers (Adam, Kron) have helped.",
        source="Castanyer et al., 2025; limit: stablegrad",
    ),
    Threshold(
        metric="churn/policy",
        worse="above",
        limit=0.3,
        text="{value:.0%} of the greedy actions changed between the two networks.",
        source="Schaul et al., 2022; limit: stablegrad",
    ),
)


def remarks(metrics: Mapping[str, float]) -> tuple[Remark, ...]:
    """Remarks on the metrics of one network, warnings first; none when nothing stands out."""
    found = [remark for threshold in THRESHOLDS if (remark := _beyond(threshold, metrics))]
    found += [remark for look in _LOOKS if (remark := look(metrics))]
    return tuple(sorted(found, key=lambda remark: remark.severity != "warning"))


def _beyond(threshold: Threshold, metrics: Mapping[str, float]) -> Remark | None:
    pattern = entry(threshold.metric)
    sign = 1 if threshold.worse == "above" else -1
    beyond = {
        name: value
        for name, value in metrics.items()
        if entry(name) == pattern and sign * (value - threshold.limit) > 0
    }
    if not beyond:
        return None
    prefix = pattern.name.partition("{")[0]
    layers = ", ".join(name.removeprefix(prefix) for name in beyond)
    worst = max(beyond.values(), key=lambda value: sign * value)
    return Remark("warning", threshold.text.format(value=worst, layers=layers), tuple(beyond))


def _not_finite(metrics: Mapping[str, float]) -> Remark | None:
    broken = tuple(name for name, value in metrics.items() if math.isnan(value) and name.endswith("total"))
    if not broken:
        return None
    return Remark("warning", f"Not a number: {', '.join(broken)}. The network or its inputs hold NaN.", broken)


def _no_gradient(metrics: Mapping[str, float]) -> Remark | None:
    if metrics.get("gradients/raw/total") != 0.0:
        return None
    return Remark("warning", "No gradient at all reaches the network.", ("gradients/raw/total",))


def _vanishing(metrics: Mapping[str, float]) -> Remark | None:
    """The first layer's gradient a thirtieth of that of the layer before the head, or less. Threshold: stablegrad.

    The head itself is left out: its usual small initialisation makes all others look starved.
    """
    prefix = "gradients/raw/"
    layers = [name for name in metrics if name.startswith(prefix) and name != f"{prefix}total"][:-1]
    if len(layers) < 2 or not 0 < metrics[layers[0]] < metrics[layers[-1]] / 30:
        return None
    first, last = (name.removeprefix(prefix) for name in (layers[0], layers[-1]))
    text = (
        f"The gradient shrinks {metrics[layers[-1]] / metrics[layers[0]]:.0f}-fold from {last} to {first}: it vanishes"
        " towards the input. Skip connections (multi-skip) or layer norm keep it up."
    )
    return Remark("warning", text, (layers[0], layers[-1]))


def _low_rank(metrics: Mapping[str, float]) -> Remark | None:
    """A twentieth of what the batch and the width allow. Threshold: stablegrad."""
    rank, ceiling = metrics.get("ranks/effective_rank", math.nan), metrics.get("ranks/ceiling", math.nan)
    if not rank < 0.05 * ceiling:
        return None
    text = f"The features use {rank:.1f} of {ceiling:.0f} directions (effective rank): the representation is collapsed."
    return Remark("warning", text, ("ranks/effective_rank", "ranks/ceiling"))


def _headless(metrics: Mapping[str, float]) -> Remark | None:
    if "weights/norm/total" not in metrics or "ranks/srank" in metrics:
        return None
    text = (
        "The output is not what one layer returned, so features cannot be told from the head and ranks are missing:"
        " diagnose the part of the network that ends in a layer."
    )
    return Remark("note", text, ("weights/norm/total",))


def _bounded_rank(metrics: Mapping[str, float]) -> Remark | None:
    """srank within a tenth of a ceiling that the batch sets."""
    rank, rows, ceiling = (metrics.get(f"ranks/{name}", math.nan) for name in ("srank", "batch_size", "ceiling"))
    if not (ceiling == rows and rank >= 0.9 * ceiling):
        return None
    text = f"The ranks are bounded by the batch of {rows:.0f} inputs: take more to see them."
    return Remark("note", text, ("ranks/srank", "ranks/batch_size"))


def _flat(metrics: Mapping[str, float]) -> Remark | None:
    """Hutchinson's estimate within two standard errors of zero."""
    name = "curvature/hessian_trace"
    trace, error = metrics.get(name, math.nan), metrics.get(f"{name}_standard_error", math.nan)
    if not abs(trace) <= 2 * error:
        return None
    text = f"The Hessian's trace is not told apart from 0 ({trace:.3g} +- {error:.2g}): a flat loss, or too few probes."
    return Remark("note", text, (name, f"{name}_standard_error"))


_LOOKS: tuple[Callable[[Mapping[str, float]], Remark | None], ...] = (
    _not_finite,
    _no_gradient,
    _vanishing,
    _low_rank,
    _headless,
    _bounded_rank,
    _flat,
)
