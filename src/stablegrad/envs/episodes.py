"""The bookkeeping of episodes, once for every back end: seeds, action logs, scores, time limits, replay.

A back end (`Simulator`) only knows how to begin an episode and how to step. Everything that makes a
`VectorEnv` of it happens here, so that a back end is a page long and the contract has one implementation.

What can be replayed is a *session*: a seed, and the actions since. Most back ends begin a session with every
episode. Where seeding is dear (ale-py loads the ROM again, at the price of 240 steps), a session goes on over
episode ends until it has had `session_steps` steps; nothing else depends on it.
"""

import zlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import NOT_PRESSED, EpisodeEnd, StepBatch, episode_seed
from stablegrad.envs.views import PlainView, View
from stablegrad.errors import UserError

GO_ON = -1
"""In place of a seed: begin the next episode with the random stream of the one before."""

_FIRST_CAPACITY = 256


class Played(NamedTuple):
    """What a simulator returns for one action each; fresh arrays that the receiver may keep and write into.

    obs [B, *]: what the action led to, also where it ended the episode.
    reward [B]: raw. terminated, truncated [B] bool. lives [B]: lives left, or zeros for games without.
    """

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    lives: np.ndarray

    @classmethod
    def empty(cls, num_envs: int, space: spaces.Space[Any]) -> "Played":
        """Arrays to be filled, for observations of a space of single environments."""
        return cls(
            obs=np.empty((num_envs, *_shape(space)), space.dtype),
            reward=np.empty(num_envs, np.float64),
            terminated=np.empty(num_envs, bool),
            truncated=np.empty(num_envs, bool),
            lives=np.empty(num_envs, np.int64),
        )


class Simulator(Protocol):
    """B games that can be begun and stepped together. Nothing resets itself.

    `session_steps`: the steps after which an episode's end also ends the session. None: sessions cannot be
    replayed, because the back end takes no seed but the first.
    """

    num_envs: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    session_steps: int | None

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        """Begin new episodes in `envs` [E] from `seeds` [E] int64 (or GO_ON); write their rows of obs and lives.

        The first call is for all environments.
        """
        ...

    def step(self, actions: np.ndarray) -> Played:
        """One action each. An environment is never stepped past the end of its episode."""
        ...

    def close(self) -> None: ...


class AfterLife(Protocol):
    """Says what is pressed in the agent's place after a life was lost (see `presses.py`)."""

    def after_life(self, seed: int, env: int, episode: int, length: int) -> list[int]:
        """The actions of the next steps, for a life lost at step `length` of an episode."""
        ...


class EpisodicEnv:
    """A `VectorEnv` over a simulator. `max_episode_steps` cuts an episode after that many agent steps."""

    def __init__(
        self,
        simulator: Simulator,
        *,
        seed: int,
        max_episode_steps: int | None,
        presses: AfterLife | None = None,
    ) -> None:
        self.num_envs = simulator.num_envs
        self.observation_space = simulator.observation_space
        self.action_space = simulator.action_space
        self.view: View = getattr(simulator, "view", PlainView(self.observation_space, self.action_space))
        self.exact_resume = simulator.session_steps is not None
        self._simulator = simulator
        self._closed = False
        self._limit = np.iinfo(np.int64).max if max_episode_steps is None else max_episode_steps
        self._seed = seed
        self._envs = np.arange(self.num_envs)
        self._episode = np.zeros(self.num_envs, np.int64)  # number of the episode in flight
        self._session = np.zeros(self.num_envs, np.int64)  # number of the episode that began the session
        self._logged = np.zeros(self.num_envs, np.int64)  # steps of the session
        self._length = np.zeros(self.num_envs, np.int64)  # steps of the episode
        self._score = np.zeros(self.num_envs, np.float64)
        self._lives = np.zeros(self.num_envs, np.int64)
        self._presses = presses
        self._to_press: dict[int, list[int]] = {}  # environment -> what is still to be pressed in it
        self._log = np.empty(
            (self.num_envs, _FIRST_CAPACITY, *_shape(self.action_space)), _log_dtype(self.action_space)
        )
        self.obs = np.empty((self.num_envs, *_shape(self.observation_space)), self.observation_space.dtype)
        self._begin(self._envs, self._envs)

    def step(self, actions: np.ndarray) -> StepBatch:
        """One action each, [B] integers or [B, *] floats; ValueError where they do not fit the space.

        Where something is to be pressed after a lost life, it is played in place of the agent's action.
        """
        pressed = self._pressed()
        actions = self._checked(actions)
        if self._to_press:
            actions = np.where(pressed == NOT_PRESSED, actions, pressed)
        self._record(actions)
        played = self._simulator.step(actions)
        self._score += played.reward
        self._length += 1
        terminated = played.terminated
        truncated = (played.truncated | (self._length >= self._limit)) & ~terminated
        life_lost = (played.lives < self._lives) & ~terminated
        self.obs, self._lives = played.obs, played.lives
        self._plan_presses(life_lost)
        over = np.flatnonzero(terminated | truncated)
        final_obs = played.obs[over]
        episodes = tuple(EpisodeEnd(int(env), float(self._score[env]), int(self._length[env])) for env in over)
        if over.size:
            self._episode[over] += 1
            self._begin(over, over[self._logged[over] >= (self._simulator.session_steps or 0)])
        return StepBatch(
            obs=self.obs,
            reward=played.reward.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=life_lost,
            final_obs=final_obs,
            episodes=episodes,
            pressed=pressed,
        )

    def in_flight(self) -> tuple[EpisodeEnd, ...]:
        """How far the games in flight are, as ends that cut them: none of them is whole."""
        progress = zip(self._score.tolist(), self._length.tolist(), strict=True)
        return tuple(EpisodeEnd(env, score, length, whole=False) for env, (score, length) in enumerate(progress))

    def state_dict(self) -> dict[str, Any]:
        """The seeds and actions (those that were played) of the sessions in flight; without `exact_resume` no actions.

        `digest` [B] is a checksum of the present observations, by which a replay that went astray is noticed.
        """
        state: dict[str, Any] = {"seed": self._seed, "episode": self._episode.copy()}
        if self.exact_resume:
            state["session"] = self._session.copy()
            state["length"] = self._logged.copy()
            state["actions"] = np.concatenate([log[:n] for log, n in zip(self._log, self._logged, strict=True)])
            state["digest"] = self._digest()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken, by playing the sessions in flight again.

        Without `exact_resume`, begin new episodes instead. UserError where the state is of other
        environments, or where the game no longer plays as it did.
        """
        episode = np.array(state["episode"], np.int64)
        if episode.shape != (self.num_envs,):
            raise UserError(f"the saved state is of {episode.size} environments, not of {self.num_envs}")
        self._seed = int(state["seed"])
        if not self.exact_resume:
            self._episode = episode + 1
            self._begin(self._envs, self._envs)
            return
        length = np.asarray(state["length"], np.int64)
        actions = np.asarray(state["actions"], self.action_space.dtype)
        self._replay(np.asarray(state["session"], np.int64), np.split(actions, np.cumsum(length)[:-1]))
        astray = (self._digest() != np.asarray(state["digest"])) | (self._episode != episode)
        if astray.any():
            env = int(np.flatnonzero(astray)[0])
            raise UserError(
                f"environment {env}, reset with its seed and replayed for {length[env]} steps, is not where it was"
                " saved: its package has changed since (install the version that the run's manifest names), or it is"
                " not a function of its seed and actions"
            )

    def close(self) -> None:
        """Release the games; closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._simulator.close()

    def _begin(self, envs: np.ndarray, seeded: np.ndarray) -> None:
        """Begin the episodes that `_episode` names in `envs`; those among `seeded` begin a session too."""
        self._session[seeded] = self._episode[seeded]
        self._logged[seeded] = 0
        seeds = np.full(self.num_envs, GO_ON, np.int64)
        for env in seeded.tolist():
            seeds[env] = episode_seed(self._seed, env, int(self._episode[env]))
        self._simulator.begin(envs, seeds[envs], self.obs, self._lives)
        self._score[envs] = 0.0
        self._length[envs] = 0
        for env in envs.tolist():
            self._to_press.pop(env, None)

    def _pressed(self) -> np.ndarray:
        """[B] int64: the presses of this step."""
        pressed = np.full(self.num_envs, NOT_PRESSED, np.int64)
        for env, actions in self._to_press.items():
            pressed[env] = actions[0]
        return pressed

    def _plan_presses(self, life_lost: np.ndarray) -> None:
        """What was pressed is done with; a life lost while the game goes on has its own presses from the next step."""
        self._to_press = {env: rest for env, (_, *rest) in self._to_press.items() if rest}
        if self._presses is None:
            return
        for env in np.flatnonzero(life_lost & (self._lives > 0)).tolist():
            episode, length = int(self._episode[env]), int(self._length[env])
            if actions := self._presses.after_life(self._seed, env, episode, length):
                self._to_press[env] = actions

    def _replay(self, session: np.ndarray, logs: list[np.ndarray]) -> None:
        """Play the logged actions of every environment again, from the episode [B] that began its session.

        All environments step together, so those with less to replay begin later and all arrive at once. What
        an environment plays before that is of no consequence.
        """
        longest = max(len(log) for log in logs)
        begins = longest - np.array([len(log) for log in logs])
        actions = np.zeros((longest, self.num_envs, *_shape(self.action_space)), self.action_space.dtype)
        for env, log in enumerate(logs):
            actions[begins[env] :, env] = log
        for t in range(longest + 1):
            beginning = np.flatnonzero(begins == t)
            if beginning.size:
                self._episode[beginning] = session[beginning]
                self._begin(beginning, beginning)
            if t < longest:
                self.step(actions[t])

    def _record(self, actions: np.ndarray) -> None:
        if self._logged.max() == self._log.shape[1]:
            self._log = np.concatenate((self._log, np.empty_like(self._log)), axis=1)
        self._log[self._envs, self._logged] = actions
        self._logged += 1

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        space = self.action_space
        shape = (self.num_envs, *_shape(space))
        if actions.shape != shape:
            raise ValueError(f"actions have shape {actions.shape}, not {shape}")
        if isinstance(space, spaces.Discrete) and (actions.min() < 0 or actions.max() >= space.n):
            raise ValueError(f"actions must lie in 0 … {space.n - 1}")
        if isinstance(space, spaces.MultiDiscrete) and ((actions < 0) | (actions >= space.nvec)).any():
            raise ValueError(f"actions must lie in 0 … {(space.nvec - 1).tolist()}")
        return actions.astype(space.dtype, copy=False)

    def _digest(self) -> np.ndarray:
        return np.array([zlib.crc32(row.tobytes()) for row in self.obs], np.int64)


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape


def _log_dtype(space: spaces.Space[Any]) -> np.dtype[Any]:
    """The narrowest type that holds the actions: a byte for a game's buttons."""
    if isinstance(space, spaces.Discrete):
        return np.min_scalar_type(int(space.n) - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return np.min_scalar_type(int(space.nvec.max()) - 1)
    assert space.dtype is not None
    return np.dtype(space.dtype)
