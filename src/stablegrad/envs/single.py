"""Environments with Gymnasium's interface, stepped in turn in this thread: any id, or a user's file.

A user's file has a callable that returns a `gymnasium.Env`, called once per environment, with the arguments of
`--env_kwargs` if there are any (and `render_mode` for a video, if it takes that):

    # my_env.py, then: stablegrad pqn --env_id my_env.py:Corridor
    import gymnasium
    import numpy as np
    from gymnasium import spaces

    class Corridor(gymnasium.Env):
        observation_space = spaces.Box(0, 1, (1,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.place = self.np_random.integers(5)
            return np.array([self.place / 9], np.float32), {}

        def step(self, action):
            self.place = max(0, self.place + (1 if action else -1))
            done = self.place == 9
            return np.array([self.place / 9], np.float32), float(done), done, False, {}

All that is asked of it is what Gymnasium asks, taken seriously: `reset(seed=…)` determines the episode, so
every random number comes from `self.np_random`, and nothing is carried over from the episode before. An
`info["lives"]`, where there is one, is read as in Atari. Its own time limit may set `truncated`;
`--max_episode_steps` adds one.

What it returns is checked before any cast (`border.py`), and shown to the agent as `observations.py` says. Actions
are `Discrete` and `MultiDiscrete` (counted from 0), `MultiBinary` (choices among two), or `Box` (clipped to its
bounds).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing

from stablegrad.envs.arguments import parse_arguments
from stablegrad.envs.border import Border
from stablegrad.envs.episodes import Played
from stablegrad.envs.observations import Observations
from stablegrad.envs.spec import EnvSpec
from stablegrad.envs.views import SingleView
from stablegrad.errors import UserError
from stablegrad.registry import in_words, load_user_object

Actions = spaces.Discrete | spaces.MultiDiscrete | spaces.Box
"""What agents choose from; a switch (`MultiBinary`) is a choice among two."""

_EXTRAS = {"box2d": "box2d", "mujoco": "mujoco"}


class SingleSimulator:
    """B single environments. Rewards, ends and time-outs are the environment's own."""

    session_steps: int | None = 0

    def __init__(
        self, spec: EnvSpec, *, num_envs: int, num_threads: int | None, render_mode: str | None = None
    ) -> None:
        self.num_envs = num_envs
        build = _builder(spec, render_mode)
        self._envs: list[Border] = []
        try:
            for number in range(num_envs):
                self._envs.append(Border(build(), name=spec.env_id, number=number))
            self._first = self._envs[0].env
            for border in self._envs:
                if (border.env.observation_space, border.env.action_space) != (
                    self._first.observation_space, self._first.action_space
                ):  # fmt: skip
                    raise UserError(
                        f"{spec.env_id}: environment {border.number} has other spaces ({border.env.observation_space},"
                        f" {border.env.action_space}) than environment 0: all copies have to be of one kind"
                    )
            if render_mode is not None and not _shows(self._first, render_mode):
                raise UserError(
                    f"{spec.env_id} cannot be shown: it has no render_mode '{render_mode}', but"
                    f" {self._first.render_mode}, and its metadata name {self._first.metadata.get('render_modes', [])}"
                )
            self.metadata = self._first.metadata
            self._observations = Observations(
                self._first.observation_space, spec.image_layout, bounded=spec.check_bounds
            )
            self.observation_space = self._observations.space
            self.action_space, self._act = _actions(spec.env_id, self._first.action_space)
            self.view = SingleView(self._first, self._observations, self._act)
        except UserError:
            self.close()
            raise

    def begin(self, envs: np.ndarray, seeds: np.ndarray, obs: np.ndarray, lives: np.ndarray) -> None:
        raw: list[list[np.ndarray]] = []
        for env, seed in zip(envs, seeds, strict=True):
            first, lives[env] = self._envs[env].reset(int(seed))
            raw.append(first)
            self._observations.show(first, obs[env])
        self._look(envs, obs[envs], raw)

    def step(self, actions: np.ndarray) -> Played:
        played = Played.empty(self.num_envs, self.observation_space)
        raw: list[list[np.ndarray]] = []
        for i, (env, action) in enumerate(zip(self._envs, self._act(actions), strict=True)):
            shown, played.reward[i], played.terminated[i], played.truncated[i], played.lives[i] = env.step(action)
            raw.append(shown)
            self._observations.show(shown, played.obs[i])
        self._look(range(self.num_envs), played.obs, raw)
        return played

    def _look(self, envs: Sequence[int] | np.ndarray, obs: np.ndarray, raw: list[list[np.ndarray]]) -> None:
        """Raise BrokenPromise where observations [E, *] of `envs` hold what is not finite or outside their space."""
        found = self._observations.outside(obs)
        if found is not None:
            border = self._envs[envs[found]]
            border.check_values(raw[found])  # says which number it is
            raise border.broken("an observation lies outside the observation space")

    def render(self) -> np.ndarray:
        """The picture [H, W, 3] of the first environment, built with a `render_mode`."""
        try:
            picture: Any = self._first.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"{self._first} cannot be shown: {error}") from error
        return np.asarray(picture, np.uint8)

    def close(self) -> None:
        for border in self._envs:
            border.env.close()


def _shows(env: gymnasium.Env, render_mode: str) -> bool:
    return env.render_mode == render_mode and render_mode in env.metadata.get("render_modes", ())


def _builder(spec: EnvSpec, render_mode: str | None) -> Callable[[], gymnasium.Env]:
    """What builds one environment: with its arguments, and behind the user's wrapper. UserError where it cannot."""
    make: Callable[..., Any] = load_user_object(spec.env_id) if spec.backend == "file" else _registered(spec.env_id)
    wrap: Callable[[Any], Any] | None = load_user_object(spec.wrapper) if spec.wrapper is not None else None
    arguments = parse_arguments(spec.env_kwargs)
    # An environment that is never shown need not know what a render_mode is, and one may show itself without.
    if render_mode is not None and (spec.backend != "file" or _takes(make, "render_mode")):
        arguments["render_mode"] = render_mode
    asked = f" with --env_kwargs {','.join(spec.env_kwargs)}" if spec.env_kwargs else ""

    def build() -> gymnasium.Env:
        env = _made(f"{spec.env_id}{asked}", lambda: make(**arguments))
        return env if wrap is None else _made(f"--wrapper {spec.wrapper}", lambda: wrap(env))

    return build


def _made(what: str, make: Callable[[], Any]) -> gymnasium.Env:
    try:
        env = make()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} cannot be built: {in_words(error)}") from error
    if not isinstance(env, gymnasium.Env):
        raise UserError(f"{what} returns a {type(env).__name__}, not a Gymnasium environment")
    return env


def _takes(make: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(make).parameters
    return argument in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _registered(env_id: str) -> Callable[..., gymnasium.Env]:
    """Builds a registered environment, without its checks and its time limit: the limit is kept outside."""

    def make(**arguments: Any) -> gymnasium.Env:
        try:
            env = gymnasium.make(env_id, disable_env_checker=True, max_episode_steps=-1, **arguments)
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise UserError(f"{env_id}: {_missing(str(error))}") from error
        return env.env if isinstance(env, OrderEnforcing) else env

    return make


def _missing(message: str) -> str:
    for package, extra in _EXTRAS.items():
        if package in message.lower():
            return f"{package} is not installed: pip install 'stablegrad[{extra}]'"
    return f"a package that it needs is not installed ({message})"


def _actions(env_id: str, space: spaces.Space[Any]) -> tuple[Actions, Callable[[np.ndarray], Any]]:
    """The agent's action space, and the map from a batch of its actions to the environment's."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n)), lambda actions: (actions + space.start).tolist()
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return space, lambda actions: np.clip(actions, space.low, space.high)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        shape, dtype = space.shape, space.dtype
        sizes = space.nvec if isinstance(space, spaces.MultiDiscrete) else np.full(shape, 2)
        start = space.start if isinstance(space, spaces.MultiDiscrete) else 0
        choices = spaces.MultiDiscrete(sizes.ravel())
        return choices, lambda actions: (actions.reshape(-1, *shape) + start).astype(dtype)
    raise UserError(
        f"{env_id} has actions {space}; only Discrete and continuous Box actions, MultiDiscrete and MultiBinary are"
        " supported"
    )
