"""Running moments against numpy over everything seen, and returns that begin again behind an episode."""

import numpy as np
import pytest

from stablegrad.agents.normalization import ObservationNormalizer, RewardNormalizer, RunningMoments


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


def test_the_return_begins_again_behind_an_end():
    normalise = RewardNormalizer(2, gamma=0.5)
    normalise(np.array([1.0, 1.0]), np.array([False, True]))
    normalise(np.array([1.0, 1.0]), np.array([False, False]))
    assert normalise.returns.tolist() == [1.5, 1.0]
    scaled = normalise(np.array([2.0, -1.0]), np.array([False, False]))
    expected = np.array([2.0, -1.0]) / np.sqrt(np.var([1.0, 1.0, 1.5, 1.0, 2.75, -0.5]) + 1e-8)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
