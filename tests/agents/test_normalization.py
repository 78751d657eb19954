"""Running moments against numpy over everything seen, and returns that begin again behind an episode."""

import numpy as np
import pytest
from gymnasium import spaces

from stablegrad.agents.normalization import ObservationNormalizer, RewardNormalizer, RunningMoments, normalizer_of
from stablegrad.nn.parts import PartsBox


def test_moments_are_those_of_everything_seen_however_it_was_cut():
    data = np.random.default_rng(1).normal(1e4, 0.5, (100, 3))  # a large mean: differences of squares would lose it
    moments = RunningMoments((3,))
    for part in np.split(data, [1, 7, 40]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, data.var(0), rtol=1e-9)


def test_observations_are_scaled_and_clipped_and_seen_only_when_asked():
    normalise = ObservationNormalizer((1,))
    normalise(np.array([[0.0], [2.0]]), update=True)
    assert normalise(np.array([[3.0], [1e6]]), update=False).ravel().tolist() == [pytest.approx(2.0), 10.0]
    assert normalise.moments.count == 2


def test_of_several_parts_the_vectors_are_normalised_and_images_stay():
    space = PartsBox(
        {
            "camera": spaces.Box(0, 255, (1, 4, 4), np.uint8),
            "joints": spaces.Box(-9, 9, (1,), np.float32),
            "goal": spaces.Box(-9, 9, (2,), np.float32),
        }
    )
    rows = np.zeros((2, *space.shape), np.uint8)
    parts = space.apart(rows)
    parts["camera"][...] = 77
    parts["joints"][:, 0] = [0, 2]
    parts["goal"][...] = [[1, 5], [3, 5]]
    normalise = normalizer_of(space)
    seen = space.apart(normalise(rows, update=True))
    assert seen["joints"].ravel().tolist() == [pytest.approx(-1.0), pytest.approx(1.0)]
    assert seen["goal"].tolist() == [[pytest.approx(-1.0), 0.0], [pytest.approx(1.0), 0.0]]
    assert (seen["camera"] == 77).all()
    assert parts["joints"].ravel().tolist() == [0, 2]  # the receiver's own rows are left alone
    with pytest.raises(ValueError, match="nothing to normalise"):
        normalizer_of(spaces.Box(0, 255, (4, 84, 84), np.uint8))


def test_the_return_begins_again_behind_an_end():
    normalise = RewardNormalizer(2, gamma=0.5)
    normalise(np.array([1.0, 1.0]), np.array([False, True]))
    normalise(np.array([1.0, 1.0]), np.array([False, False]))
    assert normalise.returns.tolist() == [1.5, 1.0]
    scaled = normalise(np.array([2.0, -1.0]), np.array([False, False]))
    expected = np.array([2.0, -1.0]) / np.sqrt(np.var([1.0, 1.0, 1.5, 1.0, 2.75, -0.5]) + 1e-8)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
