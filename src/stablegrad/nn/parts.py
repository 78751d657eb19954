"""Observations of several parts, such as a camera's image and a robot's joints, as rows of bytes. Torch-free.

A row holds every part as it lies in memory, so a replay, a rollout and a checkpoint keep it as any other array, exactly
and no larger than its parts; the network takes it apart again (`encoders.PartsEncoder`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

_ALIGNMENT = 4
"""Bytes of a float32: where floats begin in a row, and the length of a row, are multiples of it."""


class Part(NamedTuple):
    """An image [C, H, W], float32 or bytes, or a vector [N] float32, in the bytes `start` to `stop` of a row."""

    name: str
    space: spaces.Box
    start: int
    stop: int


class PartsBox(spaces.Box):
    """Rows [N] uint8 that hold an array for each of the `parts`: those of float32 first, then those of bytes."""

    def __init__(self, named: Mapping[str, spaces.Box]) -> None:
        found, start = [], 0
        for name, space in sorted(named.items(), key=lambda item: -np.dtype(item[1].dtype).itemsize):
            stop = start + int(np.prod(space.shape)) * np.dtype(space.dtype).itemsize
            found.append(Part(name, space, start, stop))
            start = stop
        self.parts = tuple(found)
        super().__init__(0, 255, (-(-start // _ALIGNMENT) * _ALIGNMENT,), np.uint8)

    def apart(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Views [..., *shape] of the parts of rows [..., N]: to write into them is to write into the rows."""
        return {
            name: rows[..., start:stop].view(space.dtype).reshape(*rows.shape[:-1], *space.shape)
            for name, space, start, stop in self.parts
        }

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, PartsBox) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]  # as a Box

    def __repr__(self) -> str:
        return f"PartsBox({', '.join(f'{part.name}: {part.space}' for part in self.parts)})"
