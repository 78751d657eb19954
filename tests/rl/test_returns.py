"""λ-returns and GAE: numbers worked by hand, naive twins, and what goes wrong where episodes end."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stablegrad.rl.returns import gae, lambda_returns, successor_values


def column(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def naive_lambda_returns(rewards, discounts, values, lambda_, cut):
    """Forward view: mixtures of n-step returns with explicit weights, one entry at a time."""
    steps, envs = rewards.shape
    result = torch.zeros_like(rewards)
    for b in range(envs):
        for t in range(steps):
            end = t
            while end < steps - 1 and not cut[end, b]:
                end += 1
            total, weight, gain, discount = 0.0, 1.0, 0.0, 1.0
            for k in range(t, end + 1):
                gain += discount * float(rewards[k, b])
                discount *= float(discounts[k, b])
                share = weight if k == end else weight * (1 - lambda_)
                total += share * (gain + discount * float(values[k, b]))
                weight *= lambda_
            result[t, b] = total
    return result


def naive_gae(rewards, discounts, values, next_values, lambda_, cut):
    """The sum of discounted one-step errors, up to the episode's end."""
    steps, envs = rewards.shape
    result = torch.zeros_like(rewards)
    for b in range(envs):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                error = rewards[k, b] + discounts[k, b] * next_values[k, b] - values[k, b]
                result[t, b] += weight * error
                if cut[k, b]:
                    break
                weight *= lambda_ * float(discounts[k, b])
    return result


@st.composite
def rollouts(draw):
    """A random rollout [T, B] whose steps end by termination, time-out or not at all."""
    steps, envs = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    ends = torch.randint(4, (steps, envs), generator=generator)
    rewards, values, next_values = torch.randn(3, steps, envs, generator=generator, dtype=torch.float64)
    discounts = 0.9 * (ends != 0).double()
    lambda_ = draw(st.sampled_from([0.0, 0.3, 0.65, 0.95, 1.0]))
    return rewards, discounts, values, next_values, lambda_, ends <= 1


def test_lambda_returns_by_hand():
    # G2 = 3 + .5*10 = 8;  G1 = 2 + .5*(.5*20 + .5*8) = 9;  G0 = 1 + .5*(.5*30 + .5*9) = 10.75
    found = lambda_returns(column(1, 2, 3), column(0.5, 0.5, 0.5), column(30, 20, 10), 0.5)
    assert found.flatten().tolist() == [10.75, 9.0, 8.0]


def test_lambda_returns_end_at_a_termination():
    # G1 = 2 (its value, 999, is worth nothing); G0 = 1 + .5*(.5*30 + .5*2) = 9
    cut = torch.tensor([[False], [True], [False]])
    found = lambda_returns(column(1, 2, 3), column(0.5, 0.0, 0.5), column(30, 999, 10), 0.5, cut)
    assert found.flatten().tolist() == [9.0, 2.0, 8.0]


def test_lambda_returns_bootstrap_at_a_time_out_and_do_not_cross_it():
    # G1 = 2 + .5*20 = 12, whatever follows; G0 = 1 + .5*(.5*30 + .5*12) = 11.5
    cut = torch.tensor([[False], [True], [False]])
    for later in (3.0, 1e6):
        found = lambda_returns(column(1, 2, later), column(0.5, 0.5, 0.5), column(30, 20, 10), 0.5, cut)
        assert found[:2].flatten().tolist() == [11.5, 12.0]
    uncut = lambda_returns(column(1, 2, 1e6), column(0.5, 0.5, 0.5), column(30, 20, 10), 0.5)
    assert uncut[0].item() > 1e4, "without the cut the next episode's rewards flow in"


def test_gae_by_hand():
    # δ = [1 + .5*2 - 4, 2 + .5*6 - 2, 3 + .5*8 - 6] = [-2, 3, 1]; A1 = 3 + .25*1, A0 = -2 + .25*3.25
    found = gae(column(1, 2, 3), column(0.5, 0.5, 0.5), column(4, 2, 6), column(2, 6, 8), 0.5)
    assert found.flatten().tolist() == [-1.1875, 3.25, 1.0]


def test_gae_is_cut_at_a_time_out_which_bootstraps():
    # δ1 = 2 + .5*10 - 2 = 5 with V(final_obs) = 10; A0 = -2 + .25*5
    cut = torch.tensor([[False], [True], [False]])
    found = gae(column(1, 2, 3), column(0.5, 0.5, 0.5), column(4, 2, 6), column(2, 10, 8), 0.5, cut)
    assert found.flatten().tolist() == [-0.75, 5.0, 1.0]


@settings(max_examples=60)
@given(rollouts())
def test_both_equal_their_naive_twins(rollout):
    rewards, discounts, values, next_values, lambda_, cut = rollout
    torch.testing.assert_close(
        lambda_returns(rewards, discounts, values, lambda_, cut),
        naive_lambda_returns(rewards, discounts, values, lambda_, cut),
    )
    torch.testing.assert_close(
        gae(rewards, discounts, values, next_values, lambda_, cut),
        naive_gae(rewards, discounts, values, next_values, lambda_, cut),
    )


@settings(max_examples=30)
@given(rollouts())
def test_advantages_plus_values_are_lambda_returns(rollout):
    rewards, discounts, values, final_values, lambda_, cut = rollout
    truncated = cut & (discounts > 0)
    next_values = successor_values(values, values[0], truncated, final_values)
    advantages = gae(rewards, discounts, values, next_values, lambda_, cut)
    torch.testing.assert_close(advantages + values, lambda_returns(rewards, discounts, next_values, lambda_, cut))


def fixed_point(*, gamma: float, time_outs_end: bool, lambda_: float = 0.65) -> float:
    """V of a one-state loop with reward 1 that a time limit cuts every third step, after many sweeps."""
    truncated = torch.tensor([False, False, True] * 4)[:, None]
    discounts = torch.full((12, 1), gamma, dtype=torch.float64)
    if time_outs_end:
        discounts[truncated] = 0
    value = 0.0
    for _ in range(400):
        values = torch.full((12, 1), value, dtype=torch.float64)
        value = lambda_returns(torch.ones_like(values), discounts, values, lambda_, truncated).mean().item()
    return value


def test_the_value_of_a_time_limited_loop_is_one_over_one_minus_gamma():
    assert fixed_point(gamma=0.9, time_outs_end=False) == pytest.approx(10.0)


def test_treating_time_outs_as_ends_gives_the_wrong_value():
    assert fixed_point(gamma=0.9, time_outs_end=True) < 4.0


def test_successor_values_by_hand():
    values, finals = column(1, 2, 3), column(70, 80, 90)
    truncated = torch.tensor([[False], [True], [False]])
    found = successor_values(values, torch.tensor([4.0], dtype=torch.float64), truncated, finals)
    assert found.flatten().tolist() == [2.0, 80.0, 4.0]


def test_one_step_and_monte_carlo_are_the_extremes():
    rewards, discounts, values = column(1, 2, 3), column(0.5, 0.5, 0.5), column(30, 20, 10)
    assert lambda_returns(rewards, discounts, values, 0.0).flatten().tolist() == [16.0, 12.0, 8.0]
    assert lambda_returns(rewards, discounts, values, 1.0).flatten().tolist() == [4.0, 6.0, 8.0]


def test_arguments_are_left_alone_and_float32_stays_float32():
    rewards, discounts, values = torch.ones(3, 4, 2)
    found = lambda_returns(rewards, discounts, values, 0.5, torch.zeros(4, 2, dtype=torch.bool))
    assert found.dtype is torch.float32
    assert found.shape == (4, 2)
    assert torch.equal(torch.stack([rewards, discounts, values]), torch.ones(3, 4, 2))


def test_stacked_seeds_may_be_vmapped():
    rewards, discounts, values = torch.rand(3, 4, 5, 2, generator=torch.Generator().manual_seed(0))
    cut = rewards > 0.7
    found = torch.func.vmap(lambda_returns, in_dims=(0, 0, 0, None, 0))(rewards, discounts, values, 0.9, cut)
    for seed in range(4):
        alone = lambda_returns(rewards[seed], discounts[seed], values[seed], 0.9, cut[seed])
        torch.testing.assert_close(found[seed], alone)


GOOD = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("rewards", "discounts", "values", "lambda_", "cut", "message"),
    [
        (GOOD[0], GOOD[0], GOOD[0], 0.5, None, r"rewards must be \[T, B\], not of shape \[2\]"),
        (GOOD, GOOD, torch.ones(2, 3), 0.5, None, r"values has shape \[2, 3\], but rewards has \[3, 2\]"),
        (GOOD, GOOD.long(), GOOD, 0.5, None, r"discounts must be floating point, not torch.int64"),
        (
            GOOD,
            GOOD.double(),
            GOOD,
            0.5,
            None,
            r"discounts is torch.float64 on cpu, but rewards is torch.float32",
        ),
        (GOOD, GOOD, GOOD, 1.5, None, r"lambda_ must lie in \[0, 1\], not 1.5"),
        (GOOD, GOOD, GOOD, 0.5, GOOD, r"cut must be a bool tensor, not torch.float32"),
        (GOOD, GOOD, GOOD, 0.5, GOOD[:2] > 0, r"cut has shape \[2, 2\], but must have \[3, 2\]"),
    ],
)
def test_mistakes_are_named(rewards, discounts, values, lambda_, cut, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lambda_returns(rewards, discounts, values, lambda_, cut)
    with pytest.raises((ValueError, TypeError), match=message):
        gae(rewards, discounts, values, GOOD, lambda_, cut)
