"""Per-task numbers, worked out by hand."""

import pytest

from stablegrad.errors import UserError
from stablegrad.supervised.metrics import PlasticityGap, Point, TaskCurve, plasticity_gap, points_of, task_curves

CURVE = TaskCurve(steps=(10, 20, 40), accuracies=(0.2, 0.5, 0.8))


def test_final_area_and_steps() -> None:
    assert CURVE.final == 0.8
    assert CURVE.area == pytest.approx((0.2 * 10 + 0.5 * 10 + 0.8 * 20) / 40)
    assert CURVE.steps_to(0.5) == 20
    assert CURVE.steps_to(0.51) == 40
    assert CURVE.steps_to(0.81) is None


def test_the_area_of_a_perfect_curve_is_one_however_often_it_is_evaluated() -> None:
    assert TaskCurve((5,), (1.0,)).area == 1
    assert TaskCurve((1, 2, 50), (1.0, 1.0, 1.0)).area == pytest.approx(1)


def test_a_plain_mean_would_depend_on_when_one_looks() -> None:
    early_looks = TaskCurve((1, 2, 3, 40), (0.0, 0.0, 0.0, 1.0))
    assert early_looks.area == pytest.approx(37 / 40)  # the plain mean is 1/4


def test_points_are_cut_at_the_change_points() -> None:
    points = [Point(0, 10, 0.1), Point(0, 20, 0.2), Point(1, 30, 0.3), Point(1, 40, 0.4)]
    assert task_curves(points, starts=(0, 20)) == [TaskCurve((10, 20), (0.1, 0.2)), TaskCurve((10, 20), (0.3, 0.4))]


def test_a_run_that_has_not_come_to_its_last_task_has_fewer_curves() -> None:
    assert len(task_curves([Point(0, 10, 0.1)], starts=(0, 20, 40))) == 1


def test_a_task_without_evaluations_in_between_is_an_error() -> None:
    with pytest.raises(UserError, match=r"tasks \[0, 2\] of 3: some are missing"):
        task_curves([Point(0, 10, 0.1), Point(2, 50, 0.1)], starts=(0, 20, 40))


def test_the_gap_to_a_fresh_network() -> None:
    fresh = TaskCurve((10, 20, 40), (0.5, 0.9, 1.0))
    gap = plasticity_gap(CURVE, fresh)
    assert gap == PlasticityGap(
        final=pytest.approx(0.2),
        area=pytest.approx((0.5 * 10 + 0.9 * 10 + 1.0 * 20) / 40 - CURVE.area),
        steps=None,
        fresh_steps=20,
    )
    assert plasticity_gap(fresh, fresh) == PlasticityGap(0, 0, 20, 20)


def test_unequal_budgets_are_refused() -> None:
    with pytest.raises(UserError, match="40 updates against 50 of the fresh network"):
        plasticity_gap(CURVE, TaskCurve((50,), (1.0,)))


def test_rows_without_an_evaluation_are_passed_over() -> None:
    rows = [{"step": 5, "train/task": 1}, {"step": 10, "train/task": 1, "train/accuracy": 0.25, "eval/accuracy": 0.5}]
    assert points_of(rows, "train/accuracy") == [Point(0, 10, 0.25)]
