"""The network of an actor-critic, and its policies: one choice, several independent ones, or a diagonal Gaussian."""

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.agents.base import NonFinite
from stablegrad.errors import UserError
from stablegrad.nn import build_torso
from stablegrad.nn.heads import linear_head
from stablegrad.nn.spec import FEATURES, NetworkSpec
from stablegrad.rl import losses


class ActorCritic(nn.Module):
    """Observations to (policy parameters [B, A], values [B], features [B, 512] of the actor).

    The policy's parameters are logits, or the means of a Gaussian whose `log_std` [A] does not depend on the state.
    Where an action is several choices, `action_sizes` says among how many each is, and the logits of one come after
    those of another.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        observation_space: spaces.Space[Any],
        n_actions: int,
        *,
        shared: bool,
        gaussian: bool,
        action_sizes: tuple[int, ...] | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.action_sizes, self.n_outputs = action_sizes, n_actions
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
        """Actions [B], [B, K] (choices) or [B, A] (Gaussian) drawn from the policy with these parameters.

        Raises NonFinite where these are no numbers.
        """
        if not bool(torch.isfinite(policy).all()):
            raise NonFinite("the policy is not finite: an observation, or a parameter of the network, is not")
        if self.action_sizes is not None:
            parts = policy.split(list(self.action_sizes), dim=-1)
            return torch.cat([torch.multinomial(part.softmax(-1), 1, generator=generator) for part in parts], dim=-1)
        if self.log_std is None:
            return torch.multinomial(policy.softmax(-1), 1, generator=generator).squeeze(-1)
        noise = torch.randn(policy.shape, generator=generator, device=policy.device)
        return policy + self.log_std.exp() * noise

    def mode(self, policy: Tensor) -> Tensor:
        """The most probable actions [B], [B, K] (choices) or [B, A] (Gaussian: the mean) of these parameters."""
        if self.action_sizes is not None:
            parts = policy.split(list(self.action_sizes), dim=-1)
            return torch.stack([part.argmax(-1) for part in parts], dim=-1)
        return policy.argmax(-1) if self.log_std is None else policy

    def sometimes_uniform(self, actions: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """The actions, each (all of its choices) replaced by a uniform one with probability `epsilon`."""
        sizes, count = self.action_sizes or (self.n_outputs,), actions.shape[:1]
        drawn = [torch.randint(size, count, generator=generator, device=actions.device) for size in sizes]
        explore = torch.rand(count, generator=generator, device=actions.device) < epsilon
        if self.action_sizes is None:
            return torch.where(explore, drawn[0], actions)
        return torch.where(explore[:, None], torch.stack(drawn, dim=-1), actions)


def log_prob(
    policy: Tensor, log_std: Tensor | None, actions: Tensor, action_sizes: tuple[int, ...] | None = None
) -> Tensor:
    """log π(a|s) [N] in nats: categorical where there is no `log_std`, of several choices where there are sizes."""
    if action_sizes is not None:
        return losses.multi_categorical_log_prob(policy, actions, action_sizes)
    if log_std is None:
        return losses.categorical_log_prob(policy, actions)
    return losses.gaussian_log_prob(policy, log_std, actions)


def entropy(policy: Tensor, log_std: Tensor | None, action_sizes: tuple[int, ...] | None = None) -> Tensor:
    """The policy's entropy in nats, [N], or one number for a Gaussian, whose width is the same everywhere."""
    if action_sizes is not None:
        return losses.multi_categorical_entropy(policy, action_sizes)
    return losses.categorical_entropy(policy) if log_std is None else losses.gaussian_entropy(log_std)


def policy_size(space: spaces.Space[Any]) -> int:
    """How many numbers describe a policy: one for each action (of each choice), or for each continuous dimension."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box):
        return math.prod(space.shape)
    sizes = choice_sizes(space)
    if sizes is None:
        raise UserError(f"ppo needs discrete actions or a box of continuous ones, this environment has {space}")
    return sum(sizes)


def choice_sizes(space: spaces.Space[Any]) -> tuple[int, ...] | None:
    """Among how many actions each choice is, where an action is several choices; a switch is one of two."""
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(map(int, space.nvec.ravel()))
    return (2,) * math.prod(space.shape) if isinstance(space, spaces.MultiBinary) else None
