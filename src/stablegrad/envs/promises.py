"""What a space of Gymnasium promises, array by array, and whether something that came is that."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing
from gymnasium import spaces

from stablegrad.errors import UserError

LARGEST = float(np.finfo(np.float32).max)
"""What agents see and learn from is float32 at most."""


class Broken(Exception):
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
        """`raw` as an array of the promised type and shape. Broken where it cannot be one without loss."""
        if type(raw) is not np.ndarray or raw.dtype != self.dtype or raw.shape != self.shape:
            raw = self._taken(raw)
        if self.picks:
            self.check_values(raw)
        return raw

    def check_values(self, array: np.ndarray) -> None:
        """Broken where a number is not finite or lies beyond the bounds of the space."""
        if self.dtype.kind == "f":
            finite = np.abs(array) <= LARGEST  # NaN is not, either
            if not finite.all():
                where = _first(~finite)
                raise Broken(f"{self._entry(where)} is {array[where]}, and finite numbers of float32 are promised")
        within = (array >= self.low) & (array <= self.high)
        if not within.all():
            where = _first(~within)
            low, high = (np.broadcast_to(bound, self.shape)[where] for bound in (self.low, self.high))
            raise Broken(
                f"an observation lies outside the observation space: {self._entry(where)} is {array[where]}, and"
                f" {low} to {high} are promised{'' if self.picks else ' (mend the space, or say --check_bounds false)'}"
            )

    def _taken(self, raw: Any) -> np.ndarray:
        """What is not yet an array of the right type and shape, as one."""
        array = numbers(raw)
        if array is None:
            raise Broken(f"the observation{self.path} is {shown(raw)}, and {self._promised()} is promised")
        if array.shape != self.shape:
            if array.size != 1 or math.prod(self.shape) != 1:
                raise Broken(
                    f"the observation{self.path} has shape {_tuple(array.shape)}, and {_tuple(self.shape)} is promised"
                )
            array = array.reshape(self.shape)
        cast = narrowed(array, self.dtype)
        if self.whole and not np.array_equal(cast, array):
            where = _first(cast != array)
            raise Broken(
                f"{self._entry(where)} is {array[where]} ({array.dtype}), which the promised {self.dtype} cannot hold:"
                " return what the observation space says, or declare a space of the numbers that are returned"
            )
        lost = np.isinf(cast) & np.isfinite(array)
        if lost.any():
            where = _first(lost)
            raise Broken(f"{self._entry(where)} is {array[where]}, which the promised {self.dtype} cannot hold")
        return cast

    def _entry(self, where: tuple[int, ...]) -> str:
        place = f" at [{', '.join(map(str, where))}]" if where else ""
        return f"the observation{self.path}{place}"

    def _promised(self) -> str:
        return f"a number ({self.dtype})" if self.shape == () else f"an array {_tuple(self.shape)} of {self.dtype}"


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
    """What of `raw` belongs to each of the promises, in their order. Broken where something is missing."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield raw
        return
    if isinstance(space, spaces.Dict):
        if not isinstance(raw, Mapping):
            raise Broken(f"the observation{path} is {shown(raw)}, and a dict is promised")
        missing, strange = space.keys() - raw.keys(), raw.keys() - space.keys()
        if missing or strange:
            odd = [f"has no {sorted(map(str, missing))}"] * bool(missing)
            odd += [f"has {sorted(map(str, strange))}, which the space has not"] * bool(strange)
            raise Broken(f"the observation{path} {' and '.join(odd)}")
    elif not isinstance(raw, Sequence | np.ndarray) or len(raw) != len(space.spaces):
        raise Broken(f"the observation{path} is {shown(raw)}, and a tuple of {len(space.spaces)} is promised")
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


def numbers(raw: Any) -> np.ndarray | None:
    """`raw` as an array of numbers or truths; None where it is none."""
    try:
        array = np.asarray(raw)
    except Exception:  # noqa: BLE001 - anybody's object may raise anything; the sentence about it says what it is
        return None
    return array if array.dtype.kind in "biuf" else None


def narrowed(array: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """The array in another type; what does not fit is infinite or wrong, without a warning: somebody looks at it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """The first place at which `mask` is true."""
    return tuple(int(index) for index in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _tuple(shape: tuple[int, ...]) -> str:
    return str(shape).replace(" ", "")


def shown(value: Any) -> str:
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
