"""The border to environments that somebody else wrote: what they return is looked at here, before any cast.

What comes is taken as what it means wherever that is beyond doubt: an array of one number for a number, numpy's
booleans, whole numbers in another type, a reward in float32, the step of Gym's old interface (observation, reward,
done, info), a `reset` that returns the observation alone. Everything else that is not what the environment's spaces
and Gymnasium's interface promise raises `BrokenPromise`: one sentence that names the environment, the step, what came
and what was promised.

Kinds, shapes, casts (`promises.py`), rewards, ends and lives are looked at in every step of every environment, and so
are values that pick a place (`Discrete`). Whether the other numbers are finite and within their bounds is looked at in
every step too, for all environments at once: see `observations.py`.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from stablegrad.envs.promises import LARGEST, Broken, numbers, parts, promises, shown
from stablegrad.errors import BAD_USAGE, FAILED, UserError
from stablegrad.registry import in_words

_NUMBERS = (float, int, np.floating, np.integer)


class BrokenPromise(UserError):
    """An environment did not do what it promised. Before its first step that is bad usage, later a failure."""

    def __init__(self, sentence: str, *, at_work: bool) -> None:
        super().__init__(sentence)
        self.exit_code = FAILED if at_work else BAD_USAGE


Returned = tuple[list[np.ndarray], float, bool, bool, int]
"""What a step returned, as what it means: the array of each promise in their order, reward, terminated, truncated,
lives. A plain tuple, as this is made in every step of every environment."""


class Border:
    """One environment, whose answers come as what they mean or not at all. `name` and `number` say which it is."""

    def __init__(self, env: gymnasium.Env, *, name: str, number: int) -> None:
        self.env, self.name, self.number = env, name, number
        for space in ("observation_space", "action_space"):
            if not isinstance(getattr(env, space, None), spaces.Space):
                raise UserError(f"{name} has no {space}: set it to one of gymnasium.spaces")
        self.promises = list(promises(env.observation_space))
        if not self.promises:
            raise UserError(f"{name}: its observations {env.observation_space} hold nothing")
        self._whole = self.promises[0] if self.promises[0].keys == () else None
        self._seeded = _takes_a_seed(env)
        if not self._seeded and not callable(getattr(env, "seed", None)):
            raise UserError(f"{name}: its reset takes no seed; write `def reset(self, *, seed=None, options=None)`")
        self._seed, self._time, self._at_work = 0, 0, False

    def reset(self, seed: int) -> tuple[list[np.ndarray], int]:
        """The first observation of an episode, and the lives."""
        self._seed, self._time = seed, 0
        try:
            result = self._reset(seed)
            if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
                return self._observation(result[0]), _lives(result[1])
            return self._observation(result), 0  # as Gym's old interface has it
        except Broken as broken:
            raise self.broken(str(broken)) from None

    def step(self, action: Any) -> Returned:
        """What `action` led to."""
        self._time, self._at_work = self._time + 1, True
        try:
            result = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self.broken(f"step({shown(action)}) ended with {in_words(error)}") from error
        try:
            if type(result) is tuple and len(result) == 5:
                obs, reward, terminated, truncated, info = result
            else:
                obs, reward, terminated, truncated, info = _five(result)
            # Most often everything has its type already, and then a look at that is all it costs.
            if not isinstance(reward, float) or not -LARGEST <= reward <= LARGEST:
                reward = _reward(reward)
            if type(terminated) is not bool or type(truncated) is not bool:
                terminated, truncated = _flag(terminated, "terminated"), _flag(truncated, "truncated")
            lives = 0 if type(info) is dict and "lives" not in info else _lives(info)
            return self._observation(obs), reward, terminated, truncated, lives
        except Broken as broken:
            raise self.broken(str(broken)) from None

    def check_values(self, observation: Sequence[np.ndarray]) -> None:
        """Raise what is wrong with the numbers of an observation that `reset` or `step` returned, if anything is."""
        try:
            for promise, array in zip(self.promises, observation, strict=True):
                promise.check_values(array)
        except Broken as broken:
            raise self.broken(str(broken)) from None

    def broken(self, what: str) -> BrokenPromise:
        """The error that says `what` of the present step."""
        when = f"at step {self._time} of the episode with seed {self._seed}"
        if self._time == 0:
            when = f"at its reset with seed {self._seed}"
        return BrokenPromise(f"{self.name}, environment {self.number}, {when}: {what}", at_work=self._at_work)

    def _reset(self, seed: int) -> Any:
        try:
            if self._seeded:
                return self.env.reset(seed=seed)
            self.env.seed(seed)  # type: ignore[attr-defined]
            return self.env.reset()
        except (Exception, SystemExit) as error:
            raise self.broken(f"reset ended with {in_words(error)}") from error

    def _observation(self, raw: Any) -> list[np.ndarray]:
        if self._whole is not None:
            return [self._whole.read(raw)]
        found = parts(self.env.observation_space, raw, "")
        return [promise.read(part) for promise, part in zip(self.promises, found, strict=True)]


def _takes_a_seed(env: gymnasium.Env) -> bool:
    try:
        arguments = inspect.signature(env.reset).parameters
    except ValueError:  # compiled code may not tell
        return True
    return "seed" in arguments or any(each.kind is each.VAR_KEYWORD for each in arguments.values())


def _five(result: Any) -> tuple[Any, Any, Any, Any, Any]:
    """What `step` returned, as Gymnasium has it."""
    if isinstance(result, tuple) and len(result) == 5:
        return result
    if isinstance(result, tuple) and len(result) == 4 and isinstance(result[3], Mapping):
        obs, reward, done, info = result
        over, cut = _flag(done, "done"), _flag(info.get("TimeLimit.truncated", False), "TimeLimit.truncated")
        return obs, reward, over and not cut, over and cut, info
    raise Broken(f"step returned {shown(result)}, not (observation, reward, terminated, truncated, info)")


def _flag(raw: Any, name: str) -> bool:
    array = numbers(raw)
    if array is None or array.size != 1 or array.dtype.kind == "f" or int(array.item()) not in (0, 1):
        raise Broken(f"{name} is {shown(raw)}, and true or false is promised")
    return bool(array.item())


def _reward(raw: Any) -> float:
    if not isinstance(raw, _NUMBERS):
        array = numbers(raw)
        if array is None or array.size != 1:
            raise Broken(f"the reward is {shown(raw)}, and one number is promised")
        raw = array.item()
    if not abs(raw) <= LARGEST:  # NaN is not, either
        raise Broken(f"the reward is {raw}, and a finite number of float32 is promised")
    return float(raw)


def _lives(info: Any) -> int:
    if not isinstance(info, Mapping):
        raise Broken(f"info is {shown(info)}, and a dict is promised")
    raw = info.get("lives", 0)
    array = numbers(raw)
    if array is None or array.size != 1 or not float(array.item()).is_integer():
        raise Broken(f"info['lives'] is {shown(raw)}, and a whole number is promised")
    return int(array.item())
