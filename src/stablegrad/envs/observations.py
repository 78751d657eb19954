"""What an agent sees of an environment's observations: an image [C, H, W], a vector of float32, or both as one row.

- An array of three axes is an image; `--image_layout` says which axis the channels are, or `auto` finds it. Bytes and
  truths of two axes are an image of one channel, and an array of four axes is a stack of images, whose channels are put
  behind one another. Images of bytes stay bytes.
- Everything else is flattened into a vector, discrete parts one-hot. Observations that hold no image are one vector.
- Observations that hold an image beside something else (a Dict with a camera) travel as the bytes of their parts, which
  the network gives an encoder each: see `nn/parts.py`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces

from stablegrad.envs.promises import Promise, narrowed, promises
from stablegrad.errors import UserError
from stablegrad.nn.parts import PartsBox

Layout = Literal["auto", "channels_first", "channels_last", "flat", "shorter"]

SMALLEST = 3
"""Rows and columns of the smallest image: what a convolution reads at once."""

_FEW = 4
"""So many are rather the channels of an image (red, green, blue, opacity) than its rows."""


class Seen(NamedTuple):
    """One array of an observation as the agent sees it, and how it is made of the environment's."""

    space: spaces.Box
    convert: Callable[[np.ndarray], np.ndarray]


class Observations:
    """`space` is the agent's; `show` makes an element of it of the arrays that an observation consists of.

    Building it raises UserError where the environment's `space` has no fixed size, or does not go with the `layout`.
    Unless `bounded`, numbers may lie outside the bounds of their space, as long as they are finite.
    """

    def __init__(self, space: spaces.Space[Any], layout: Layout = "auto", *, bounded: bool = True) -> None:
        told = list(promises(space))
        images = [layout != "flat" and is_image(promise) for promise in told]
        if layout == "shorter":
            alone = isinstance(space, spaces.Box) and len(space.shape) in (2, 3)
            images = [alone and _are_bytes(each) for each in told]
        if not any(images) and layout not in ("auto", "flat", "shorter"):
            raise UserError(f"--image_layout {layout}: there is no image in the observations {space}: leave it out")
        seen = [_image(each, layout) if image else _vector(each) for each, image in zip(told, images, strict=True)]
        self._convert = [part.convert for part in seen]
        own = [part.space for part in seen]
        self._named = dict(zip(_names(told), own, strict=True))
        if len(seen) == 1:
            self.space = own[0]
        else:
            self.space = PartsBox(self._named) if any(images) else _end_to_end(own)
        ends = list(itertools.accumulate(part.shape[0] for part in own))
        self._places = [slice(start, end) for start, end in itertools.pairwise((0, *ends))]
        looked_at = own if isinstance(self.space, PartsBox) else [self.space]
        self._limits = [_limits(part, bounded=bounded) for part in looked_at]

    def show(self, observation: Sequence[np.ndarray], row: np.ndarray) -> None:
        """Write what the agent sees of an observation into `row`; what float32 cannot hold becomes infinite."""
        if len(self._convert) == 1:
            row[...] = self._convert[0](observation[0])
        elif isinstance(self.space, PartsBox):
            parts = self.space.apart(row)
            for name, convert, array in zip(self._named, self._convert, observation, strict=True):
                parts[name][...] = convert(array)
        else:
            for place, convert, array in zip(self._places, self._convert, observation, strict=True):
                row[place] = convert(array)

    def outside(self, rows: np.ndarray) -> int | None:
        """The first of rows [B, *] with a number that is not finite, or outside its bounds; None without any."""
        arrays = [rows]
        if isinstance(self.space, PartsBox):
            parts = self.space.apart(rows)
            arrays = [parts[name] for name in self._named]
        for array, limits in zip(arrays, self._limits, strict=True):
            if limits is None:
                continue
            within = (array >= limits[0]) & (array <= limits[1])
            if np.count_nonzero(within) < within.size:  # a third of the price of `all` where there are few
                return int(np.argmin(within.reshape(len(rows), -1).all(axis=1)))
        return None


def is_image(promise: Promise) -> bool:
    """Whether an array is an image, or a stack of them, as far as its shape tells."""
    shape = promise.shape
    if promise.picks or not isinstance(promise.space, spaces.Box):
        return False
    if len(shape) == 2:
        return _are_bytes(promise) and min(shape) >= SMALLEST
    return len(shape) in (3, 4) and sorted(shape[-3:])[1] >= SMALLEST


def channels_last(shape: tuple[int, ...], layout: Layout, *, path: str = "") -> bool:
    """Whether the last of the three axes of an image are its channels. UserError where `auto` cannot tell.

    `auto` goes by two signs. The shorter of the first and the last axis may be the channels. If exactly two
    neighbouring axes are equal, they may be rows and columns, and the third one the channels. Where both signs say the
    same, or there is only the first one and it is short, that is taken.

    >>> channels_last((210, 160, 3), "auto"), channels_last((4, 84, 84), "auto"), channels_last((10, 10, 7), "auto")
    (True, False, True)
    """
    first, middle, last = shape
    if layout == "shorter":
        return first >= last
    if layout != "auto":
        return layout == "channels_last"
    shorter = None if first == last else last < first
    square = None if (first == middle) == (middle == last) else first == middle
    if shorter is None or (square is None and min(first, last) > _FEW) or square not in (None, shorter):
        at = f"the observation{path}" if path else "an observation"
        raise UserError(
            f"{at} has shape {shape}, and which axis the channels are cannot be told: say --image_layout"
            " channels_first, channels_last, or flat (no image)"
        )
    return shorter


def _image(promise: Promise, layout: Layout) -> Seen:
    shape = promise.shape
    dtype, fits = np.dtype(np.uint8 if _are_bytes(promise) else np.float32), _fits_float32(promise)
    last = len(shape) > 2 and channels_last(shape[-3:], layout, path=promise.path)

    def convert(image: np.ndarray) -> np.ndarray:
        if len(shape) == 2:
            image = image[None]
        if last:
            image = np.moveaxis(image, -1, -3)
        image = image.reshape(-1, *image.shape[-2:])
        return image if fits else narrowed(image, dtype)

    return Seen(_box(promise, convert, dtype), convert)


def _vector(promise: Promise) -> Seen:
    if promise.picks:
        return _one_hot(promise)
    fits = _fits_float32(promise)

    def convert(array: np.ndarray) -> np.ndarray:
        return array.ravel() if fits else narrowed(array.ravel(), np.float32)

    return Seen(_box(promise, convert, np.dtype(np.float32)), convert)


def _are_bytes(promise: Promise) -> bool:
    """Whether an array is of bytes or truths."""
    return promise.dtype.kind in "bu" and promise.dtype.itemsize == 1


def _fits_float32(promise: Promise) -> bool:
    """Whether no number of the promised type is too large for float32, so that an assignment casts in silence."""
    return promise.dtype.itemsize <= np.dtype(np.float32).itemsize


def _box(promise: Promise, convert: Callable[[np.ndarray], np.ndarray], dtype: np.dtype[Any]) -> spaces.Box:
    low, high = (
        narrowed(convert(np.broadcast_to(bound, promise.shape)), dtype) for bound in (promise.low, promise.high)
    )
    return spaces.Box(low, high, dtype=dtype.type)


def _one_hot(promise: Promise) -> Seen:
    """Numbers that pick a place each: a 1 in a row of zeros for each."""
    first, last = (np.ravel(bound) for bound in (promise.low, promise.high))
    sizes = last - first + 1
    before = np.cumsum(sizes) - sizes - first

    def convert(picked: np.ndarray) -> np.ndarray:
        row = np.zeros(int(sizes.sum()), np.float32)
        row[before + picked.ravel()] = 1
        return row

    return Seen(spaces.Box(0, 1, (int(sizes.sum()),), np.float32), convert)


def _end_to_end(vectors: Sequence[spaces.Box]) -> spaces.Box:
    low, high = (np.concatenate([getattr(vector, bound) for vector in vectors]) for bound in ("low", "high"))
    return spaces.Box(low, high, dtype=np.float32)


def _names(told: Sequence[Promise]) -> list[str]:
    """A name for each array: the keys that lead to it."""
    names = ["/".join(map(str, promise.keys)) for promise in told]
    if len(set(names)) < len(names):
        raise UserError(f"two parts of the observations have one name ({', '.join(names)}): rename one")
    return names


def _limits(space: spaces.Box, *, bounded: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Finite bounds, so that what is infinite lies outside (as what is no number does); None where any byte may be."""
    if space.dtype == np.uint8:
        any_byte = not bounded or bool((space.low == 0).all() and (space.high == 255).all())
        return None if any_byte else (space.low, space.high)
    largest = np.finfo(np.float32).max
    if not bounded:
        return np.array(-largest), np.array(largest)
    return np.maximum(space.low, -largest), np.minimum(space.high, largest)
