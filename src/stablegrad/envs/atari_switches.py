"""Atari with the console's switches set: game modes and difficulties, which ale-py's vector environment has not.

What it does to frames (the newest two of a step maximised, grey, 84 x 84 by area, stacked) is done here again, game
by game in this thread: the same observations to one grey level while a game lasts (a test compares them). Sessions,
no-ops and FIRE are as in `atari.py`; the no-ops are drawn by a generator of our own, so a seed plays another game here
than there.
"""

from functools import cache

import numpy as np
from ale_py import Action, ALEInterface, LoggerMode
from gymnasium import spaces

from stablegrad.envs.atari import usable_rom
from stablegrad.envs.episodes import GO_ON, Played
from stablegrad.envs.schedule import GameTask
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import UserError
from stablegrad.tables.games import rom_id

SIDE = 84
_FRAMES_POOLED = 2


class SwitchedAtari:
    """B copies of one game in the mode and at the difficulty of `task`: observations [frame_stack, 84, 84] uint8.

    With `colour` they are the screen [1, 210, 160, 3].
    """

    session_steps: int | None = 1000

    def __init__(self, spec: EnvSpec, task: GameTask, *, num_envs: int, colour: bool = False) -> None:
        self.num_envs, self._spec, self._task, self._colour = num_envs, spec, task, colour
        self._rom = usable_rom(rom_id(task.env_id))
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._games = [ALEInterface() for _ in range(num_envs)]
        for game in self._games:
            game.setFloat("repeat_action_probability", spec.repeat_action_probability)
        first = self._games[0]
        self._load(first, 0)
        problems = _switch_problems(task, first, scheduled=bool(spec.task_schedule))
        if problems:
            raise UserError(problems)
        self._fires = spec.fire_reset and Action.FIRE in first.getMinimalActionSet()
        buttons = first.getLegalActionSet() if spec.full_action_space else first.getMinimalActionSet()
        self._buttons = list(buttons)
        self._noops = [np.random.default_rng(0) for _ in range(num_envs)]
        height, width = first.getScreenDims()
        self._shrink = area_weights(height, SIDE), area_weights(width, SIDE).T
        seen = (1, height, width, 3) if colour else (spec.frame_stack, SIDE, SIDE)
        self._stack = np.zeros((num_envs, *seen), np.uint8)
        self.observation_space: spaces.Space = spaces.Box(0, 255, self._stack.shape[1:], np.uint8)
        self.action_space: spaces.Space = spaces.Discrete(len(self._buttons))

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        for env, seed in zip(envs.tolist(), seeds.tolist(), strict=True):
            game = self._games[env]
            if seed != GO_ON:
                self._load(game, seed)
                self._noops[env] = np.random.default_rng(seed)
            self._switch(game)
            game.reset_game()
            self._play_noops(env)
            self._stack[env] = 0
            self._stack[env, -1] = self._seen(self._screen(game))
            obs[env] = self._stack[env]
            lives[env] = game.lives()

    def step(self, actions: np.ndarray) -> Played:
        reward = np.zeros(self.num_envs, np.float64)
        ended, lives = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, np.int64)
        self._stack[:, :-1] = self._stack[:, 1:].copy()
        for env, action in enumerate(actions.tolist()):
            game, button = self._games[env], self._buttons[action]
            frames: list[np.ndarray] = []
            for _ in range(self._spec.frame_skip):
                reward[env] += game.act(button)
                frames = [*frames[1 - _FRAMES_POOLED :], self._screen(game)]
                if game.game_over():
                    break
            self._stack[env, -1] = self._seen(np.maximum.reduce(frames))
            ended[env], lives[env] = game.game_over(), game.lives()
        return Played(self._stack.copy(), reward, ended, np.zeros(self.num_envs, bool), lives)

    def close(self) -> None:
        self._games.clear()

    def _load(self, game: ALEInterface, seed: int) -> None:
        game.setInt("random_seed", seed)
        game.loadROM(self._rom)

    def _switch(self, game: ALEInterface) -> None:
        if self._task.mode is not None:
            game.setMode(self._task.mode)
        if self._task.difficulty is not None:
            game.setDifficulty(self._task.difficulty)

    def _play_noops(self, env: int) -> None:
        """0 to `noop_max` - 1 frames, the last of them (at least one) FIRE where the game needs it."""
        game = self._games[env]
        frames = int(self._noops[env].integers(self._spec.noop_max)) if self._spec.noop_max else 0
        for _ in range(frames - self._fires):
            game.act(Action.NOOP)
        if self._fires:
            game.act(Action.FIRE)

    def _screen(self, game: ALEInterface) -> np.ndarray:
        return game.getScreenRGB() if self._colour else game.getScreenGrayscale()

    def _seen(self, screen: np.ndarray) -> np.ndarray:
        if self._colour:
            return screen
        rows, columns = self._shrink
        return np.rint(rows @ screen.astype(np.float32) @ columns).astype(np.uint8)


@cache
def area_weights(pixels: int, cells: int) -> np.ndarray:
    """Weights [cells, pixels] of an average by area: cell i covers the pixels from i * p / c to (i + 1) * p / c.

    >>> area_weights(3, 2) * 3
    array([[2., 1., 0.],
           [0., 1., 2.]], dtype=float32)
    """
    edges = np.arange(cells + 1) * (pixels / cells)
    start, end = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)
    covered = np.clip(np.minimum(end, pixel + 1) - np.maximum(start, pixel), 0, None)
    return (covered / (end - start)).astype(np.float32)


def _switch_problems(task: GameTask, game: ALEInterface, *, scheduled: bool) -> list[str]:
    known = {"mode": game.getAvailableModes(), "difficulty": game.getAvailableDifficulties()}
    said = f"task '{task.text}'" if scheduled else "--{name} {wanted}"
    return [
        f"{said.format(name=name, wanted=wanted)}: {task.env_id} has no {name} {wanted}, but {', '.join(map(str, has))}"
        for name, has in known.items()
        if (wanted := getattr(task, name)) is not None and wanted not in has
    ]
