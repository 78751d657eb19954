"""Observations stored frame by frame, each frame once, at addresses that rows of a replay refer to."""

import numpy as np

from stablegrad.errors import UserError
from stablegrad.replay.segments import Segment, SegmentedArray


class FrameStore:
    """A ring of frames. An observation is a stack of `stack` frames along its first axis (newest last), or,
    with a stack of 1, one frame by itself; what stands for it elsewhere is the addresses of its frames.

    Rebuilding a stack is one look-up by address, int32 [stack]. It cannot cross the start of an episode: the
    addresses are those of the frames that the environment showed, its padding included.
    """

    def __init__(self, key: str, slots: int, *, shape: tuple[int, ...], dtype: np.dtype, stack: int = 1) -> None:
        self.stack = stack
        self.slots = slots
        self.written = 0
        self._shape = shape
        frame = shape if stack == 1 else shape[1:]
        self._frames = SegmentedArray(key, slots, frame, dtype)

    @property
    def nbytes(self) -> int:
        return self._frames.data.nbytes

    def store(self, obs: np.ndarray) -> np.ndarray:
        """Store observations [E, *shape] of which no frame is known yet; returns their addresses [E, stack].

        Equal neighbours in a stack (the padding at an episode's start) are stored once.
        """
        frames = self._split(obs)
        new = np.ones(frames.shape[:2], bool)
        new[:, 1:] = (frames[:, 1:] != frames[:, :-1]).any(axis=tuple(range(2, frames.ndim)))
        addresses = self._write(frames[new])
        return addresses[np.cumsum(new) - 1].reshape(new.shape)

    def extend(self, addresses: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """Store the newest frame of observations [E, *shape] that follow those at `addresses` [E, stack].

        Returns the new frames' addresses [E]. UserError where an observation is not its predecessor moved on
        by one frame: rebuilt from addresses it would be another one.
        """
        frames = self._split(obs)
        if not np.array_equal(self._frames.data[addresses[:, 1:]], frames[:, :-1]):
            raise UserError(
                f"observations of shape {self._shape} were taken for stacks of frames, and do not move on by one frame"
                " each step (is the first axis colours?): say --share_frames false (in code: build the replay with"
                " stack=1), which stores them whole"
            )
        return self._write(frames[:, -1])

    def read(self, addresses: np.ndarray) -> np.ndarray:
        """The observations [..., *shape] at addresses [..., stack]."""
        frames = self._frames.data.take(addresses.reshape(-1), axis=0)
        return frames.reshape(*addresses.shape[:-1], *self._shape)

    def room(self, address: np.ndarray) -> int:
        """How many frames may still be written before one of the frames at `address` is overwritten."""
        return self.slots - 1 - int(((self.written - 1 - address) % self.slots).max())

    def state_dict(self) -> dict[str, int | list[Segment]]:
        return {"written": self.written, "segments": self._frames.segments()}

    def load_state_dict(self, state: dict) -> None:
        self.written = state["written"]
        self._frames.load(state["segments"])

    def _split(self, obs: np.ndarray) -> np.ndarray:
        """[E, *shape] as [E, stack, *frame]."""
        return obs[:, None] if self.stack == 1 else obs

    def _write(self, frames: np.ndarray) -> np.ndarray:
        addresses = (self.written + np.arange(len(frames))) % self.slots
        self._frames.write(addresses, frames)
        self.written += len(frames)
        return addresses.astype(np.int32)
