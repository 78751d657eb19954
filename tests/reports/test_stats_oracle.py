"""The statistics beside rliable 1.2 (needs its own environment: `make oracles`)."""

import numpy as np
import pytest

from stablegrad.reports import stats

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def rliable():
    pytest.importorskip("rliable", reason="rliable needs pandas<3 and has its own environment")
    from rliable import library, metrics

    return library, metrics


def make_scores(runs=5, tasks=26, seed=0):
    rng = np.random.default_rng(seed)
    return rng.gamma(1.5, 0.6, size=(1, tasks)) + rng.normal(0, 0.4, size=(runs, tasks))


@pytest.mark.parametrize(("runs", "tasks"), [(3, 1), (5, 26), (7, 10), (10, 57)])
def test_point_estimates(rliable, runs, tasks):
    _, metrics = rliable
    x, y = make_scores(runs, tasks, 1), make_scores(runs + 1, tasks, 2)
    assert stats.mean(x) == pytest.approx(metrics.aggregate_mean(x), rel=1e-12)
    assert stats.median(x) == pytest.approx(metrics.aggregate_median(x), rel=1e-12)
    assert stats.iqm(x) == pytest.approx(metrics.aggregate_iqm(x), rel=1e-12)
    assert stats.optimality_gap(x) == pytest.approx(metrics.aggregate_optimality_gap(x), rel=1e-12)
    assert stats.probability_of_improvement(x, y) == pytest.approx(metrics.probability_of_improvement(x, y), rel=1e-12)


def test_intervals(rliable):
    """Apart by no more than the noise of rliable's 20,000 resamples: 3 sigma are 1.5 % of the width."""
    library, metrics = rliable
    x = make_scores()
    pairs = [
        (stats.mean, metrics.aggregate_mean),
        (stats.median, metrics.aggregate_median),
        (stats.iqm, metrics.aggregate_iqm),
        (stats.optimality_gap, metrics.aggregate_optimality_gap),
    ]
    for ours, theirs in pairs:
        np.random.seed(0)  # rliable ignores its random_state and draws from the global generator
        _, intervals = library.get_interval_estimates({"x": x}, lambda s, f=theirs: np.array([f(s)]), reps=20_000)
        interval = stats.bootstrap_interval(x, ours, rng=np.random.default_rng(0), resamples=200_000)
        low, high = intervals["x"][:, 0]
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_profiles_and_sample_efficiency(rliable):
    library, metrics = rliable
    x, levels = make_scores(), np.linspace(0, 4, 41)
    profiles, _ = library.create_performance_profile({"x": x}, levels, reps=10)
    assert stats.performance_profile(x, levels) == pytest.approx(profiles["x"], rel=1e-12)
    curves = np.random.default_rng(3).normal(size=(5, 10, 8))
    expected = [metrics.aggregate_iqm(curves[..., checkpoint]) for checkpoint in range(8)]
    assert stats.sample_efficiency(curves) == pytest.approx(expected, rel=1e-12)
