"""A trained policy by itself: observations in, actions out."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from stablegrad.agents.base import Agent
from stablegrad.envs.views import View
from stablegrad.errors import UserError


class Policy:
    """What a run's agent learned, to act with in an environment of one's own.

    `observation_space` and `action_space` are those of a single environment, as it has them itself: pictures with
    their channels where they are, a Dict as a dict, actions counted from `start`. Of Atari and MinAtar it takes what
    their agents see: four frames [4, 84, 84], a board [C, 10, 10].
    """

    def __init__(self, agent: Agent, view: View, *, epsilon: float, step: int, device: str) -> None:
        self.agent = agent
        self.observation_space: spaces.Space[Any] = view.observation_space
        self.action_space: spaces.Space[Any] = view.action_space
        self.step = step
        """The agent steps that it was trained for."""
        self._view, self._epsilon = view, epsilon
        self._generator = torch.Generator(device=device)

    def predict(self, obs: Any, *, deterministic: bool = True, seed: int | None = None) -> Any:
        """The action for one observation, or the actions [B, *] for a batch of them (an array [B, *], or a list).

        Normalisation that the agent learned is applied, and stays as it is. The likeliest action, or one drawn from the
        policy where not `deterministic` (of a value-based agent: greedy but for the protocol's epsilon), by a generator
        that `seed` sets. UserError where `obs` is neither an element of `observation_space` nor a batch of them.
        """
        if seed is not None:
            self._generator.manual_seed(seed)
        one, seen = self._seen(obs)
        if deterministic:
            actions = self.agent.likeliest(seen, generator=self._generator)
        else:
            actions = self.agent.drawn(seen, epsilon=self._epsilon, generator=self._generator)
        played = self._view.act(actions)
        return played[0] if one else np.asarray(played)

    def _seen(self, obs: Any) -> tuple[bool, np.ndarray]:
        """Whether it is one observation, and what the agent sees of it, [B, *]."""
        space = self.observation_space
        if isinstance(space, spaces.Dict | spaces.Tuple):
            one = isinstance(obs, dict if isinstance(space, spaces.Dict) else tuple)
        else:
            obs = obs if isinstance(obs, list) else np.asarray(obs)
            one = np.shape(obs) == (space.shape or ())
        batch = [obs] if one else list(obs)
        if not batch:
            raise UserError("a batch of observations is empty")
        return one, np.stack([self._view.see(each) for each in batch])

    def __repr__(self) -> str:
        return f"<Policy after {self.step:,} steps: {self.observation_space} to {self.action_space}>"
