"""Between an environment and an agent, one observation at a time: what the agent sees, and what its action means."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from stablegrad.envs.observations import Observations
from stablegrad.envs.promises import Broken, parts, promises
from stablegrad.errors import UserError


class View(Protocol):
    """`observation_space` and `action_space` are the environment's own."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def see(self, raw: Any) -> np.ndarray:
        """What the agent sees of an observation. UserError where it is none of the space."""

    def act(self, actions: np.ndarray) -> Sequence[Any]:
        """The environment's actions for the agent's [B, *]."""


class PlainView:
    """Of an environment whose observations and actions are the agent's own."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def see(self, raw: Any) -> np.ndarray:
        """`raw`, if it has the space's shape and a type of its kind."""
        shape, dtype = self.observation_space.shape, np.dtype(self.observation_space.dtype)
        array = np.asarray(raw)
        if array.shape != shape or not np.can_cast(array.dtype, dtype, casting="same_kind"):
            came = f"{array.dtype} {list(array.shape)}"
            raise UserError(f"an observation is {came}, and this policy reads {dtype} {list(shape or ())}")
        return array.astype(dtype)

    def act(self, actions: np.ndarray) -> Sequence[Any]:
        """The actions as they are."""
        return actions.tolist() if isinstance(self.action_space, spaces.Discrete) else list(actions)


class SingleView:
    """Of a Gymnasium environment: `observations` say what the agent sees, `act` what its actions mean."""

    def __init__(
        self, env: gymnasium.Env, observations: Observations, act: Callable[[np.ndarray], Sequence[Any]]
    ) -> None:
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._observations, self.act = observations, act
        self._promises = list(promises(env.observation_space))

    def see(self, raw: Any) -> np.ndarray:
        """Looked at as in training, before any cast."""
        row = np.empty(self._observations.space.shape, self._observations.space.dtype)
        try:
            found = parts(self.observation_space, raw, "")
            arrays = [promise.read(part) for promise, part in zip(self._promises, found, strict=True)]
        except Broken as broken:
            raise UserError(str(broken)) from None
        self._observations.show(arrays, row)
        if self._observations.outside(row[None]) is not None:
            raise UserError("an observation lies outside the observation space, or holds what is not finite")
        return row
