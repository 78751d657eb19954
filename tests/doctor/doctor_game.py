"""A game that any healthy network learns within a thousand steps: name the bright one of four lamps, ten times."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Lamps(gymnasium.Env):
    observation_space = spaces.Box(0, 1, (6, 10, 10), np.float32)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        reward = float(action == self.bright)
        return self._look(), reward, self.t == 10, False, {}

    def _look(self):
        self.bright = int(self.np_random.integers(4))
        obs = np.zeros((6, 10, 10), np.float32)
        obs[self.bright] = 1.0
        obs[4] = self.np_random.random((10, 10))
        return obs
