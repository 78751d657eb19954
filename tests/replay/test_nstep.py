"""n-step folding by hand, and what the published accumulator does at the end of an episode."""

from collections import deque

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_twins import ACTIONS

from stablegrad.envs.base import StepBatch
from stablegrad.replay.nstep import fold
from stablegrad.replay.ring import ReplayRing

NO = [False, False, False]


def folded(rewards, *, terminated=NO, truncated=NO, available=3, gamma=0.5):
    result = fold(
        np.array([rewards], np.float32),
        np.array([terminated]),
        np.array([truncated]),
        np.array([available]),
        gamma,
    )
    return tuple(float(part[0]) for part in result)


def test_a_whole_window():
    # 4 + .5*2 + .25*8 = 7, bootstrap times .125, three steps
    assert folded([4, 2, 8]) == (7.0, 0.125, 3.0)


@pytest.mark.parametrize(("ends", "expected"), [([True, False, False], (4, 0, 1)), ([False, True, False], (5, 0, 2))])
def test_a_termination_inside_the_window_stops_it_and_bootstraps_nothing(ends, expected):
    assert folded([4, 2, 8], terminated=ends) == expected


def test_a_time_out_inside_the_window_stops_it_and_bootstraps():
    assert folded([4, 2, 8], truncated=[False, True, False]) == (5.0, 0.25, 2.0)


def test_an_end_on_the_last_step():
    assert folded([4, 2, 8], terminated=[False, False, True]) == (7.0, 0.0, 3.0)
    assert folded([4, 2, 8], truncated=[False, False, True]) == (7.0, 0.125, 3.0)


def test_steps_that_were_not_taken_yet_do_not_count():
    assert folded([4, 2, 8], available=1) == (4.0, 0.5, 1.0)
    assert folded([4, 2, np.nan], available=2) == (5.0, 0.25, 2.0)
    assert folded([4, 2, 8], available=1, terminated=[False, True, False]) == (4.0, 0.5, 1.0)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6), gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_folding_equals_a_double_loop(seed, n, gamma):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(20, n)).astype(np.float32)
    terminated, truncated = rng.random((2, 20, n)) < 0.2
    available = rng.integers(1, n + 1, 20)
    found = fold(rewards, terminated, truncated, available, gamma)
    for i in range(20):
        total, discount, length = 0.0, 1.0, 0
        for j in range(available[i]):
            total += discount * rewards[i, j]
            discount *= gamma
            length = j + 1
            if terminated[i, j]:
                discount = 0.0
                break
            if truncated[i, j]:
                break
        assert found.length[i] == length
        assert found.reward[i] == pytest.approx(total, abs=1e-5)
        assert found.discount[i] == pytest.approx(discount, abs=1e-6)


class PublishedAccumulator:
    """The n-step deque in common use. It stores one row a step, is told of terminations only, and forgets its
    contents at each: of an episode's last n starts it keeps one. Rows are (start, rewards, last)."""

    def __init__(self, n: int) -> None:
        self.n, self.steps, self.rows = n, deque(maxlen=n), []

    def add(self, number: int, done: bool) -> None:
        self.steps.append(number)
        if len(self.steps) < self.n:
            return
        self.rows.append((self.steps[0], list(self.steps)))
        if done:
            self.steps.clear()


def starts_in_ring(ends: str, n: int) -> dict[int, int]:
    """Start -> number of steps in its window, of everything that may be sampled. Letters as T, t and dots."""
    ring = ReplayRing(spaces.Box(0, 1, (1,), np.float32), ACTIONS, capacity=64, n_step=n, gamma=0.5)
    obs, no = np.zeros((1, 1), np.float32), np.zeros(1, bool)
    ring.begin(obs)
    slots: list[int] = []
    for number, letter in enumerate(ends):
        terminated, truncated = np.array([letter == "T"]), np.array([letter == "t"])
        final = obs[terminated | truncated]
        step = StepBatch(obs, np.ones(1, np.float32), terminated, truncated, no, final, ())
        slots += ring.add(np.array([number]), step).ready.tolist()
    batch = ring.gather(np.array(slots))
    # Rewards of 1 and gamma .5: m steps return 2 - 2^(1-m).
    lengths = np.round(1 - np.log2(2 - batch.reward)).astype(int).tolist()
    return dict(zip(batch.action.tolist(), lengths, strict=True))


def test_every_start_of_an_episode_arrives():
    assert starts_in_ring("....T", 3) == {0: 3, 1: 3, 2: 3, 3: 2, 4: 1}


def test_the_published_accumulator_loses_the_last_two_starts():
    published = PublishedAccumulator(3)
    for number in range(5):
        published.add(number, done=number == 4)
    assert [start for start, _ in published.rows] == [0, 1, 2]


def test_no_window_crosses_a_time_out():
    assert starts_in_ring("....t....T", 3) == {0: 3, 1: 3, 2: 3, 3: 2, 4: 1, 5: 3, 6: 3, 7: 3, 8: 2, 9: 1}


def test_the_published_accumulator_crosses_a_time_out():
    published = PublishedAccumulator(3)
    for number in range(10):
        published.add(number, done=number == 9)  # the time-out at 4 is not passed on
    assert any(min(steps) <= 4 < max(steps) for _, steps in published.rows)


def test_an_episode_shorter_than_n_arrives_whole_and_leaves_nothing_behind():
    assert starts_in_ring("T.TtT...", 3) == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1, 5: 3}
    published = PublishedAccumulator(3)
    for number, letter in enumerate("T.TtT..."):
        published.add(number, done=letter == "T")
    assert 1 not in [start for start, _ in published.rows]
    assert any({0, 2, 3, 4} & set(steps[:-1]) for _, steps in published.rows), "it mixes episodes"


def test_one_step_windows_are_the_plain_transitions():
    assert starts_in_ring("..T..", 1) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}
