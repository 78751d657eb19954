"""A game without an environment, for the checks of an agent: what happens in it is known, and can be changed alone."""

from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from stablegrad.agents.base import AgentSetup
from stablegrad.envs.base import NOT_PRESSED, StepBatch
from stablegrad.nn.parts import PartsBox
from stablegrad.replay.memory import frame_stack

Rows = Literal["", "truncated", "terminated", "midway"]
"""A kind of step: none, time-outs, true ends, the first of every episode."""

_EPISODE = 3


class Game:
    """Random observations of a space; environment b ends an episode at every third step, from step b on.

    Ends are time-outs and true ends in turn. Two games of one setup are the same but for their options: the steps of
    the kind `shifted` have other last observations, those of the kind `lost` cost a life, and those of the kind
    `pressed` played action 0 in place of the agent's. `largest` is the size of rewards: they lie about 0, or are 1 and
    `largest` (either sign) where it is given.
    """

    def __init__(
        self,
        setup: AgentSetup,
        *,
        shifted: Rows = "",
        lost: Rows = "",
        pressed: Rows = "",
        largest: float | None = None,
    ) -> None:
        assert isinstance(setup.observation_space, spaces.Box)
        self.space, self.num_envs = setup.observation_space, setup.num_envs
        self._shifted, self._lost, self._pressed, self._largest = shifted, lost, pressed, largest
        self._rng = np.random.default_rng(setup.seed)
        self._other = np.random.default_rng(setup.seed + 1)
        self._stack = frame_stack(self.space)
        self._time = 0
        self.obs = self._draw(self._rng, self.num_envs)

    def step(self, actions: np.ndarray) -> StepBatch:
        """What random actions would do; the actions given are ignored."""
        self._time += 1
        number, ended = np.divmod(self._time + np.arange(self.num_envs), _EPISODE)
        over = ended == 0
        truncated, terminated = over & (number % 2 == 0), over & (number % 2 == 1)
        rows = {"": np.zeros_like(over), "truncated": truncated, "terminated": terminated, "midway": ended == 1}
        successor = self._moved(self._rng)
        begun = self._draw(self._rng, self.num_envs)
        strange = self._moved(self._other)
        successor[rows[self._shifted]] = strange[rows[self._shifted]]
        self.obs = np.where(over.reshape(-1, *[1] * (begun.ndim - 1)), begun, successor)
        return StepBatch(
            obs=self.obs,
            reward=self._reward().astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=rows[self._lost],
            final_obs=successor[over],
            episodes=(),
            pressed=np.where(rows[self._pressed], 0, NOT_PRESSED),
        )

    def _reward(self) -> np.ndarray:
        drawn = self._rng.normal(size=self.num_envs)
        return drawn if self._largest is None else np.sign(drawn) * np.where(np.abs(drawn) < 0.5, 1, self._largest)

    def _moved(self, rng: np.random.Generator) -> np.ndarray:
        """Observations that may follow the present ones: stacks of frames move on by one."""
        drawn = self._draw(rng, self.num_envs)
        return drawn if self._stack == 1 else np.concatenate([self.obs[:, 1:], drawn[:, :1]], axis=1)

    def _draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        if not isinstance(self.space, PartsBox):
            return _drawn(self.space, rng, count)
        rows = np.zeros((count, *self.space.shape), np.uint8)
        apart = self.space.apart(rows)
        for part in self.space.parts:
            apart[part.name][...] = _drawn(part.space, rng, count)
        return rows


def _drawn(space: Any, rng: np.random.Generator, count: int) -> np.ndarray:
    shape = (count, *space.shape)
    if np.issubdtype(space.dtype, np.integer):
        return rng.integers(space.low, space.high, shape, space.dtype, endpoint=True)
    low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 1.0)
    return rng.uniform(low, high, shape).astype(space.dtype)
