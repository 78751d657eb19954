"""How networks are initialised: orthogonal weights and zero biases, drawn from one given generator."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from stablegrad.nn.layers import SpectralLinear, advance_power_iteration_
from stablegrad.nn.noisy import NoisyLinear

GAIN = math.sqrt(2)
"""Orthogonal gain of every layer before the head, whatever the activation (published)."""

_POWER_ITERATIONS = 15


def initialise_(module: nn.Module, *, gain: float = GAIN, generator: torch.Generator | None = None) -> nn.Module:
    """Orthogonal weights and zero biases in every linear and convolutional layer of `module`, in place.

    A convolution's weight is orthogonal as the matrix [out, in * kh * kw]. Norms keep their 1 and 0. Noisy
    layers draw what their paper says. Only `generator` is drawn from (None: torch's global one). Returns
    `module`.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, SpectralLinear):
            layer.u.copy_(functional.normalize(torch.randn(layer.out_features, generator=generator), dim=0))
            for _ in range(_POWER_ITERATIONS):
                advance_power_iteration_(layer)
        elif isinstance(layer, NoisyLinear):
            layer.reset_parameters(generator)
    return module


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Within, constructors draw from torch's global generator as seeded by `generator`; it is put back after.

    With None, nothing is done. The CPU's generator only: modules are built on the CPU.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
