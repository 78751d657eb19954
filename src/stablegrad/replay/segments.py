"""Large arrays that checkpoints share: cut into segments, each with a version that writing raises."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SEGMENT_BYTES = 16 * 2**20
"""A segment's size: what a checkpoint rewrites at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A leaf of a state tree that seldom changes: equal (key, version) in one run mean equal data.

    A checkpoint may therefore link the file of the one that its process wrote, or was loaded from, last.
    `data` is a view of live memory: it has to be on disk, or copied, before training goes on.
    """

    key: str
    version: int
    data: np.ndarray


class SegmentedArray:
    """An array of rows that knows which of its segments were written to since when.

    `data` [length, *shape] is for reading; writing goes through `write`. In segments a structured dtype is
    bytes, which any file format can hold.
    """

    def __init__(
        self,
        key: str,
        length: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        # Untouched pages of zeros take no memory, so a large buffer costs nothing until it fills.
        self.data = np.zeros((length, *shape), dtype)
        self.key = key
        self._rows = max(1, segment_bytes * length // max(1, self.data.nbytes))
        self._versions = np.zeros(-(-length // self._rows), np.int64)

    def write(self, index: int | np.ndarray, rows: np.ndarray) -> None:
        """Store `rows` at `index` (one row number, or several distinct ones)."""
        self.data[index] = rows
        self._versions[index // self._rows] += 1

    def segments(self) -> list[Segment]:
        """Every segment that was ever written to, without copying."""
        return [
            Segment(f"{self.key}/{number}", int(self._versions[number]), self._plain(number))
            for number in np.flatnonzero(self._versions).tolist()
        ]

    def load(self, segments: Sequence[Segment]) -> None:
        """Take over what `segments` returned, versions included.

        ValueError where a segment does not belong here (another key, capacity or type of row).
        """
        self._versions[:] = 0
        for segment in segments:
            key, _, number = segment.key.rpartition("/")
            if key != self.key or int(number) >= len(self._versions):
                raise ValueError(f"segment '{segment.key}' does not belong to '{self.key}'")
            target = self._plain(int(number))
            if segment.data.shape != target.shape or segment.data.dtype != target.dtype:
                raise ValueError(
                    f"segment '{segment.key}' holds {segment.data.dtype} {list(segment.data.shape)},"
                    f" but {target.dtype} {list(target.shape)} was expected"
                )
            target[...] = segment.data
            self._versions[int(number)] = segment.version

    def _plain(self, number: int) -> np.ndarray:
        view = self.data[number * self._rows : (number + 1) * self._rows]
        return view.view(np.uint8) if view.dtype.names else view
