"""Smoothing by hand, and what happens where nothing was logged."""

import numpy as np
import pytest

from stablegrad.reports.curves import band, final_value, return_curve, step_grid, windowed_mean
from stablegrad.reports.load import EPISODES, TRAIN_RETURN, RunRecord, Series


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
    assert final_value(run([95, 100], [0.0, 10.0], [9, 1]), TRAIN_RETURN) == pytest.approx(1.0)
    assert final_value(run([95, 100], [0.0, 10.0]), TRAIN_RETURN) == pytest.approx(5.0)


def test_a_row_without_games_has_no_say():
    assert final_value(run([90, 95, 100], [np.nan, 4.0, np.nan], [0, 2, 0]), TRAIN_RETURN) == 4.0


def test_final_score_is_the_last_tenth_and_no_more():
    steps = list(range(10, 101, 10))
    assert final_value(run(steps, [0.0] * 9 + [8.0]), TRAIN_RETURN) == 8.0
    assert np.isnan(final_value(run([], []), TRAIN_RETURN))
    assert np.isnan(final_value(run([1], [1.0]), "no/such"))


def test_a_window_without_a_game_keeps_the_value_before_and_the_end_ends():
    means = windowed_mean(series([10, 50], [3.0, 5.0]), np.array([10, 20, 30, 50, 60, 61]), 10)
    assert means[:4].tolist() == [3.0, 3.0, 3.0, 5.0]
    assert means[4] == 5.0
    assert np.isnan(means[5])


def test_a_failed_run_keeps_the_score_it_failed_at():
    at = np.array([50, 80, 100, 120])
    failed = return_curve(run([50], [2.0], state="failed"), TRAIN_RETURN, at, window=5)
    assert failed[:3].tolist() == [2.0, 2.0, 2.0]
    assert np.isnan(failed[3])
    running = return_curve(run([50], [2.0], state="running"), TRAIN_RETURN, at, window=5)
    assert np.isnan(running[1:]).all()


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
