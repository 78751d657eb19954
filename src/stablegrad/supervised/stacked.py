"""Many seeds as one network: S networks of one shape side by side, from [S, B, *] to [S, B, n].

At small widths a training step is mostly overhead (dispatch, autograd, the optimizer's walk over parameters), and a
step of S stacked networks costs little more of it than a step of one. Every layer with parameters is replaced by
its stacked twin; what lies between the layers works on the last dimensions and does not notice. Nothing is shared
between seeds: where the loss is the sum over seeds, each network gets the gradient of its own.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

_PROBE_ROWS = 4
_TOLERANCE = 1e-4


class NotStackable(Exception):
    """The networks cannot be stacked; the message says why."""


def stack_networks(networks: Sequence[nn.Module], example: Tensor) -> nn.Module:
    """One module that maps [S, B, *] to [S, B, n] as `networks[s]` maps [B, *] to [B, n].

    Its parameters are copies, under the names that one network's have, with a leading dimension S. `example` [B, *]
    is passed through both as a proof. Raises NotStackable when a layer has no stacked twin or the outputs differ.
    """
    stacked = _stack(networks, path="")
    rows = example[:_PROBE_ROWS]
    with torch.no_grad():
        expected = torch.stack([network(rows) for network in networks])
        try:
            found = stacked(rows.expand(len(networks), *rows.shape))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise NotStackable(f"it does not take a dimension of seeds: {error}") from error
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise NotStackable("stacked, it does not compute what it computes alone")
    return stacked


def _stack(modules: Sequence[nn.Module], *, path: str) -> nn.Module:
    first = modules[0]
    if type(first) in _FOLDED:
        return Folded(first)
    if next(first.parameters(recurse=False), None) is not None:
        if next(first.children(), None) is not None or next(first.buffers(), None) is not None:
            raise NotStackable(f"its layer '{path}' ({type(first).__name__}) is more than a weight and a bias")
        return _TWINS.get(type(first), InTurn)(modules)
    clone = copy.copy(first)
    clone._buffers = dict(first._buffers)
    clone._modules = {
        name: _stack([module.get_submodule(name) for module in modules], path=f"{path}.{name}".lstrip("."))
        for name, _ in first.named_children()
    }
    return clone


class _Stacked(nn.Module):
    """A layer's parameters, each [S, *], under their own names."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.names = [name for name, _ in layers[0].named_parameters()]
        for name in self.names:
            stacked = torch.stack([layer.get_parameter(name).detach() for layer in layers])
            self.register_parameter(name, nn.Parameter(stacked))


class StackedLinear(_Stacked):
    """y[s] = x[s] W[s]^T + b[s]: x [S, B, in], W [S, out, in], b [S, out]."""

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.names:
            return torch.bmm(x, self.get_parameter("weight").mT)
        return _BatchedLinear.apply(x, self.weight, self.bias)


class _BatchedLinear(torch.autograd.Function):
    """x W^T + b. torch's own derivative of the batched product makes dW transposed, and then copies it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        (dy,) = gradients
        dx = torch.bmm(dy, weight) if ctx.needs_input_grad[0] else None
        return dx, torch.bmm(dy.mT, x), dy.sum(dim=1)


class InTurn(_Stacked):
    """Seeds take turns in layers that would cost more as one batched call than as S plain ones: convolutions."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__(layers)
        self._layer = (layers[0],)  # in a tuple: its parameters are not ours

    def forward(self, x: Tensor) -> Tensor:
        parameters = [self.get_parameter(name).unbind() for name in self.names]
        return torch.stack([self.of_seed(x_s, *own) for x_s, *own in zip(x.unbind(), *parameters, strict=True)])

    def of_seed(self, x: Tensor, *own: Tensor) -> Tensor:
        """What the layer makes of one seed's x [B, *] with that seed's parameters."""
        return functional_call(self._layer[0], dict(zip(self.names, own, strict=True)), (x,))


class StackedLayerNorm(InTurn):
    """Layer normalisation; batched as long as it is light, for scaling the whole stack takes memory's time."""

    LIGHT = 2**16

    def __init__(self, layers: Sequence[nn.LayerNorm]) -> None:
        super().__init__(layers)
        self.shape, self.eps = layers[0].normalized_shape, layers[0].eps

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > self.LIGHT or "bias" not in self.names:
            return super().forward(x)
        normal = functional.layer_norm(x, self.shape, eps=self.eps)
        weight, bias = (self.get_parameter(name).unsqueeze(1) for name in ("weight", "bias"))
        return torch.addcmul(bias, normal, weight)

    def of_seed(self, x: Tensor, *own: Tensor) -> Tensor:
        weight, bias = (*own, None, None)[:2]
        return functional.layer_norm(x, self.shape, weight, bias, self.eps)


class Folded(nn.Module):
    """A layer without parameters that knows one batch dimension only: seeds and rows become one."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


_FOLDED = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)

_TWINS: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedLayerNorm,
}
"""Layers whose seeds need not take turns, or not in the general way."""
