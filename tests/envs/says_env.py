"""An environment that returns what a test tells it to, in a user's file and by Gymnasium's name."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from stablegrad.envs import EnvSpec, make


class Says(gymnasium.Env):
    """`first` is what `reset` returns, `then(t)` what step t (from 1) does; episodes end after five steps."""

    action_space: Any = spaces.Discrete(2)

    def __init__(self, space: Any, first: Any, then: Callable[[int], Any]) -> None:
        self.observation_space, self.first, self.then, self.t = space, first, then, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = 0
        return self.first

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.then(self.t)


_FIRST = object()


def says(
    space: Any,
    obs: Any = _FIRST,
    *,
    first: Any = None,
    reward: Any = 1.0,
    ended: Any = False,
    step: Any = None,
    **info: Any,
) -> Callable[[], Says]:
    """An environment whose steps show `obs` and whose `reset` shows `first` (None: likewise the lowest of a Box)."""
    first = space.low if first is None else first
    obs = first if obs is _FIRST else obs

    def then(t: int) -> Any:
        return (obs, reward, ended, t == 5, info) if step is None else step

    return lambda: Says(space, (first, info), then)


def built(build: Callable[..., gymnasium.Env], *, num_envs: int = 1, **values: Any) -> Any:
    """The vector environment of `build`, registered for as long as it takes."""
    gymnasium.register("Says-v0", entry_point=build)
    try:
        return make(EnvSpec.resolve({"env_id": "Says-v0", **values}), num_envs=num_envs, seed=1)
    finally:
        del gymnasium.registry["Says-v0"]


VECTOR = spaces.Box(-10, 10, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (6, 6, 3), np.uint8)
