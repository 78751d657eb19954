"""The parts that encoders and trunks are made of.

Every activation is a module of its own place, never shared, so that taps can tell the places apart.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablegrad.nn.spec import NetworkSpec

LinearFactory = Callable[[int, int], nn.Module]
"""`linear(in_features, out_features)` makes a linear layer: `nn.Linear`, `NoisyLinear`, `SpectralLinear`."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def activation(spec: NetworkSpec) -> nn.Module:
    """A new module of the spec's activation function."""
    return _ACTIVATIONS[spec.activation_fn]()


def stage(
    name: str, layer: nn.Module, shape: Sequence[int], *, spec: NetworkSpec, activated: bool = True
) -> nn.Sequential:
    """layer -> [LayerNorm over `shape`] -> [activation]; parameter names call the layer `name`."""
    parts: OrderedDict[str, nn.Module] = OrderedDict({name: layer})
    if spec.use_ln:
        parts["norm"] = nn.LayerNorm(list(shape))
    if activated:
        parts["activation"] = activation(spec)
    return nn.Sequential(parts)


def residual_branch(
    name: str, layer: Callable[[], nn.Module], shape: Sequence[int], *, spec: NetworkSpec
) -> nn.Sequential:
    """F(h) = LN1(W1 a(LN0(W0 a(h)))): pre-activation, no activation behind it. The caller adds the skip.

    `layer()` makes a layer whose outputs, like its inputs, have `shape`.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for index in (0, 1):
        parts[f"activation{index}"] = activation(spec)
        parts[f"{name}{index}"] = layer()
        if spec.use_ln:
            parts[f"norm{index}"] = nn.LayerNorm(list(shape))
    return nn.Sequential(parts)


class SpectralLinear(nn.Linear):
    """A linear layer with weight W / sigma(W), the spectral norm sigma estimated by power iteration.

    Miyato et al. 2018 (arXiv 1802.05957). The forward pass is pure: it makes one iteration from the buffer
    `u` [out_features] and does not store it. `advance_power_iteration_` does, after each optimizer step.
    """

    u: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("u", functional.normalize(torch.ones(out_features), dim=0))

    def iterate(self) -> tuple[Tensor, Tensor]:
        """One power iteration: the left and right singular vectors (u [out], v [in]), without a gradient."""
        with torch.no_grad():
            v = functional.normalize(self.weight.t() @ self.u, dim=0)
            return functional.normalize(self.weight @ v, dim=0), v

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.iterate()
        sigma = torch.dot(u, self.weight @ v)
        return functional.linear(x, self.weight / sigma, self.bias)


def advance_power_iteration_(module: nn.Module) -> None:
    """Store one power iteration in every `SpectralLinear` of `module`: call it after each optimizer step."""
    for layer in module.modules():
        if isinstance(layer, SpectralLinear):
            layer.u.copy_(layer.iterate()[0])
