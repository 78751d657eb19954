"""Games that change while an agent learns: the tasks of `--task_schedule` one after the other, as one environment.

The agent is told nothing. All tasks show themselves in one observation space (images padded with empty channels to
the most that any task has) and take the same actions. Change points count agent steps over all environments; a task
ends with the first vector step that reaches its change point. The games in flight are cut there like a time-out:
`truncated`, with their true last observation, so that targets bootstrap from it and nothing flows across the change.
What was cut is no whole game: its `EpisodeEnd` has `whole=False`, and no score counts it. What an agent keeps (a
replay, running statistics) it keeps across the change.

Every task of the schedule begins new games from seeds of its own, also one that comes back.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import StepBatch, episode_seed
from stablegrad.envs.changes import common_observations, fixed_permutation, move_places, pad_channels, places
from stablegrad.envs.episodes import EpisodicEnv, Played, Simulator
from stablegrad.envs.schedule import GameTask
from stablegrad.envs.spec import EnvSpec
from stablegrad.envs.views import PlainView, View
from stablegrad.errors import UserError

if TYPE_CHECKING:
    from stablegrad.envs.presses import Presses

BuildSimulator = Callable[[GameTask, int], Simulator]
"""(task, number of environments) -> its games, unchanged."""

PressesOf = Callable[[GameTask], "Presses | None"]
"""task -> what is pressed after a lost life in its games, unchanged."""


class ChangedGames:
    """The simulator of one task: another one behind a permutation of buttons, of places, a sign, empty channels."""

    def __init__(self, games: Simulator, task: GameTask, observation_space: spaces.Box) -> None:
        self._games, self._sign = games, -1.0 if task.flip_reward else 1.0
        self.num_envs, self.session_steps = games.num_envs, games.session_steps
        self.observation_space: spaces.Space[Any] = observation_space
        self.action_space = games.action_space
        own = cast(spaces.Box, games.observation_space)
        self._first = np.empty((self.num_envs, *own.shape), own.dtype)
        self._channels = observation_space.shape[0]
        self._places = None if task.permute_obs is None else fixed_permutation(places(own), task.permute_obs)
        self.buttons: np.ndarray | None = None
        """Action k of the agent is action `buttons[k]` of the game; None where nothing is permuted."""
        if task.permute_actions is not None:
            if not isinstance(games.action_space, spaces.Discrete):
                raise UserError(f"task '{task.text}': permute_actions needs buttons, not {games.action_space}")
            self.buttons = fixed_permutation(int(games.action_space.n), task.permute_actions)

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        self._games.begin(envs, seeds, self._first, lives)
        obs[envs] = self._shown(self._first[envs])

    def step(self, actions: np.ndarray) -> Played:
        played = self._games.step(actions if self.buttons is None else self.buttons[actions])
        return played._replace(obs=self._shown(played.obs), reward=self._sign * played.reward)

    def close(self) -> None:
        self._games.close()

    def _shown(self, obs: np.ndarray) -> np.ndarray:
        if self._places is not None:
            obs = move_places(obs, self._places)
        return pad_channels(obs, self._channels) if obs.ndim == 4 else obs


class SequenceEnv:
    """A `VectorEnv` that plays the tasks of `spec` in turn; with `only`, that one task (from 0) for ever."""

    def __init__(
        self,
        spec: EnvSpec,
        build: BuildSimulator,
        presses_of: PressesOf,
        *,
        num_envs: int,
        seed: int,
        only: int | None,
    ) -> None:
        self.num_envs, self._spec, self._seed, self._only = num_envs, spec, seed, only
        self._build, self._presses_of = build, presses_of
        self._space, self.action_space = common_spaces(spec.tasks, build)
        self.observation_space: spaces.Space[Any] = self._space
        self.view: View = PlainView(self._space, self.action_space)
        self._steps = 0
        self._begin(only or 0)
        self.exact_resume = self._env.exact_resume

    def step(self, actions: np.ndarray) -> StepBatch:
        """One action each; behind the last step of a task, the first observations of the next."""
        step = self._env.step(actions)
        self.obs = step.obs
        self._steps += self.num_envs
        if self._only is not None or self._spec.task_at(self._steps) == self._task:
            return step
        cut = ~step.ended
        episodes = {end.env: end for end in step.episodes}
        episodes |= {end.env: end for end in self._env.in_flight() if cut[end.env]}
        last = step.next_obs
        self._env.close()
        self._begin(self._spec.task_at(self._steps))
        return dataclasses.replace(
            step,
            obs=self.obs,
            truncated=step.truncated | cut,
            final_obs=last,
            episodes=tuple(episodes[env] for env in range(self.num_envs)),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "task": self._task, "steps": self._steps, "games": self._env.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seed, self._steps = state["seed"], state["steps"]
        if state["task"] != self._task:
            self._env.close()
            self._begin(state["task"])
        self._env.load_state_dict(state["games"])
        self.obs = self._env.obs

    def close(self) -> None:
        self._env.close()

    def _begin(self, index: int) -> None:
        """Begin the first games of task `index`."""
        task = self._spec.tasks[index]
        games = ChangedGames(self._build(task, self.num_envs), task, self._space)
        seed = episode_seed(self._seed, index, 0)
        presses = self._presses_of(task)
        if presses is not None and games.buttons is not None:
            presses = presses.through(games.buttons.tolist())
        self._task = index
        self._env = EpisodicEnv(games, seed=seed, max_episode_steps=self._spec.max_episode_steps, presses=presses)
        self.obs = self._env.obs


def shown_space(own: spaces.Box, task: GameTask) -> spaces.Box:
    """The observations of a task's game as the task shows them, before any padding."""
    if task.permute_obs is None:
        return own
    order = fixed_permutation(places(own), task.permute_obs)
    low, high = (move_places(bound[None], order)[0] for bound in (own.low, own.high))
    return spaces.Box(low, high, dtype=own.dtype.type)


def common_spaces(tasks: Sequence[GameTask], build: BuildSimulator) -> tuple[spaces.Box, spaces.Space[Any]]:
    """The observations and actions of all tasks, each of which is built once and closed again.

    Raises UserError, with every problem at once, where a task cannot be built or the tasks do not fit together.
    """
    problems: list[str] = []
    observations: list[spaces.Box] = []
    actions: list[spaces.Space[Any]] = []
    for task in dict.fromkeys(tasks):
        try:
            games = build(task, 1)
        except UserError as error:
            problems.extend(error.problems)
            continue
        games.close()
        observations.append(shown_space(cast(spaces.Box, games.observation_space), task))
        actions.append(games.action_space)
    if any(space != actions[0] for space in actions[1:]):
        told = " and ".join(dict.fromkeys(map(str, actions)))
        problems.append(f"--task_schedule: the tasks have different actions ({told})")
    if problems:
        raise UserError(problems)
    return common_observations(observations), actions[0]
