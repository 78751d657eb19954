"""Heads: from the trunk's features [B, D] to an agent's outputs."""

import torch
from torch import Tensor, nn

from stablegrad.nn.init import drawing_from, initialise_
from stablegrad.nn.layers import LinearFactory
from stablegrad.nn.spec import Init

HEAD_GAIN = 0.01
"""Orthogonal gain of a head: outputs start near zero (published for Q values and policies)."""


def linear_head(
    in_features: int,
    n_outputs: int,
    *,
    gain: float = HEAD_GAIN,
    init: Init = "orthogonal",
    linear: LinearFactory = nn.Linear,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """One linear layer: orthogonal with `gain` and a zero bias, or as torch makes it. A noisy one begins as its paper
    says."""
    with drawing_from(generator):
        head = linear(in_features, n_outputs)
    return head if init == "torch" else initialise_(head, gain=gain, generator=generator)


class Dueling(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean_b A(s, b) (Wang et al. 2016, eq. 9), for each of `atoms` logits.

    `value` maps features to [B, atoms], `advantage` to [B, n_actions * atoms]; either may be a linear layer
    or a whole stream, trunk included. Returns [B, n_actions, atoms], or [B, n_actions] when `atoms` is None.
    """

    def __init__(self, value: nn.Module, advantage: nn.Module, *, n_actions: int, atoms: int | None = None) -> None:
        super().__init__()
        self.value = value
        self.advantage = advantage
        self.n_actions = n_actions
        self.atoms = atoms

    def forward(self, features: Tensor) -> Tensor:
        shape = (self.n_actions, self.atoms or 1)
        advantage = self.advantage(features).unflatten(-1, shape)
        value = self.value(features).unsqueeze(-2)
        q = value + advantage - advantage.mean(dim=-2, keepdim=True)
        return q if self.atoms else q.squeeze(-1)
