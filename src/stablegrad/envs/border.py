"""The border to environments that somebody else wrote: what they return is looked at here, before any cast.

What comes is taken as what it means wherever that is beyond doubt: an array of one number for a number, numpy's
booleans, whole numbers in another type, a reward in float32, the step of Gym's old interface (observation, reward,
done, info), a `reset` that returns the observation alone. Everything else that is not what the environment's spaces
and Gymnasium's interface promise raises `BrokenPromise`: one sentence that names the environment, the step, what came
and what was promised.

Kinds, shapes, casts, rewards, ends and lives are looked at in every step of every environment, and so are values that
pick a place (`Discrete`). Whether the other numbers are finite and within their bounds is looked at in every step too,
for all environments at once: see `observations.py`.
"""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing
from gymnasium import spaces

from stablegrad.errors import BAD_USAGE, FAILED, UserError
from stablegrad.registry import in_words

_LARGEST = float(np.finfo(np.float32).max)
"""What agents see and learn from is float32 at most."""
_NUMBERS = (float, int, np.floating, np.integer)


class BrokenPromise(UserError):
    """An environment did not do what it promised. Before its first step that is bad usage, later a failure."""

    def __init__(self, sentence: str, *, at_work: bool) -> None:
        super().__init__(sentence)
        self.exit_code = FAILED if at_work else BAD_USAGE


Returned = tuple[list[np.ndarray], float, bool, bool, int]
"""What a step returned, as what it means: the array of each promise in their order, reward, terminated, truncated,
lives. A plain tuple, as this is made in every step of every environment."""


class _Broken(Exception):
    """What came, and what was promised; the border adds whose promise it was, and when."""


class Promise:
    """One array of numbers that a space promises; `keys` lead to it in the observation, and so does the text `path`."""

    def __init__(
        self, space: spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary, keys: tuple[Any, ...]
    ) -> None:
        assert space.dtype is not None
        assert space.shape is not None
        self.keys, self.path = keys, "".join(f"[{key!r}]" for key in keys)
        self.space, self.dtype, self.shape = space, np.dtype(space.dtype), tuple(space.shape)
        # Numbers that pick a place in a one-hot row have to lie in it before the row is written.
        self.picks = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
        self.low, self.high = _bounds(space)
        self.whole = self.dtype.kind in "biu"

    def read(self, raw: Any) -> np.ndarray:
        """`raw` as an array of the promised type and shape. _Broken where it cannot be one without loss."""
        if type(raw) is not np.ndarray or raw.dtype != self.dtype or raw.shape != self.shape:
            raw = self._taken(raw)
        if self.picks:
            self.check_values(raw)
        return raw

    def check_values(self, array: np.ndarray) -> None:
        """_Broken where a number is not finite or lies beyond the bounds of the space."""
        if self.dtype.kind == "f":
            finite = np.abs(array) <= _LARGEST  # NaN is not, either
            if not finite.all():
                where = _first(~finite)
                raise _Broken(f"{self._entry(where)} is {array[where]}, and finite numbers of float32 are promised")
        within = (array >= self.low) & (array <= self.high)
        if not within.all():
            where = _first(~within)
            low, high = (np.broadcast_to(bound, self.shape)[where] for bound in (self.low, self.high))
            raise _Broken(
                f"an observation lies outside the observation space: {self._entry(where)} is {array[where]}, and"
                f" {low} to {high} are promised{'' if self.picks else ' (mend the space, or say --check_bounds false)'}"
            )

    def _taken(self, raw: Any) -> np.ndarray:
        """What is not yet an array of the right type and shape, as one."""
        array = _numbers(raw)
        if array is None:
            raise _Broken(f"the observation{self.path} is {_shown(raw)}, and {self._promised()} is promised")
        if array.shape != self.shape:
            if array.size != 1 or math.prod(self.shape) != 1:
                raise _Broken(
                    f"the observation{self.path} has shape {_tuple(array.shape)}, and {_tuple(self.shape)} is promised"
                )
            array = array.reshape(self.shape)
        cast = narrowed(array, self.dtype)
        if self.whole and not np.array_equal(cast, array):
            where = _first(cast != array)
            raise _Broken(
                f"{self._entry(where)} is {array[where]} ({array.dtype}), which the promised {self.dtype} cannot hold:"
                " return what the observation space says, or declare a space of the numbers that are returned"
            )
        lost = np.isinf(cast) & np.isfinite(array)
        if lost.any():
            where = _first(lost)
            raise _Broken(f"{self._entry(where)} is {array[where]}, which the promised {self.dtype} cannot hold")
        return cast

    def _entry(self, where: tuple[int, ...]) -> str:
        place = f" at [{', '.join(map(str, where))}]" if where else ""
        return f"the observation{self.path}{place}"

    def _promised(self) -> str:
        return f"a number ({self.dtype})" if self.shape == () else f"an array {_tuple(self.shape)} of {self.dtype}"


class Border:
    """One environment, whose answers come as what they mean or not at all. `name` and `number` say which it is."""

    def __init__(self, env: gymnasium.Env, *, name: str, number: int) -> None:
        self.env, self.name, self.number = env, name, number
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
        except _Broken as broken:
            raise self.broken(str(broken)) from None

    def step(self, action: Any) -> Returned:
        """What `action` led to."""
        self._time, self._at_work = self._time + 1, True
        try:
            result = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self.broken(f"step({_shown(action)}) ended with {in_words(error)}") from error
        try:
            if type(result) is tuple and len(result) == 5:
                obs, reward, terminated, truncated, info = result
            else:
                obs, reward, terminated, truncated, info = _five(result)
            # Most often everything has its type already, and then a look at that is all it costs.
            if not isinstance(reward, float) or not -_LARGEST <= reward <= _LARGEST:
                reward = _reward(reward)
            if type(terminated) is not bool or type(truncated) is not bool:
                terminated, truncated = _flag(terminated, "terminated"), _flag(truncated, "truncated")
            lives = 0 if type(info) is dict and "lives" not in info else _lives(info)
            return self._observation(obs), reward, terminated, truncated, lives
        except _Broken as broken:
            raise self.broken(str(broken)) from None

    def check_values(self, observation: Sequence[np.ndarray]) -> None:
        """Raise what is wrong with the numbers of an observation that `reset` or `step` returned, if anything is."""
        try:
            for promise, array in zip(self.promises, observation, strict=True):
                promise.check_values(array)
        except _Broken as broken:
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


def promises(space: spaces.Space[Any], *keys: Any) -> Iterator[Promise]:
    """The arrays that an observation of `space` consists of. UserError where there is no fixed number of them."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, part in _items(space):
            yield from promises(part, *keys, key)
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        yield Promise(space, keys)
    else:
        raise UserError(f"observations {space} cannot be made an array of fixed size")


def parts(space: spaces.Space[Any], raw: Any, path: str) -> Iterator[Any]:
    """What of `raw` belongs to each of the promises, in their order. _Broken where something is missing."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield raw
        return
    if isinstance(space, spaces.Dict):
        if not isinstance(raw, Mapping):
            raise _Broken(f"the observation{path} is {_shown(raw)}, and a dict is promised")
        missing, strange = space.keys() - raw.keys(), raw.keys() - space.keys()
        if missing or strange:
            odd = [f"has no {sorted(map(str, missing))}"] * bool(missing)
            odd += [f"has {sorted(map(str, strange))}, which the space has not"] * bool(strange)
            raise _Broken(f"the observation{path} {' and '.join(odd)}")
    elif not isinstance(raw, Sequence | np.ndarray) or len(raw) != len(space.spaces):
        raise _Broken(f"the observation{path} is {_shown(raw)}, and a tuple of {len(space.spaces)} is promised")
    for key, part in _items(space):
        yield from parts(part, raw[key], f"{path}[{key!r}]")


def _items(space: spaces.Dict | spaces.Tuple) -> Iterator[tuple[Any, spaces.Space[Any]]]:
    yield from space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)


def _bounds(space: spaces.Space[Any]) -> tuple[Any, Any]:
    """The lowest and highest number at each place, in the space's own type."""
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    assert isinstance(space, spaces.MultiDiscrete)
    return space.start, space.start + space.nvec - 1


def _takes_a_seed(env: gymnasium.Env) -> bool:
    arguments = inspect.signature(env.reset).parameters
    return "seed" in arguments or any(each.kind is each.VAR_KEYWORD for each in arguments.values())


def _numbers(raw: Any) -> np.ndarray | None:
    """`raw` as an array of numbers or truths; None where it is none."""
    try:
        array = np.asarray(raw)
    except Exception:  # noqa: BLE001 - anybody's object may raise anything; the sentence about it says what it is
        return None
    return array if array.dtype.kind in "biuf" else None


def _five(result: Any) -> tuple[Any, Any, Any, Any, Any]:
    """What `step` returned, as Gymnasium has it."""
    if isinstance(result, tuple) and len(result) == 5:
        return result
    if isinstance(result, tuple) and len(result) == 4 and isinstance(result[3], Mapping):
        obs, reward, done, info = result
        over, cut = _flag(done, "done"), _flag(info.get("TimeLimit.truncated", False), "TimeLimit.truncated")
        return obs, reward, over and not cut, over and cut, info
    raise _Broken(f"step returned {_shown(result)}, not (observation, reward, terminated, truncated, info)")


def _flag(raw: Any, name: str) -> bool:
    array = _numbers(raw)
    if array is None or array.size != 1 or array.dtype.kind == "f" or int(array.item()) not in (0, 1):
        raise _Broken(f"{name} is {_shown(raw)}, and true or false is promised")
    return bool(array.item())


def _reward(raw: Any) -> float:
    if not isinstance(raw, _NUMBERS):
        array = _numbers(raw)
        if array is None or array.size != 1:
            raise _Broken(f"the reward is {_shown(raw)}, and one number is promised")
        raw = array.item()
    if not abs(raw) <= _LARGEST:  # NaN is not, either
        raise _Broken(f"the reward is {raw}, and a finite number of float32 is promised")
    return float(raw)


def _lives(info: Any) -> int:
    if not isinstance(info, Mapping):
        raise _Broken(f"info is {_shown(info)}, and a dict is promised")
    raw = info.get("lives", 0)
    array = _numbers(raw)
    if array is None or array.size != 1 or not float(array.item()).is_integer():
        raise _Broken(f"info['lives'] is {_shown(raw)}, and a whole number is promised")
    return int(array.item())


def narrowed(array: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """The array in another type; what does not fit is infinite or wrong, without a warning: somebody looks at it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """The first place at which `mask` is true."""
    return tuple(int(index) for index in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _tuple(shape: tuple[int, ...]) -> str:
    return str(shape).replace(" ", "")


def _shown(value: Any) -> str:
    """A value in at most a line: what it is, and itself where it is short."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray) and value.size > 1:
        return f"an array {_tuple(value.shape)} of {value.dtype}"
    if isinstance(value, tuple | list) and len(value) > 1:
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - anybody's object; its type has to do
        return f"a {type(value).__name__}"
    return f"{text if len(text) <= 60 else f'{text[:60]}…'} ({type(value).__name__})"
