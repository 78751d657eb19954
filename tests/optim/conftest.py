"""What the tests of this room share."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from stablegrad.optim.kron import step_seed


class NoiseReplay:
    """What one parameter group of Kron draws: its noise, in the order it is asked for, and its balancing."""

    def __init__(self, seed: int, group: int = 0) -> None:
        self.seed, self.group = seed, group
        self.at(0)

    def at(self, step: int) -> "NoiseReplay":
        self.bits = step_seed(self.seed, self.group, step)
        self.generator = torch.Generator().manual_seed(self.bits & 0xFFFFFFFF)
        return self

    @property
    def uniform(self) -> float:
        return (self.bits >> 32) / 2**32

    def normal(self, shape: Iterable[int], dtype: torch.dtype) -> Tensor:
        return torch.randn(tuple(shape), dtype=dtype, generator=self.generator)


@pytest.fixture
def noise_replay() -> type[NoiseReplay]:
    return NoiseReplay


@pytest.fixture
def problem() -> Callable[..., tuple[nn.Module, Callable[[int], None]]]:
    """A small network with every kind of parameter, and a function that fills in the gradients of step t."""

    def make(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Callable[[int], None]]:
        generator = torch.Generator().manual_seed(5)
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(36, 8),
            nn.LayerNorm(8),
            nn.Tanh(),
            nn.Linear(8, 1),
        ).to(dtype)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)

        def gradients(t: int) -> None:
            batch = torch.Generator().manual_seed(1000 + t)
            x = torch.randn(6, 2, 5, 5, generator=batch).to(dtype)
            net.zero_grad()
            (net(x) - x.sum((1, 2, 3))[:, None]).square().mean().backward()

        return net, gradients

    return make
