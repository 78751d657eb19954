"""Games for `doctor_study.py` that no threshold was fixed on, and that a healthy agent learns within its few steps."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

_SIZE = 6
_LEFT, _STAY, _RIGHT = -1, 0, 1
_BOARD, _MARGIN = 4, 3
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


class Catch(gymnasium.Env[Any, Any]):
    """A ball falls, the paddle below has to be there: +1 or -1 for each of ten balls (after Mnih et al., 2014).

    The observation has three numbers in [0, 1]: column and row of the ball, column of the paddle.
    """

    observation_space: spaces.Box = spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space: spaces.Discrete = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.balls = 0
        self.paddle = _SIZE // 2
        self._drop()
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.paddle = int(np.clip(self.paddle + (_LEFT, _STAY, _RIGHT)[int(action)], 0, _SIZE - 1))
        self.row += 1
        reward = 0.0
        if self.row == _SIZE - 1:
            reward = 1.0 if self.column == self.paddle else -1.0
            self.balls += 1
            self._drop()
        return self._look(), reward, self.balls == 10, False, {}

    def _drop(self) -> None:
        self.row, self.column = 0, int(self.np_random.integers(_SIZE))

    def _look(self) -> Any:
        return np.array([self.column, self.row, self.paddle], np.float32) / (_SIZE - 1)


class Forage(gymnasium.Env[Any, Any]):
    """Walk to the fruit on a small board; +1 each, and the next one grows elsewhere; forty steps.

    The observation is an image [2, 10, 10]: the walker, and the fruit.
    """

    observation_space: spaces.Box = spaces.Box(0.0, 1.0, (2, 10, 10), np.float32)
    action_space: spaces.Discrete = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.walker = np.array([_BOARD // 2, _BOARD // 2])
        self.fruit = self._elsewhere()
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.walker = np.clip(self.walker + _MOVES[int(action)], 0, _BOARD - 1)
        found = bool((self.walker == self.fruit).all())
        if found:
            self.fruit = self._elsewhere()
        return self._look(), float(found), self.steps == 40, False, {}

    def _elsewhere(self) -> Any:
        free = [place for place in np.ndindex(_BOARD, _BOARD) if place != tuple(self.walker)]
        return np.array(free[int(self.np_random.integers(len(free)))])

    def _look(self) -> Any:
        seen = np.zeros((2, 10, 10), np.float32)
        for plane, (row, column) in enumerate((self.walker, self.fruit)):
            seen[plane, row + _MARGIN, column + _MARGIN] = 1.0
        return seen


class ForageSeen(Forage):
    """The same in bytes, which networks take for an image and give an encoder: the numbers of Forage they flatten."""

    observation_space: spaces.Box = spaces.Box(0, 255, (2, 10, 10), np.uint8)

    def _look(self) -> Any:
        return (255 * super()._look()).astype(np.uint8)
