"""Atari through the vector environment of ale-py: C++ threads, ROMs inside the package.

Three of its settings are not what they seem, so they are fixed here:

- `reward_clipping` (on by default) loses the raw reward for good; it is off, agents clip in their targets.
- `episodic_life` resets the game at every lost life, and `life_loss_info` reports a lost life as
  `terminated`, by which it can no longer be told from the end of the game. Both are off: lives are read from
  `info`, which gives the same signals (a test compares them), and `terminated` stays the end of the game.
- `max_num_frames_per_episode` counts the no-op frames of the reset. It is out of reach: the time limit counts
  agent steps, as for every other back end.

Seeding an environment makes ale-py load its ROM again, which costs as much as 240 agent steps: as much as a
short game. So a seed serves all the games that begin within its first 1,000 steps (`session_steps`).

How an episode begins (measured with ale-py 0.12.1): 0 to `noop_max` - 1 no-op *frames*, their number drawn
from the episode's seed; with `fire_reset`, in games with a fire button in their minimal action set, the
last of them (at least one) is FIRE. The frame stack starts black but for the newest frame. After a lost life the
emulator just goes on; what is pressed then for the agent is in `presses.py`.
"""

import os
from pathlib import Path

import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stablegrad.envs.episodes import Played
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import UserError
from stablegrad.tables.games import rom_id

_OUT_OF_REACH = 2**31 - 1
_SEEN = 84
"""Rows and columns of what an agent sees."""
_SCREEN = (210, 160)
"""Rows and columns of the console's screen."""


class AtariSimulator:
    """B copies of one game: observations [frame_stack, 84, 84] uint8, or with `colour` the screen [1, 210, 160, 3].

    No-ops and sticky actions are drawn from the episode's seed.

    `num_threads` (None: one for each core that this process may use) changes the speed and nothing else.
    """

    session_steps: int | None = 1000

    def __init__(self, spec: EnvSpec, *, num_envs: int, num_threads: int | None, colour: bool = False) -> None:
        rom = rom_id(spec.env_id)
        usable_rom(rom)
        self.num_envs = num_envs
        self._envs = AtariVectorEnv(
            rom,
            num_envs,
            num_threads=min(num_envs, num_threads or _cores()),
            repeat_action_probability=spec.repeat_action_probability,
            full_action_space=spec.full_action_space,
            noop_max=spec.noop_max,
            use_fire_reset=spec.fire_reset,
            frameskip=spec.frame_skip,
            stack_num=1 if colour else spec.frame_stack,
            img_height=_SCREEN[0] if colour else _SEEN,
            img_width=_SCREEN[1] if colour else _SEEN,
            grayscale=not colour,
            max_num_frames_per_episode=_OUT_OF_REACH,
            # Every finished game is begun again from outside, before the next step: the mode never acts.
            autoreset_mode=AutoresetMode.NEXT_STEP,
            reward_clipping=False,
            episodic_life=False,
            life_loss_info=False,
        )
        self.observation_space: spaces.Space = self._envs.single_observation_space
        self.action_space: spaces.Space = self._envs.single_action_space

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        mask = np.zeros(self.num_envs, bool)
        mask[envs] = True
        first, info = self._envs.reset(seed=seeds, options={"reset_mask": mask})
        obs[envs] = first[envs]
        lives[envs] = info["lives"][envs]

    def step(self, actions: np.ndarray) -> Played:
        obs, reward, terminated, truncated, info = self._envs.step(actions)
        return Played(obs, reward, terminated, truncated, info["lives"])

    def close(self) -> None:
        del self._envs  # its threads end with it


def usable_rom(rom: str) -> Path:
    """Where ale-py has the ROM. Raises UserError, which says what to do, where it has none."""
    try:
        path = roms.get_rom_path(rom)
        assert path is not None, "the game is in our table"
        return path
    except OSError as error:
        raise UserError(
            f"ale-py has no usable ROM '{rom}' ({error}): unset ALE_ROMS_DIR, or install ale-py again, which"
            " brings the ROMs"
        ) from error


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
