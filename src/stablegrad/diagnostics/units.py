"""Units that do nothing: dead, dormant, without a gradient, or saturated, as shares of each layer's units.

Every hidden unit counts once, inside residual, multi-skip, DenseNet and IMPALA blocks too: a layer's units
are the outputs of the activation behind it (`nn.taps`). A convolution's unit is a channel, taken over all
positions.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from stablegrad.diagnostics.loss import LossFn, closure
from stablegrad.diagnostics.purity import undisturbed
from stablegrad.errors import UserError, nearest
from stablegrad.nn import taps

T = TypeVar("T")

_ROWS_AT_ONCE = 128
"""Inputs that go through the network together: all activations of that many are held at a time."""


DORMANT_TAU = 0.025
GRAMA_TAU = 0.01
SATURATED_SLOPE = 0.05


class UnitReport(NamedTuple):
    """Shares of units: `total` over all layers (weighted by their units), `layers` by name.

    NaN where there is no such unit, or where an activation is not a number.
    """

    total: float
    layers: dict[str, float]


class UnitStatistics(NamedTuple):
    """What a layer's units did in some `rows` (inputs and positions), `[units]` each: the largest and the
    mean |h|, and for tanh and sigmoid the largest slope of the function, relative to its maximum."""

    rows: int
    largest: Tensor
    mean: Tensor
    slope: Tensor | None


def dead_fraction(module: nn.Module, batch: Any, *, layers: Iterable[str] | None = None) -> UnitReport:
    """Share of units whose output is exactly 0 on every input: for a ReLU, that never fire.

    By the value itself and not its sign, so that a tanh or GELU unit with a negative mean is alive. Raises
    UserError when `layers` names one that has no units.
    """
    return _report({name: dead_of(one) for name, one in statistics(module, batch, layers=layers).items()})


def dormant_fraction(
    module: nn.Module, batch: Any, *, tau: float = DORMANT_TAU, layers: Iterable[str] | None = None
) -> UnitReport:
    """Share of tau-dormant units: s_i = E|h_i| / mean_k E|h_k| <= tau, expectations over inputs and
    positions.

    Sokar et al., 2023 (ReDo). Raises UserError when `layers` names one that has no units.
    """
    found = statistics(module, batch, layers=layers)
    return _report({name: weak_of(one.mean, tau=tau) for name, one in found.items()})


def saturated_fraction(
    module: nn.Module, batch: Any, *, slope: float = SATURATED_SLOPE, layers: Iterable[str] | None = None
) -> UnitReport:
    """Share of tanh and sigmoid units whose slope never exceeds `slope` times its maximum on the batch.

    With 0.05 a tanh unit stays beyond +-0.975 on every input. Layers with other activations are left out.
    Raises UserError when `layers` names one that has no units.
    """
    found = statistics(module, batch, layers=layers)
    return _report({name: saturated_of(one.slope, below=slope) for name, one in found.items() if one.slope is not None})


def grama_fraction(
    module: nn.Module,
    batch: Any,
    loss_fn: LossFn | None = None,
    *,
    tau: float = GRAMA_TAU,
    layers: Iterable[str] | None = None,
) -> UnitReport:
    """Share of units that hardly any gradient reaches: E|dL/dz_i| <= tau * mean_k E|dL/dz_k| (GraMa).

    z is the unit's value before its activation, so that a dead ReLU counts as well as a unit without outgoing
    weights. `loss_fn` takes the network's outputs on `batch`, or nothing (and then runs the module itself);
    without one it is half the mean squared output. Source: Liu et al., 2025, with the tau of its residual
    networks; the paper says "the neuron's gradient", its code takes the gradient of the incoming weights.
    Raises UserError when `layers` names one that has no gradient.
    """
    found = _chosen(gradient_means(module, closure(module, batch, loss_fn)), layers)
    return _report({name: weak_of(mean, tau=tau) for name, mean in found.items()})


def statistics(module: nn.Module, batch: Any, *, layers: Iterable[str] | None = None) -> dict[str, UnitStatistics]:
    """What every layer's units did on `batch`, by layer, in the order of the forward pass; evaluation mode.

    Raises UserError when `layers` names one that has no units.
    """
    rows = batch.split(_ROWS_AT_ONCE) if isinstance(batch, Tensor) else (batch,)
    convolutions = _convolutions(module)
    chunks = []
    with undisturbed(module):
        for some in rows:
            recorded = _chosen(taps.record_units(module, some), layers).items()
            chunks.append(
                {name: _summary(one.function, _by_unit(one.outputs, name in convolutions)) for name, one in recorded}
            )
    return {name: _merged([chunk[name] for chunk in chunks]) for name in chunks[0]}


def gradient_means(module: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """E|dL/dz| of every layer's units, `[units]`, z before the activation; evaluation mode."""
    with undisturbed(module):
        recorded = taps.record_gradients(module, loss, at="inputs")
    convolutions = _convolutions(module)
    return {name: _by_unit(gradient, name in convolutions).abs().mean(dim=0) for name, gradient in recorded.items()}


def dead_of(units: UnitStatistics) -> Tensor:
    """Which units are dead, `[units]`: 1, 0, or NaN where the activation is."""
    return torch.where(units.largest.isnan(), torch.nan, (units.largest == 0).to(units.largest.dtype))


def saturated_of(slope: Tensor, *, below: float = SATURATED_SLOPE) -> Tensor:
    """Which units are saturated, from their largest relative slope `[units]`: 1, 0, or NaN."""
    return torch.where(slope.isnan(), torch.nan, (slope <= below).to(slope.dtype))


def weak_of(means: Tensor, *, tau: float) -> Tensor:
    """Which units are at most `tau` times the layer's mean, from E|.| `[units]`: 1, 0, or NaN.

    A comparison and not a quotient, so that no scale is special: in a layer of zeros every unit is weak, and in one of
    1e-30 the same units are as in one of 1. In float64, where neither a sum nor `tau` times it leaves the range.
    """
    exact = means.double()
    average = exact.mean()
    weak = (exact <= tau * average).to(means.dtype)
    return torch.where(average.isfinite(), weak, torch.nan)


def shares(flags: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layer -> mean of its flags `[units]`, and `total` over all units, as 0-d tensors."""
    if not flags:
        return {}
    return {
        **{name: flag.mean() for name, flag in flags.items()},
        "total": torch.cat([*flags.values()]).mean(),
    }


def all_shares(found: Mapping[str, UnitStatistics]) -> dict[str, Tensor]:
    """Shares of dead, dormant and saturated units with the published thresholds, as `dead/{layer}`, `dead/total`, …"""
    kinds = {
        "dead": {name: dead_of(one) for name, one in found.items()},
        "dormant": {name: weak_of(one.mean, tau=DORMANT_TAU) for name, one in found.items()},
        "saturated": {name: saturated_of(one.slope) for name, one in found.items() if one.slope is not None},
    }
    return {f"{kind}/{name}": share for kind, flags in kinds.items() for name, share in shares(flags).items()}


def _summary(function: str, outputs: Tensor) -> UnitStatistics:
    """From outputs `[rows, units]`."""
    size = outputs.abs()
    slope = None
    if function == "tanh":
        slope = (1 - outputs.square()).amax(dim=0)
    elif function == "sigmoid":
        slope = (4 * outputs * (1 - outputs)).amax(dim=0)
    return UnitStatistics(len(outputs), size.amax(dim=0), size.mean(dim=0), slope)


def _merged(parts: list[UnitStatistics]) -> UnitStatistics:
    """The statistics of all rows from those of chunks of them."""
    rows = sum(part.rows for part in parts)
    slopes = [part.slope for part in parts if part.slope is not None]
    return UnitStatistics(
        rows,
        torch.stack([part.largest for part in parts]).amax(dim=0),
        torch.stack([part.mean * (part.rows / rows) for part in parts]).sum(dim=0),
        torch.stack(slopes).amax(dim=0) if slopes else None,
    )


def _convolutions(module: nn.Module) -> set[str]:
    """The layers whose units are channels: those with a kernel."""
    return {name for name, weight in taps.layers(module).items() if module.get_parameter(weight).ndim > 2}


def _by_unit(values: Tensor, channels: bool) -> Tensor:
    """`values` of a layer's units as `[rows, units]`; channels stand second, other units last.

    Behind a flattening every position of a channel is a unit of its own.
    """
    return values.movedim(1 if channels and values.ndim > 2 else -1, -1).flatten(0, -2)


def _chosen(found: dict[str, T], layers: Iterable[str] | None) -> dict[str, T]:
    if layers is None:
        return found
    asked = [layers] if isinstance(layers, str) else list(layers)
    for name in asked:
        if name not in found:
            raise UserError(f"no layer '{name}' with units{nearest(name, found)}; known: {', '.join(found)}")
    return {name: found[name] for name in asked}


def _report(flags: Mapping[str, Tensor]) -> UnitReport:
    counts = {name: flag.sum().item() for name, flag in flags.items()}
    units = sum(flag.numel() for flag in flags.values())
    total = sum(counts.values()) / units if units else torch.nan
    return UnitReport(total, {name: count / flags[name].numel() for name, count in counts.items()})
