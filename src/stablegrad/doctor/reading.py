"""How detectors read a series: its late part, when it became ill for good, how many rows agree."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from stablegrad.doctor.findings import Picture
from stablegrad.doctor.signals import Signals
from stablegrad.runs.series import Floats, Series, Steps

Flags = NDArray[np.bool_]

_PICTURE_POINTS = 60
_MOST = 0.75
_HEADS = frozenset({"actor", "critic", "action_net", "value_net"})
"""Names of layers that make outputs, in this package and in Stable-Baselines3."""


def late(signals: Signals, series: Series, *, share: float = 0.5) -> Series:
    """The last `share` of the run so far, at least one point."""
    return series.since((1 - share) * signals.last_step)


def early(signals: Signals, series: Series, *, start: float = 0.0, share: float = 0.25) -> Series:
    """The part between these shares of the run so far; the first point where there is none."""
    low, high = (int(np.searchsorted(series.steps, part * signals.last_step)) for part in (start, share))
    low = min(low, len(series) - 1)
    return Series(series.steps[low : max(high, low + 1)], series.values[low : max(high, low + 1)])


def is_late(signals: Signals, steps: Steps) -> Flags:
    """Which of the steps lie in the last half of the run so far; at least the last one."""
    return np.asarray(steps >= min(signals.last_step / 2, steps[-1]))


def median(series: Series) -> float:
    return float(np.median(series.values))


def ill_since(steps: Steps, ill: Flags) -> int | None:
    """The first ill step from which on at least three quarters of the points are ill; None where there is none."""
    rest = np.cumsum(ill[::-1])[::-1] / np.arange(len(ill), 0, -1)
    begun = np.flatnonzero(ill & (rest >= _MOST))
    return int(steps[begun[0]]) if len(begun) else None


def picture(metric: str, series: Series, *, log: bool = False) -> Picture:
    """The series thinned to what a small picture can show."""
    kept = np.unique(np.linspace(0, len(series) - 1, min(len(series), _PICTURE_POINTS)).round().astype(int))
    return Picture(metric, tuple(series.steps[kept].tolist()), tuple(series.values[kept].tolist()), log)


def is_head(layer: str) -> bool:
    """Whether a layer makes outputs: heads begin tiny and have gradients of a scale of their own."""
    parts = layer.split(".")
    return "head" in parts or parts[-1] in _HEADS


def has_convolutions(layers: Iterable[str]) -> bool:
    """Whether a network reads images, by its layers' names: `conv`, or `cnn` in Stable-Baselines3."""
    return any({"conv", "cnn"} & set(layer.split(".")) for layer in layers)


def hidden(layers: Mapping[str, Series]) -> dict[str, Series]:
    """The layers that are no heads; all of them where that leaves none."""
    found = {layer: series for layer, series in layers.items() if not is_head(layer)}
    return found or dict(layers)


def matrix(layers: Mapping[str, Series]) -> tuple[Steps, Floats]:
    """Steps `[rows]` at which all layers were logged, and their values `[rows, layers]`; no rows if there are none."""
    if not layers:
        return np.zeros(0, np.int64), np.zeros((0, 0))
    every = list(layers.values())
    common = every[0].steps
    for series in every[1:]:
        common = np.intersect1d(common, series.steps)
    columns = [series.values[np.isin(series.steps, common)] for series in every]
    return common, np.stack(columns, axis=1)
