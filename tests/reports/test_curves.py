"""Smoothing by hand, and what happens where nothing was logged."""

import numpy as np
import pytest

from stablegrad.reports.curves import band, measured_at, rarely, return_curve, row_interval, step_grid, window_of
from stablegrad.reports.load import RunRecord
from stablegrad.runs.series import EPISODES, TRAIN_RETURN, Series, final_value, windowed_mean


def series(steps, values):
    return Series(np.array(steps), np.array(values, dtype=np.float32))


def run(steps, values, games=None, *, state="done", budget=100):
    columns = {TRAIN_RETURN: series(steps, values)}
    if games is not None:
        columns[EPISODES] = series(steps, games)
    return RunRecord(None, {"total_timesteps": budget}, {}, {"state": state}, columns, ())


def test_a_point_is_the_mean_of_the_window_behind_it():
    logged = series([10, 20, 30, 40], [1.0, 2.0, 6.0, 9.0])
    means = windowed_mean(logged, np.array([5, 10, 20, 30, 40]), 20)
    # (−10, 10] has 1; (0, 20] has 1, 2; (10, 30] has 2, 6; (20, 40] has 6, 9
    assert np.isnan(means[0])
    assert means[1:].tolist() == [1.0, 1.5, 4.0, 7.5]


def test_the_future_does_not_leak_in():
    before = windowed_mean(series([10, 20], [1.0, 2.0]), np.array([20]), 15)
    after = windowed_mean(series([10, 20, 21], [1.0, 2.0, 99.0]), np.array([20]), 15)
    assert before.tolist() == after.tolist()


def test_games_are_weighted_not_rows():
    """Nine games of 0 and one of 10: their mean is 1, the mean of the two rows would be 5."""
    assert final_value(run([95, 100], [0.0, 10.0], [9, 1]).series, TRAIN_RETURN) == pytest.approx(1.0)
    assert final_value(run([95, 100], [0.0, 10.0]).series, TRAIN_RETURN) == pytest.approx(5.0)


def test_a_row_without_games_has_no_say():
    assert final_value(run([90, 95, 100], [np.nan, 4.0, np.nan], [0, 2, 0]).series, TRAIN_RETURN) == 4.0


def test_final_score_is_the_last_tenth_and_no_more():
    steps = list(range(10, 101, 10))
    assert final_value(run(steps, [0.0] * 9 + [8.0]).series, TRAIN_RETURN) == 8.0
    assert np.isnan(final_value(run([], []).series, TRAIN_RETURN))
    assert np.isnan(final_value(run([1], [1.0]).series, "no/such"))


def test_a_window_without_a_game_has_no_point():
    """(40, 50] and (45, 55] hold the value of 50; the one of 10 is not carried to 20 or 30, nor that of 50 to 60."""
    at = np.array([10, 20, 30, 50, 55, 60, 61])
    means = windowed_mean(series([10, 50], [3.0, 5.0]), at, 10)
    np.testing.assert_array_equal(means, [3.0, np.nan, np.nan, 5.0, 5.0, np.nan, np.nan])


def test_a_run_ends_where_it_ended_and_a_failed_one_too():
    at = np.array([10, 20, 40, 50, 80, 100])
    for state in ("failed", "running", "done"):
        curve = return_curve(run([20, 40, 50], [2.0, 3.0, 4.0], state=state), TRAIN_RETURN, at, window=40)
        np.testing.assert_array_equal(curve, [np.nan, 2.0, 2.5, 3.0, np.nan, np.nan])


def test_a_window_is_never_shorter_than_the_distance_between_two_rows():
    """Three rows of a run of 100 steps, and a window of a twentieth: every point but the first few has its mean."""
    one = run([30, 60, 100], [1.0, 2.0, 3.0])
    assert row_interval(one) == 40
    assert window_of([one], 5.0) == 40
    assert window_of([one, run([5, 10], [0.0, 0.0])], 50.0) == 50
    assert window_of([run([], [])], 0.2) == 1
    grid = step_grid([one], points=10)
    assert np.isfinite(return_curve(one, TRAIN_RETURN, grid, window=window_of([one], 5.0))).sum() == 8
    assert np.isfinite(return_curve(one, TRAIN_RETURN, grid, window=5)).sum() == 3


def test_what_is_measured_in_two_of_twenty_rows_is_measured_rarely():
    steps = list(range(2_000, 40_001, 2_000))
    probed = run(steps, [1.0] * 20)
    probed.series["ranks/srank"] = series([2_000, 38_000], [100.0, 50.0])
    assert row_interval(probed) == 2_000
    assert rarely(probed, "ranks/srank", 2_000)
    assert not rarely(probed, TRAIN_RETURN, 2_000)
    assert not rarely(probed, "no/such", 2_000)
    assert measured_at([probed, probed], "ranks/srank").tolist() == [2_000, 38_000]
    assert measured_at([probed], "no/such").tolist() == []


def test_the_grid_reaches_the_longest_run():
    grid = step_grid([run([50], [1.0]), run([1_000], [1.0])], points=10)
    assert grid.tolist() == list(range(100, 1_001, 100))
    assert step_grid([]).tolist() == [1]


def test_bands_have_gaps_where_a_run_has_none():
    curves = np.random.default_rng(0).normal(size=(4, 2, 5))
    curves[1, 0, 0] = np.nan
    low, high, point = band(curves, rng=np.random.default_rng(1), resamples=200)
    assert np.isnan([low[0], high[0], point[0]]).all()
    assert (low[1:] <= point[1:]).all()
    assert (point[1:] <= high[1:]).all()
    assert np.isnan(band(np.full((2, 1, 3), np.nan), rng=np.random.default_rng(1)).point).all()
