"""MinAtar through the `minatar` package: a Python game per environment, observations [C, 10, 10] of 0 and 1.

Sticky actions are the package's own (0.1 as it ships). It carries the last action over a reset, where the
first step of a game could repeat the last of another; here it is cleared. The games have no time limit but
Freeway (2,500 steps, which count as the end of the game).
"""

import numpy as np
from gymnasium import spaces

from stablegrad.envs.episodes import Played
from stablegrad.envs.ids import minatar_game
from stablegrad.envs.spec import EnvSpec


class MinAtarSimulator:
    """B games in this thread. `MinAtar/X` has all 6 buttons, `-v1` those that do something in the game."""

    session_steps: int | None = 0

    def __init__(self, spec: EnvSpec, *, num_envs: int, num_threads: int | None) -> None:
        from minatar import Environment  # brings seaborn and scipy: over a second, for these games only

        game, minimal = minatar_game(spec.env_id)
        self.num_envs = num_envs
        self._games = [Environment(game, sticky_action_prob=spec.repeat_action_probability) for _ in range(num_envs)]
        for each in self._games:
            each.seed(0)  # gives the game and its sticky actions one generator, which `begin` seeds
        self._acts = [each.act for each in self._games]
        self._states = [each.env.state for each in self._games]
        buttons = self._games[0].minimal_action_set() if minimal else range(self._games[0].num_actions())
        self._buttons = np.array(buttons)
        height, width, channels = self._games[0].state_shape()
        self.observation_space: spaces.Space = spaces.Box(0, 1, (channels, height, width), np.uint8)
        self.action_space: spaces.Space = spaces.Discrete(len(self._buttons))

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        for env, seed in zip(envs, seeds, strict=True):
            game = self._games[env]
            game.random.seed(seed)
            game.last_action = 0
            game.reset()
            obs[env] = game.state().transpose(2, 0, 1)
        lives[envs] = 0

    def step(self, actions: np.ndarray) -> Played:
        buttons = self._buttons[actions].tolist()
        rewards, ends = zip(*[act(b) for act, b in zip(self._acts, buttons, strict=True)], strict=True)
        frames = np.concatenate([state() for state in self._states])
        obs = frames.reshape(self.num_envs, -1, *frames.shape[1:]).transpose(0, 3, 1, 2)
        return Played(
            np.ascontiguousarray(obs).view(np.uint8),
            np.array(rewards, np.float64),
            np.array(ends, bool),
            np.zeros(self.num_envs, bool),
            np.zeros(self.num_envs, np.int64),
        )

    def close(self) -> None:
        """Nothing is held but memory."""
