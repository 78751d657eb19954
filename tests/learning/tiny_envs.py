"""Environments whose values are known."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Chain(gymnasium.Env):
    """Five places in a row; action 1 goes right, 0 left. Leaving to the right ends the game with a reward of 1.

    V*(s) = gamma^(4 - s). Episodes begin anywhere.
    """

    observation_space = spaces.Box(0, 1, (5,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(5))
        return self._obs(), {}

    def step(self, action):
        if self.place == 4 and action == 1:
            return self._obs(), 1.0, True, False, {}
        self.place = max(0, self.place + (1 if action == 1 else -1))
        return self._obs(), 0.0, False, False, {}

    def _obs(self):
        return np.eye(5, dtype=np.float32)[self.place]


class Corridor(Chain):
    """The chain, always begun at its left end: no episode is shorter than five steps."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self._obs(), {}


class Loop(gymnasium.Env):
    """One state and a reward of 1 in every step; a time limit cuts each episode after 5 steps.

    V = 1 / (1 - gamma). Whoever takes the limit for an end learns 1 / (1 - gamma * 4/5): one step in five is the last.
    """

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return np.ones(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.ones(1, np.float32), 1.0, False, self.left == 0, {}


class Still(gymnasium.Env):
    """One state, a reward of 1 in every step, and no end."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


class Short(Still):
    """The same, and every episode ends after its first step."""

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, True, False, {}


class Bandit(gymnasium.Env):
    """One decision a game, both of the same worth: a reward of 10 with a chance of 1/10, else nothing. Q = 1."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        reward = 10.0 if self.np_random.random() < 0.1 else 0.0
        return np.ones(1, np.float32), reward, True, False, {}


class TwoSenses(gymnasium.Env):
    """Which of two actions is right takes both senses to know: the picture's bright side, and the sign of the touch.

    Five rounds a game, each with a new picture and touch; a right action is worth 1. Chance scores 2.5, and so does
    whoever lacks a sense.
    """

    observation_space = spaces.Dict(
        {"picture": spaces.Box(0, 255, (8, 8, 3), np.uint8), "touch": spaces.Box(-1, 1, (2,), np.float32)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.round = 0
        return self._draw(), {}

    def step(self, action):
        reward = float(action == self.right)
        self.round += 1
        return self._draw(), reward, self.round == 5, False, {}

    def _draw(self):
        side, touch = int(self.np_random.integers(2)), self.np_random.uniform(-1, 1, 2).astype(np.float32)
        picture = self.np_random.integers(0, 60, (8, 8, 3), np.uint8)
        picture[:, 4 * side : 4 * side + 4] += 180
        self.right = side ^ int(touch[0] > 0)
        return {"picture": picture, "touch": touch}


class Numb(TwoSenses):
    """The same without the touch."""

    def _draw(self):
        return {**super()._draw(), "touch": np.zeros(2, np.float32)}


class Locks(gymnasium.Env):
    """A lock a step, of two wheels or of three switches; opening it is worth 1 for each part that is right."""

    observation_space = spaces.Box(0, 1, (5,), np.float32)
    wheels = True

    @property
    def action_space(self):
        return spaces.MultiDiscrete([3, 2], start=[0, 5]) if self.wheels else spaces.MultiBinary(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._draw(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        right = np.array(action) == self.right
        return self._draw(), float(right.mean()), self.t == 10, False, {}

    def _draw(self):
        space = self.action_space
        sizes, start = (space.nvec, space.start) if self.wheels else (np.array([2, 2, 2]), np.zeros(3, int))
        picked = self.np_random.integers(0, sizes)
        self.right = picked + start
        obs = np.zeros(5, np.float32)
        if self.wheels:
            obs[picked[0]] = obs[3 + picked[1]] = 1
        else:
            obs[:3] = picked
        return obs


class Switches(Locks):
    wheels = False
