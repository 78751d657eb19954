"""What can be changed about a game: literal numbers."""

import numpy as np
import pytest
from gymnasium import spaces

from stablegrad.envs.atari_switches import area_weights
from stablegrad.envs.changes import common_observations, fixed_permutation, move_places, pad_channels, places
from stablegrad.errors import UserError


def test_a_permutation_is_the_same_for_ever_and_never_the_identity():
    assert fixed_permutation(6, 1).tolist() == [0, 3, 5, 1, 2, 4]
    for number in range(200):
        order = fixed_permutation(2, number)
        assert order.tolist() == [1, 0]
    assert sorted(fixed_permutation(100, 3)) == list(range(100))
    assert (fixed_permutation(100, 3) != fixed_permutation(100, 4)).any()


def test_one_thing_has_no_other_order():
    with pytest.raises(ValueError, match="another order"):
        fixed_permutation(1, 0)


def test_missing_channels_are_empty():
    image = np.array([[[1, 2], [3, 4]]], np.uint8)
    assert pad_channels(image, 3).tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert pad_channels(image, 3).dtype == np.uint8
    assert pad_channels(image, 1) is image


def test_places_move_in_all_channels_alike():
    images = np.array([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])
    moved = move_places(images, np.array([3, 0, 1, 2]))
    assert moved.tolist() == [[[[4, 1], [2, 3]], [[8, 5], [6, 7]]]]
    assert move_places(np.array([[7.0, 8.0, 9.0]]), np.array([2, 0, 1])).tolist() == [[9.0, 7.0, 8.0]]


def test_how_many_places_there_are():
    assert places(spaces.Box(0, 1, (4, 10, 9), np.uint8)) == 90
    assert places(spaces.Box(-1, 1, (5,), np.float32)) == 5


def test_common_observations_have_the_most_channels():
    few, many = spaces.Box(0, 1, (4, 10, 10), np.uint8), spaces.Box(0, 1, (7, 10, 10), np.uint8)
    assert common_observations([few, many]).shape == (7, 10, 10)
    low = common_observations([spaces.Box(-2, 1, (3,), np.float32), spaces.Box(-1, 4, (3,), np.float32)])
    assert (low.low[0], low.high[0]) == (-2, 4)


@pytest.mark.parametrize("other", [spaces.Box(0, 1, (4, 9, 10), np.uint8), spaces.Box(0, 1, (4, 10, 10), np.float32)])
def test_other_differences_are_refused(other):
    with pytest.raises(UserError, match="different observations"):
        common_observations([spaces.Box(0, 1, (4, 10, 10), np.uint8), other])


def test_an_average_by_area_weighs_what_a_cell_covers():
    assert np.allclose(area_weights(5, 2) * 2.5, [[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]])
    assert np.allclose(area_weights(210, 84).sum(axis=1), 1)
