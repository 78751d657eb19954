"""Noisy layers with factorised Gaussian noise (Fortunato et al. 2018, arXiv 1706.10295, section 3).

The noise lies in buffers, so a network is a deterministic function of parameters and buffers. They are zero, and the
network its mean, until `apply_noise_` stores noise in them. `draw_noise(…)` or `zero_noise(…)`, handed to
`torch.func.functional_call` beside the parameters, holds for that call: so Rainbow acts, computes targets and
losses, stores nothing, and evaluates the mean network. Train and eval mode make no difference.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

_NOISE = ("noise_in", "noise_out")


class NoisyLinear(nn.Module):
    """y = (W + S * (e_out e_in^T)) x + b + s * e_out, with e = sign(z) sqrt|z| of independent normals z.

    W, b are `weight`, `bias`, and S, s are `weight_sigma`, `bias_sigma`. With p inputs, W and b start uniform
    in [-1/sqrt(p), 1/sqrt(p)], S and s at sigma0 / sqrt(p). The noise is zero until it is drawn.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, *, sigma0: float = 0.5) -> None:
        super().__init__()
        self.in_features, self.out_features, self.sigma0 = in_features, out_features, sigma0
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.weight_sigma = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.bias_sigma = nn.Parameter(torch.empty(out_features))
        self.register_buffer("noise_in", torch.zeros(in_features))
        self.register_buffer("noise_out", torch.zeros(out_features))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the means anew and set the sigmas back; None draws from torch's global generator."""
        bound = 1 / math.sqrt(self.in_features)
        for mean in (self.weight, self.bias):
            nn.init.uniform_(mean, -bound, bound, generator=generator)
        for sigma in (self.weight_sigma, self.bias_sigma):
            nn.init.constant_(sigma, self.sigma0 * bound)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + self.weight_sigma * torch.outer(self.noise_out, self.noise_in)
        return functional.linear(x, weight, self.bias + self.bias_sigma * self.noise_out)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, sigma0={self.sigma0}"


def draw_noise(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh noise for every `NoisyLinear` of `module`: buffer name -> tensor. Empty where there is none.

    Only `generator` is drawn from.
    """
    return {name: _factor(buffer, generator) for name, buffer in _noise_buffers(module).items()}


def zero_noise(module: nn.Module) -> dict[str, Tensor]:
    """The noise that makes `module` its mean network: buffer name -> zeros. Empty where nothing is noisy."""
    return {name: torch.zeros_like(buffer) for name, buffer in _noise_buffers(module).items()}


def apply_noise_(module: nn.Module, noise: Mapping[str, Tensor]) -> None:
    """Store what `draw_noise` or `zero_noise` gave in the buffers of `module`, in place."""
    buffers = _noise_buffers(module)
    for name, value in noise.items():
        buffers[name].copy_(value)


def _noise_buffers(module: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{name}" if path else name: getattr(layer, name)
        for path, layer in module.named_modules()
        if isinstance(layer, NoisyLinear)
        for name in _NOISE
    }


def _factor(like: Tensor, generator: torch.Generator) -> Tensor:
    normal = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return (normal.sign() * normal.abs().sqrt()).to(like.device)
