"""Schedules, with literal values along the ramp: one that is at its end from step 0 on must fail."""

import pytest

from stablegrad.rl.schedules import linear


def test_linear_values_along_the_ramp():
    found = [linear(step, start=1.0, end=0.5, duration=10) for step in range(0, 16, 2)]
    assert found == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5])


def test_the_published_epsilon():
    # 1 -> 0.005 over the first tenth of 10 million steps
    ramp = {0: 1.0, 250_000: 0.75125, 500_000: 0.5025, 1_000_000: 0.005, 9_000_000: 0.005}
    for step, value in ramp.items():
        assert linear(step, start=1.0, end=0.005, duration=1_000_000) == pytest.approx(value)


def test_the_ends_are_exact():
    assert linear(0, start=0.1, end=0.7, duration=3) == 0.1
    assert linear(3, start=0.1, end=0.7, duration=3) == 0.7


def test_linear_may_rise_and_may_last_no_time():
    assert linear(1, start=0.4, end=1.0, duration=4) == pytest.approx(0.55)
    assert linear(0, start=1.0, end=0.0, duration=0) == 0.0


def test_a_step_before_the_start_is_a_mistake():
    with pytest.raises(ValueError, match="not be negative"):
        linear(-1, start=1.0, end=0.0, duration=10)
