"""The frame store: each frame once, padding included, and addresses that know when they are overwritten."""

import numpy as np
import pytest

from stablegrad.errors import UserError
from stablegrad.replay.frames import FrameStore


def stacks(*rows: tuple[int, ...]) -> np.ndarray:
    """Stacks [E, k, 1, 1] of frames of one pixel."""
    return np.array(rows, np.uint8)[:, :, None, None]


def store() -> FrameStore:
    return FrameStore("f", 20, shape=(4, 1, 1), dtype=np.dtype(np.uint8), stack=4)


def test_black_padding_takes_one_frame_and_repeated_padding_none():
    frames = store()
    assert frames.store(stacks((0, 0, 0, 9), (5, 5, 5, 5), (1, 2, 3, 4))).tolist() == [
        [0, 0, 0, 1],
        [2, 2, 2, 2],
        [3, 4, 5, 6],
    ]
    assert frames.written == 7


def test_a_step_adds_one_frame_for_each_environment():
    frames = store()
    addresses = frames.store(stacks((0, 0, 0, 9), (1, 2, 3, 4)))
    newest = frames.extend(addresses, stacks((0, 0, 9, 8), (2, 3, 4, 5)))
    assert newest.tolist() == [6, 7]
    moved = np.concatenate([addresses[:, 1:], newest[:, None]], axis=1)
    np.testing.assert_array_equal(frames.read(moved), stacks((0, 0, 9, 8), (2, 3, 4, 5)))


def test_an_observation_that_did_not_move_on_by_one_frame_is_refused():
    frames = store()
    addresses = frames.store(stacks((1, 2, 3, 4)))
    for wrong in ((1, 2, 3, 4), (3, 4, 5, 6), (9, 3, 4, 5)):
        with pytest.raises(UserError, match="move on by one frame"):
            frames.extend(addresses, stacks(wrong))


def test_room_counts_down_to_the_write_that_overwrites():
    frames = store()
    addresses = frames.store(stacks((1, 2, 3, 4)))
    assert frames.room(addresses) == 16
    for number in range(16):
        frames.store(stacks((number,) * 4))
    assert frames.room(addresses) == 0
    np.testing.assert_array_equal(frames.read(addresses), stacks((1, 2, 3, 4)))
    frames.store(stacks((77,) * 4))
    assert frames.read(addresses)[0, 0, 0, 0] == 77
