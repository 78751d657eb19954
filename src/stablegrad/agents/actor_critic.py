"""The network of an actor-critic, and its two policies: categorical, or a diagonal Gaussian."""

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.errors import UserError
from stablegrad.nn import build_torso
from stablegrad.nn.heads import linear_head
from stablegrad.nn.spec import FEATURES, NetworkSpec
from stablegrad.rl import losses


class ActorCritic(nn.Module):
    """Observations to (policy parameters [B, A], values [B], features [B, 512] of the actor).

    The policy's parameters are logits, or the means of a Gaussian whose `log_std` [A] does not depend on the state.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        observation_space: spaces.Space[Any],
        n_actions: int,
        *,
        shared: bool,
        gaussian: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.torso = build_torso(spec, observation_space, generator=generator)
        self.actor = linear_head(FEATURES, n_actions, init=spec.head_init, generator=generator)
        self.critic_torso = None if shared else build_torso(spec, observation_space, generator=generator)
        self.critic = linear_head(FEATURES, 1, gain=1.0, init=spec.head_init, generator=generator)
        self.log_std = nn.Parameter(torch.zeros(n_actions)) if gaussian else None

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.torso(obs)
        valued = features if self.critic_torso is None else self.critic_torso(obs)
        return self.actor(features), self.critic(valued).squeeze(-1), features

    def sample(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        """Actions [B] or [B, A] drawn from the policy with these parameters."""
        if self.log_std is None:
            return torch.multinomial(policy.softmax(-1), 1, generator=generator).squeeze(-1)
        noise = torch.randn(policy.shape, generator=generator, device=policy.device)
        return policy + self.log_std.exp() * noise


def log_prob(policy: Tensor, log_std: Tensor | None, actions: Tensor) -> Tensor:
    """log π(a|s) [N] in nats: categorical where there is no `log_std`."""
    if log_std is None:
        return losses.categorical_log_prob(policy, actions)
    return losses.gaussian_log_prob(policy, log_std, actions)


def entropy(policy: Tensor, log_std: Tensor | None) -> Tensor:
    """The policy's entropy in nats, [N], or one number for a Gaussian, whose width is the same everywhere."""
    return losses.categorical_entropy(policy) if log_std is None else losses.gaussian_entropy(log_std)


def policy_size(space: spaces.Space[Any]) -> int:
    """How many numbers describe a policy: one for each discrete action, or for each dimension of a continuous one."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box):
        return math.prod(space.shape)
    raise UserError(f"ppo needs discrete actions or a box of continuous ones, this environment has {space}")
