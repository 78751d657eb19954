"""Illnesses of gradients and steps: exploding, vanishing, absent, or too large for the weights they change."""

import numpy as np

from stablegrad.doctor.findings import Finding, succession
from stablegrad.doctor.illnesses import Illness
from stablegrad.doctor.pictures import number
from stablegrad.doctor.reading import early, hidden, ill_since, is_late, late, matrix, median, picture
from stablegrad.doctor.signals import Signals
from stablegrad.runs.series import Series

_UNCLIPPED = 10.0


def exploding(signals: Signals, illness: Illness) -> Finding | None:
    """The whole gradient grew by orders of magnitude, or one layer's stands that far above the others'."""
    return _growth(signals, illness) or _spread(signals, illness)


def _growth(signals: Signals, illness: Illness) -> Finding | None:
    total = signals.get("gradients/raw/total")
    if total is None:
        return None
    before = median(early(signals, total, start=0.05))
    now = late(signals, total, share=0.25)
    bound = illness["clipped"] * float(signals.config.get("max_grad_norm") or _UNCLIPPED)
    limit = max(illness["growth"] * before, bound)
    if median(now) <= limit:
        return None
    ill = total.values > limit
    return Finding(
        illness=illness,
        severity="warning",
        summary=f"The gradient's norm grew from {number(before)} to {number(median(now))}.",
        confidence=succession(int((now.values > limit).sum()), len(now)),
        evidence={
            "gradient norm, first quarter": before,
            "gradient norm, last quarter": median(now),
            "ill above": limit,
        },
        since=ill_since(total.steps, ill),
        picture=picture("gradients/raw/total", total, log=True),
    )


def _spread(signals: Signals, illness: Illness) -> Finding | None:
    layers = hidden(signals.layers("gradients/raw"))
    steps, norms = matrix(layers)
    if len(layers) < 3 or not len(steps):
        return None
    middle = np.median(norms, axis=1, keepdims=True)
    ratios = np.divide(norms, middle, out=np.ones_like(norms), where=middle > 0)
    recent = is_late(signals, steps)
    typical = np.median(ratios[recent], axis=0)
    large = typical > illness["spread"]
    if not large.any():
        return None
    ill = np.asarray((ratios > illness["spread"]).any(axis=1))
    worst = int(typical.argmax())
    name = list(layers)[worst]
    return Finding(
        illness=illness,
        severity="warning",
        summary=f"The gradient of {name} is {number(typical[worst])} times the median layer's.",
        confidence=succession(int(ill[recent].sum()), int(recent.sum())),
        evidence={"largest layer / median layer": float(typical[worst]), "ill above": illness["spread"]},
        since=ill_since(steps, ill),
        layers=tuple(layer for layer, is_large in zip(layers, large, strict=True) if is_large),
        picture=picture(f"gradients/raw/{name}", layers[name], log=True),
    )


def vanishing(signals: Signals, illness: Illness) -> Finding | None:
    """Layers far below the median one, or a median layer without gradient; exact zeros are `frozen`'s."""
    layers = {name: series for name, series in signals.layers("gradients/raw").items() if series.values.any()}
    layers = hidden(layers)
    steps, norms = matrix(layers)
    if len(layers) < 3 or not len(steps):
        return None
    recent = is_late(signals, steps)
    middle = np.median(norms, axis=1)
    if float(np.median(middle[recent])) < illness["nothing"]:
        return _nothing_left(illness, layers, steps, middle, recent)
    ratios = norms / np.maximum(middle, np.finfo(float).tiny)[:, None]
    typical = np.median(ratios[recent], axis=0)
    starved = [layer for layer, ratio in zip(layers, typical, strict=True) if ratio < illness["fraction"]]
    if not starved:
        return None
    ill = np.asarray((ratios < illness["fraction"]).any(axis=1))
    standing = _relative_step(signals, starved)
    still = standing is not None and standing < illness["standstill"]
    worst = min(starved, key=lambda layer: typical[list(layers).index(layer)])
    evidence: dict[str, float | str] = {
        "smallest layer / median layer": float(typical.min()),
        "ill below": illness["fraction"],
    }
    if standing is not None:
        evidence["their relative step / median layer's"] = standing
    but = "" if still or standing is None else "; the optimizer rescales it, so their weights still change"
    return Finding(
        illness=illness,
        severity="warning" if still or standing is None else "info",
        summary=(
            f"{_count(starved, len(layers))} less than {illness['fraction']:.0%} of the median layer's gradient{but}."
        ),
        confidence=succession(int(ill[recent].sum()), int(recent.sum())),
        evidence=evidence,
        since=ill_since(steps, ill),
        layers=tuple(starved),
        picture=picture(f"gradients/raw/{worst}", layers[worst], log=True),
    )


def _nothing_left(
    illness: Illness, layers: dict[str, Series], steps: np.ndarray, middle: np.ndarray, recent: np.ndarray
) -> Finding:
    ill = middle < illness["nothing"]
    level = float(np.median(middle[recent]))
    return Finding(
        illness=illness,
        severity="critical",
        summary="Hardly any gradient reaches the layers before the head: no optimizer can learn from it.",
        confidence=succession(int(ill[recent].sum()), int(recent.sum())),
        evidence={"gradient norm of the median layer": level, "ill below": illness["nothing"]},
        since=ill_since(steps, ill),
        layers=tuple(layers),
        picture=picture("gradients/raw/ (median layer)", Series(steps, middle), log=True),
    )


def frozen(signals: Signals, illness: Illness) -> Finding | None:
    """Layers whose gradient, or whose change by the optimizer, is exactly 0 in every late row."""
    raw, update = signals.layers("gradients/raw"), signals.layers("gradients/update")
    without_gradient = [layer for layer, series in raw.items() if not late(signals, series).values.any()]
    unchanged = [layer for layer, series in update.items() if not late(signals, series).values.any()]
    still = [layer for layer in raw if layer in without_gradient or layer in unchanged]
    if not still:
        return None
    where = raw if still[0] in without_gradient else update
    series = where[still[0]]
    since = ill_since(series.steps, series.values == 0)
    dead = signals.get(f"units/dead/{still[0]}")
    evidence: dict[str, float | str] = {
        "layers without any gradient": float(len(without_gradient)),
        "layers that the optimizer does not change": float(len(unchanged)),
        "layers in all": float(len(raw)),
    }
    if dead is not None:
        evidence[f"dead units of {still[0]}"] = median(late(signals, dead))
    cause = "no gradient reaches them" if without_gradient else "the optimizer does not change them"
    rows = len(late(signals, series))
    return Finding(
        illness=illness,
        severity="critical" if len(still) > len(raw) / 2 else "warning",
        summary=f"{_count(still, len(raw), verb=('stands', 'stand'))} still: {cause}.",
        confidence=succession(rows, rows),
        evidence=evidence,
        since=since,
        layers=tuple(still),
        picture=picture(f"gradients/{'raw' if where is raw else 'update'}/{still[0]}", series),
    )


def too_large(signals: Signals, illness: Illness) -> Finding | None:
    """The relative step, median over layers without heads.

    Judged by its upper quartile over the run, not by its end: an annealed learning rate is too high while it lasts.
    Or by its peak: a single leap is enough to kill a network, whose steps are small ever after.
    """
    relative = _relative_steps(signals)
    if relative is None:
        return None
    judged = relative.since(0.1 * signals.last_step)
    level, peak = float(np.quantile(judged.values, 0.75)), float(relative.values.max())
    lasting = level > illness["relative_step"]
    if not lasting and peak <= illness["peak"]:
        return None
    shown = judged if lasting else relative
    ill = shown.values > illness["relative_step" if lasting else "peak"]
    return Finding(
        illness=illness,
        severity="warning",
        summary=(
            f"An update changes the weights of a layer by {level:.2%}; about 0.1 % is ordinary."
            if lasting
            else f"At its worst an update changed the weights of a layer by {peak:.1%}; about 0.1 % is ordinary."
        ),
        # A leap is rare by nature: what counts is how far it stands out.
        confidence=succession(int(ill.sum()), len(shown)) if lasting else 1 - illness["peak"] / peak / 2,
        evidence={
            "change / weight": level,
            "ill above": illness["relative_step"],
            "largest change / weight": peak,
            "or above": illness["peak"],
            "learning rate": float(signals.config.get("learning_rate") or float("nan")),
        },
        since=int(shown.steps[np.flatnonzero(ill)[0]]),
        picture=picture("gradients/update / weights/norm (median layer)", relative, log=True),
    )


def _relative_steps(signals: Signals) -> Series | None:
    """||change|| / ||weight|| of the median hidden layer, at the rows that measured a change.

    Weights are measured more rarely than changes and move slowly: the last known norm counts.
    """
    updates, weights = hidden(signals.layers("gradients/update")), signals.layers("weights/norm")
    shared = {layer: series for layer, series in updates.items() if layer in weights}
    steps, changes = matrix(shared)
    if not len(steps):
        return None
    norms = np.stack([_last_known(weights[layer], steps) for layer in shared], axis=1)
    ratios = np.divide(changes, norms, out=np.full_like(changes, np.nan), where=norms > 0)
    found = Series(steps, np.nanmedian(ratios, axis=1)) if np.isfinite(ratios).any(axis=1).all() else None
    return found.finite() if found is not None else None


def _relative_step(signals: Signals, layers: list[str]) -> float | None:
    """The median relative step of these layers, divided by that of the median layer, over the last half."""
    updates, weights = signals.layers("gradients/update"), signals.layers("weights/norm")
    steps = {
        layer: median(late(signals, updates[layer])) / norm
        for layer in hidden(updates)
        if layer in weights and (norm := median(late(signals, weights[layer]))) > 0
    }
    if not steps or not set(layers) & set(steps):
        return None
    middle = float(np.median(list(steps.values())))
    return float(np.median([steps[layer] for layer in layers if layer in steps])) / middle if middle > 0 else None


def _last_known(series: Series, steps: np.ndarray) -> np.ndarray:
    return series.values[np.clip(np.searchsorted(series.steps, steps, side="right") - 1, 0, None)]


def _count(layers: list[str], total: int, verb: tuple[str, str] = ("gets", "get")) -> str:
    """`3 of 14 layers get`; a single layer by its name."""
    return f"{layers[0]} {verb[0]}" if len(layers) == 1 else f"{len(layers)} of {total} layers {verb[1]}"
