"""A game with a known answer for every step, as a user would write it: the environment of these tests.

A game starts at a random place and climbs one rung a step. It has 3 lives, loses one at every fifth step, and ends
with the last; from the start it is known after how many steps (6 to 17) it ends anyway. Rewards go beyond 1.
"""

import gymnasium
import numpy as np
from gymnasium import spaces


class Ladder(gymnasium.Env):
    observation_space = spaces.Box(-1, 2000, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(1000))
        self.end = int(self.np_random.integers(6, 18))
        self.t, self.action = 0, -1
        return self._look(), {"lives": 3}

    def step(self, action):
        self.t += 1
        self.action = action
        lives = 3 - self.t // 5
        return self._look(), self._reward(action), lives == 0 or self.t == self.end, False, {"lives": lives}

    def _reward(self, action):
        return 7.0 * action - 2.0

    def _look(self):
        return np.array([self.place, self.t, self.action], np.float32)


class Leaky(Ladder):
    """Carries the number of games over the reset."""

    games = 0

    def reset(self, *, seed=None, options=None):
        self.games += 1
        super().reset(seed=seed)
        self.place += self.games
        return self._look(), {"lives": 3}


class Unseeded(Ladder):
    """Draws its start from a generator that `reset(seed=…)` does not seed."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(np.random.default_rng().integers(1000))
        return self._look(), {"lives": 3}


SHARED = np.random.default_rng(0)


class SharedStream(Ladder):
    """Every copy draws its rewards from one generator."""

    def _reward(self, action):
        return float(SHARED.integers(10))


class OutOfBounds(Ladder):
    def _look(self):
        return np.array([self.place, self.t, 5000], np.float32)


class Unending(Ladder):
    """Never ends by itself, and has no lives."""

    def step(self, action):
        obs, reward, _, truncated, _ = super().step(action)
        return obs, reward, False, truncated, {}


def not_an_environment():
    return "Ladder"


NOT_CALLABLE = 3
