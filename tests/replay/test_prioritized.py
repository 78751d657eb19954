"""The sum tree against a naive twin, frequencies against priorities, and weights against the bias."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablegrad.replay.prioritized import Priorities, SumTree
from stablegrad.replay.ring import Change

NONE = np.zeros(0, np.int64)


def slots(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def ready(count: int) -> Change:
    return Change(np.arange(count), NONE)


def naive_find(leaves: np.ndarray, prefix: float) -> int:
    total = 0.0
    for index, leaf in enumerate(leaves):
        total += leaf
        if prefix < total:
            return index
    return int(np.flatnonzero(leaves)[-1])


def test_find_by_hand():
    tree = SumTree(5)
    tree.set(slots(0, 1, 3, 4), np.array([1.0, 2.0, 4.0, 1.0]))
    assert tree.total == 8.0
    assert tree.find(np.array([0.0, 0.99, 1.0, 2.99, 3.0, 6.99, 7.0, 7.99])).tolist() == [0, 0, 1, 1, 3, 3, 4, 4]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), capacity=st.integers(1, 2500))
def test_random_operations_agree_with_a_naive_tree(seed, capacity):
    rng = np.random.default_rng(seed)
    tree, leaves = SumTree(capacity), np.zeros(capacity)
    for _ in range(4):
        indices = rng.integers(capacity, size=rng.integers(1, 40))
        values = rng.integers(0, 5, len(indices)).astype(float)  # whole numbers, so that sums are exact
        tree.set(indices, values)
        for index, value in zip(indices, values, strict=True):
            leaves[index] = value
        np.testing.assert_array_equal(tree.leaves, leaves)
        assert tree.total == leaves.sum()
        if leaves.any():
            prefix = rng.random(20) * tree.total
            assert tree.find(prefix).tolist() == [naive_find(leaves, p) for p in prefix]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), capacity=st.integers(1, 2500))
def test_the_tree_is_a_function_of_its_leaves_to_the_bit(seed, capacity):
    rng = np.random.default_rng(seed)
    tree, loaded = SumTree(capacity), SumTree(capacity)
    for size in (1, 7, 32, 100):
        tree.set(rng.integers(capacity, size=size), rng.random(size) * 10.0 ** rng.integers(-8, 8, size))
    loaded.load(tree.leaves.copy())
    for level, other in zip(tree._levels, loaded._levels, strict=True):
        np.testing.assert_array_equal(level, other)


def test_an_empty_leaf_is_never_found_where_rounding_carries_past_the_end():
    rng = np.random.default_rng(0)
    tree = SumTree(3000)
    tree.set(np.arange(0, 2000, 3), rng.random(667) * 10.0 ** rng.integers(-12, 12, 667))
    edges = np.cumsum(tree.leaves)
    prefixes = np.concatenate([edges, np.nextafter(edges, np.inf), [tree.total, np.nextafter(tree.total, np.inf)]])
    assert (tree.leaves[tree.find(prefixes)] > 0).all()


def test_the_usual_float32_tree_finds_empty_leaves():
    """The negative control: a binary tree in float32 whose search looks at the left child only."""
    rng = np.random.default_rng(0)
    leaves = np.zeros(4096, np.float32)
    leaves[:2500] = rng.exponential(size=2500) * (rng.random(2500) < 0.5)
    levels = [leaves]
    while len(levels[0]) > 1:
        levels.insert(0, levels[0][::2] + levels[0][1::2])
    tree = SumTree(4096)
    tree.load(leaves)

    edges = np.cumsum(leaves, dtype=np.float64)
    total = levels[0][0]
    prefixes = edges[edges < total].astype(np.float32)
    node, prefix = np.zeros(len(prefixes), np.int64), prefixes.copy()
    for level in levels[1:]:
        left = level[2 * node]
        right = prefix >= left
        prefix -= np.where(right, left, np.float32(0))
        node = 2 * node + right
    assert (leaves[node] == 0).any()
    assert (leaves[tree.find(prefixes.astype(np.float64))] > 0).all()


def test_frequencies_match_the_priorities():
    priorities = Priorities(8, alpha=0.5, epsilon=0.0)
    priorities.follow(ready(4))
    priorities.update(np.arange(4), np.array([1.0, 4.0, 9.0, 16.0]))
    np.testing.assert_allclose(priorities.probabilities(np.arange(4)), [0.1, 0.2, 0.3, 0.4])
    rng = np.random.default_rng(0)
    counts = np.zeros(4)
    for _ in range(20_000):
        # One draw at a time is not stratified, so the counts are multinomial.
        counts[priorities.sample(1, beta=0.4, rng=rng).slot[0]] += 1
    expected = 20_000 * np.array([0.1, 0.2, 0.3, 0.4])
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = .001


def test_stratified_batches_have_the_same_frequencies_and_less_variance():
    priorities = Priorities(1000, alpha=1.0, epsilon=0.0)
    priorities.follow(ready(1000))
    priorities.update(np.arange(1000), np.arange(1.0, 1001.0))
    rng = np.random.default_rng(0)
    upper = [np.mean(priorities.sample(100, beta=1.0, rng=rng).slot >= 500) for _ in range(200)]
    share = priorities.probabilities(np.arange(500, 1000)).sum()
    assert np.mean(upper) == pytest.approx(share, abs=0.002)
    assert np.std(upper) < 0.25 * np.sqrt(share * (1 - share) / 100)


def test_weights_by_hand():
    priorities = Priorities(4, alpha=1.0, epsilon=0.0)
    priorities.follow(ready(2))
    priorities.update(np.arange(2), np.array([1.0, 4.0]))
    sample = priorities.sample(1000, beta=0.5, rng=np.random.default_rng(0))
    # (N P)^-.5 with P = .2 and .8, over the larger of the two: 1 and .5
    assert set(zip(sample.slot.tolist(), sample.weight.tolist(), strict=True)) == {(0, 1.0), (1, 0.5)}
    assert sample.weight.dtype == np.float32


def test_weights_at_beta_one_undo_the_bias_and_without_them_it_stays():
    priorities = Priorities(1000, alpha=0.6)
    priorities.follow(ready(1000))
    rng = np.random.default_rng(1)
    errors = rng.exponential(size=1000)
    priorities.update(np.arange(1000), errors)
    drawn = priorities.sample(200_000, beta=1.0, rng=rng)
    # What is estimated is larger where priorities are larger, so that a bias shows.
    weighted = np.average(errors[drawn.slot], weights=drawn.weight)
    assert weighted == pytest.approx(errors.mean(), rel=0.01)
    assert errors[drawn.slot].mean() > 1.3 * errors.mean()


def test_new_slots_get_the_largest_priority_seen():
    priorities = Priorities(10, alpha=1.0, epsilon=0.0)
    priorities.follow(ready(2))
    priorities.update(slots(0, 1), np.array([3.0, 0.5]))
    priorities.follow(Change(slots(2), NONE))
    np.testing.assert_allclose(priorities.probabilities(slots(0, 1, 2)), np.array([3.0, 0.5, 3.0]) / 6.5)


def test_dropped_slots_are_not_drawn_and_late_updates_do_not_revive_them():
    priorities = Priorities(10)
    priorities.follow(ready(4))
    priorities.follow(Change(NONE, slots(1, 2)))
    priorities.update(slots(1, 3), np.array([100.0, 1.0]))
    assert len(priorities) == 2
    assert set(priorities.sample(500, beta=0.4, rng=np.random.default_rng(0)).slot.tolist()) == {0, 3}


def test_a_slot_that_is_dropped_and_filled_in_one_step_is_live():
    priorities = Priorities(2)
    priorities.follow(ready(2))
    priorities.follow(Change(slots(1), slots(1)))
    assert len(priorities) == 2
    assert set(priorities.sample(100, beta=0.4, rng=np.random.default_rng(0)).slot.tolist()) == {0, 1}


@pytest.mark.parametrize("error", [np.nan, np.inf, -1.0])
def test_priorities_that_are_no_number_are_refused(error):
    priorities = Priorities(4)
    priorities.follow(ready(2))
    with pytest.raises(ValueError, match="finite, non-negative"):
        priorities.update(slots(0), np.array([error]))


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="no complete transition"):
        Priorities(4).sample(1, beta=0.4, rng=np.random.default_rng(0))


def test_continuing_from_a_saved_state_equals_going_on():
    rng = np.random.default_rng(0)
    priorities = Priorities(100)
    priorities.follow(ready(90))
    priorities.update(np.arange(90), rng.exponential(size=90))
    restored = Priorities(100)
    restored.load_state_dict(priorities.state_dict())
    for seed in range(20):
        draws = [p.sample(16, beta=0.4, rng=np.random.default_rng(seed)) for p in (priorities, restored)]
        for a, b in zip(*draws, strict=True):
            np.testing.assert_array_equal(a, b)
        errors = np.random.default_rng(seed).exponential(size=16) * 10
        for p in (priorities, restored):
            p.update(draws[0].slot, errors)
            p.follow(Change(slots(90 + seed % 10), slots(seed)))
    assert len(priorities) == len(restored)
