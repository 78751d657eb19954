"""Pictures of a game that was played: the same seed and actions again, in an environment that shows itself.

An episode is a pure function of its seed and its actions, so a game is drawn after it was played, and drawing cannot
change it. Atari is shown as the console's screen in colour, MinAtar with a colour for each of its planes, any other
environment by its own `rgb_array`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import numpy as np

from stablegrad.envs.atari import AtariSimulator
from stablegrad.envs.atari_switches import SwitchedAtari
from stablegrad.envs.episodes import Simulator
from stablegrad.envs.minatar import MinAtarSimulator
from stablegrad.envs.schedule import parse_task
from stablegrad.envs.single import SingleSimulator
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import UserError

_ATARI_FRAMES_PER_SECOND = 60
_MINATAR_PICTURES_PER_SECOND = 12
_GYM_PICTURES_PER_SECOND = 30
_LEAST_WIDTH = 320


class Shown(NamedTuple):
    """A picture [H, W, 3] uint8, and the score of the game up to it."""

    picture: np.ndarray
    score: float


class Rendering:
    """One environment that shows what it plays. UserError where it cannot."""

    def __init__(self, spec: EnvSpec) -> None:
        if spec.task_schedule:
            raise UserError("--video shows one environment, and a run with a schedule has several: leave it out")
        if spec.backend == "envpool":
            raise UserError("EnvPool cannot play a game again, which a video needs: its runs have none")
        self.pictures_per_second: float = _MINATAR_PICTURES_PER_SECOND
        self._simulator: Simulator | SingleSimulator
        self._picture: Callable[[np.ndarray], np.ndarray]
        if spec.backend == "atari":
            switched = spec.mode is not None or spec.difficulty is not None
            self._simulator = (
                SwitchedAtari(spec, parse_task(spec.game), num_envs=1, colour=True)
                if switched
                else AtariSimulator(spec, num_envs=1, num_threads=1, colour=True)
            )
            self._picture = lambda screens: screens[-1]
            self.pictures_per_second = _ATARI_FRAMES_PER_SECOND / spec.frame_skip
        elif spec.backend == "minatar":
            self._simulator, self._picture = MinAtarSimulator(spec, num_envs=1, num_threads=1), _coloured
        else:
            single = SingleSimulator(spec, num_envs=1, num_threads=1, render_mode="rgb_array")
            self._simulator, self._picture = cast(Simulator, single), lambda obs: single.render()
            self.pictures_per_second = single.metadata.get("render_fps", _GYM_PICTURES_PER_SECOND)
        try:
            next(self.play(0, np.empty(0)))
        except UserError:
            self.close()
            raise

    def play(self, seed: int, actions: np.ndarray) -> Iterator[Shown]:
        """The game that begins with `seed` and goes on by `actions` [T, *]: T + 1 pictures, the first before any."""
        space = self._simulator.observation_space
        assert space.shape is not None
        obs, lives = np.zeros((1, *space.shape), space.dtype), np.zeros(1, np.int64)
        self._simulator.begin(np.zeros(1, np.int64), np.array([seed], np.int64), obs, lives)
        score = 0.0
        yield Shown(_large(self._picture(obs[0])), score)
        for action in actions:
            played = self._simulator.step(action[None])
            score += float(played.reward[0])
            yield Shown(_large(self._picture(played.obs[0])), score)

    def close(self) -> None:
        self._simulator.close()


def _coloured(planes: np.ndarray) -> np.ndarray:
    """MinAtar's planes [C, H, W] as a picture on black: hues at equal distances, the later plane on top."""
    picture = np.zeros((*planes.shape[1:], 3), np.uint8)
    for number, plane in enumerate(planes):
        picture[plane > 0] = _hue(number / len(planes))
    return picture


def _hue(turn: float) -> tuple[int, int, int]:
    """A bright colour; `turn` 0 to 1 goes once around the wheel."""
    red, green, blue = (0.55 + 0.45 * np.cos(2 * np.pi * (turn - third / 3)) for third in range(3))
    return int(255 * red), int(255 * green), int(255 * blue)


def _large(picture: np.ndarray) -> np.ndarray:
    """Enlarged by a whole number until it can be looked at, and cut to even sides, which videos need."""
    factor = -(-_LEAST_WIDTH // picture.shape[1])
    enlarged = np.asarray(picture, np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    return np.ascontiguousarray(enlarged[: enlarged.shape[0] // 2 * 2, : enlarged.shape[1] // 2 * 2])
