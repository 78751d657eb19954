"""Atari through EnvPool, an extra. For comparison with results that were made on it; ale-py is the default.

EnvPool begins a finished game on the *next* step, whose action it ignores: the made-up rows of its
well-known defect. Here a finished game is begun at once, by a reset of that environment alone, so no such
row exists. Its `episodic_life` would make up more of them; it stays off, and lost lives are read from
`info`.

EnvPool seeds each environment once, not each episode, so an episode cannot be played again: `exact_resume`
is False, and a resumed run begins new games, drawn as at its start. Its emulator is not ale-py's: scores
can differ.
"""

from typing import Any

import envpool
import numpy as np
from gymnasium import spaces

from stablegrad.envs.episodes import Played
from stablegrad.envs.spec import EnvSpec

_OUT_OF_REACH = 2**31 - 1


class EnvPoolSimulator:
    """B copies of one Atari game: observations [frame_stack, 84, 84] uint8. Only the first seeds count."""

    session_steps: int | None = None

    def __init__(self, spec: EnvSpec, *, num_envs: int, num_threads: int | None) -> None:
        self.num_envs = num_envs
        self._task = spec.env_id
        self._options: dict[str, Any] = {
            "repeat_action_probability": spec.repeat_action_probability,
            "full_action_space": spec.full_action_space,
            "noop_max": spec.noop_max,
            "use_fire_reset": spec.fire_reset,
            "frame_skip": spec.frame_skip,
            "stack_num": spec.frame_stack,
            "max_episode_steps": _OUT_OF_REACH,
            "reward_clip": False,
            "episodic_life": False,
        }
        self._threads = num_threads or 0
        # The spaces come without a pool, which takes seconds to build and needs its seeds then.
        described = envpool.make_spec(self._task, **self._options)
        self.observation_space: spaces.Space[Any] = described.gymnasium_observation_space
        self.action_space: spaces.Space[Any] = spaces.Discrete(int(described.gymnasium_action_space.n))
        self._pool: Any = None

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        if self._pool is None:
            self._pool = envpool.make(
                self._task,
                env_type="gymnasium",
                num_envs=self.num_envs,
                num_threads=self._threads,
                env_seed=seeds.tolist(),
                **self._options,
            )
        first, info = self._pool.reset(envs.astype(np.int32))
        obs[envs] = first
        lives[envs] = info["lives"]

    def step(self, actions: np.ndarray) -> Played:
        obs, reward, terminated, truncated, info = self._pool.step(actions.astype(np.int32))
        return Played(obs, reward.astype(np.float64), terminated, truncated, info["lives"])

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
