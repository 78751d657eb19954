"""Losses by hand, against torch's own distributions, and where a plausible variant is wrong."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from stablegrad.rl import losses


def vector(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_action_values_picks_the_actions_taken():
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert losses.action_values(values, torch.tensor([2, 0])).tolist() == [3.0, 4.0]


def test_q_targets_by_hand():
    target_net = torch.tensor([[1.0, 5.0], [7.0, 3.0]]).double()
    found = losses.q_targets(vector(1, 2), vector(0.9, 0.0), target_net)
    assert found.tolist() == pytest.approx([5.5, 2.0])


def test_double_q_targets_value_the_online_choice_with_the_target_network():
    target_net = torch.tensor([[1.0, 5.0], [7.0, 3.0]]).double()
    online = torch.tensor([[9.0, 0.0], [0.0, 9.0]]).double()
    found = losses.q_targets(vector(1, 2), vector(0.5, 0.5), target_net, online)
    assert found.tolist() == [1.5, 3.5]


def test_double_q_targets_do_not_overestimate_noise_and_the_plain_ones_do():
    # Ten actions of true value 0: independent noise in both networks.
    noise = torch.randn(2, 20_000, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zeros, ones = torch.zeros(20_000).double(), torch.ones(20_000).double()
    double = losses.q_targets(zeros, ones, noise[0], noise[1]).mean().item()
    plain = losses.q_targets(zeros, ones, noise[0]).mean().item()
    assert abs(double) < 0.03
    assert plain == pytest.approx(1.54, abs=0.03)  # the expected maximum of ten standard normals


def test_q_targets_carry_no_gradient():
    target_net = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    assert not losses.q_targets(vector(1), vector(1), target_net).requires_grad


def test_regression_by_hand():
    predictions, targets = vector(1.0, 1.0, 1.0), vector(1.5, 4.0, 0.0)
    assert losses.regression(predictions, targets).tolist() == [0.25, 9.0, 1.0]
    assert losses.regression(predictions, targets, "huber").tolist() == [0.125, 2.5, 0.5]


def test_the_gradient_of_huber_is_the_clipped_error():
    predictions = vector(1.0, 1.0, 1.0).requires_grad_()
    losses.regression(predictions, vector(1.5, 40.0, -9.0), "huber").sum().backward()
    assert predictions.grad is not None
    assert predictions.grad.tolist() == [-0.5, -1.0, 1.0]


def test_clipped_surrogate_by_hand():
    # ratios 1, 1.5, 0.5, 1.5, 0.5 with clip .2: only gains are clipped, losses never are
    log_ratio = vector(1.0, 1.5, 0.5, 1.5, 0.5).log()
    found = losses.clipped_surrogate(log_ratio, vector(2, 2, -2, -2, 2), 0.2)
    assert found.tolist() == pytest.approx([-2.0, -2.4, 1.6, 3.0, -1.0])


def test_the_surrogate_of_an_unchanged_policy_is_the_policy_gradient():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actions, advantages = torch.tensor([0, 1, 2, 0, 1, 2]), vector(1, -2, 3, 0.5, -0.1, 2)
    gradients = []
    for surrogate in (True, False):
        variable = logits.clone().requires_grad_()
        log_prob = losses.categorical_log_prob(variable, actions)
        if surrogate:
            loss = losses.clipped_surrogate(log_prob - log_prob.detach(), advantages, 0.1)
        else:
            loss = -log_prob * advantages
        loss.mean().backward()
        gradients.append(variable.grad)
    torch.testing.assert_close(*gradients)


def test_clipped_value_loss_takes_the_larger_error():
    # v - v_old: +.5 (clipped to .2), -.5 (clipped), +.1 (inside)
    values, old, returns = vector(1.5, 0.5, 1.1), vector(1, 1, 1), vector(2, 2, 2)
    found = losses.clipped_value_loss(values, old, returns, 0.2)
    assert found.tolist() == pytest.approx([0.5 * 0.8**2, 0.5 * 1.5**2, 0.5 * 0.9**2])
    plain = losses.clipped_value_loss(values, old, returns, math.inf)
    assert plain.tolist() == pytest.approx([0.5 * 0.5**2, 0.5 * 1.5**2, 0.5 * 0.9**2])


def test_normalized_advantages():
    found = losses.normalized(vector(1, 2, 3))
    assert found.tolist() == pytest.approx([-1.0, 0.0, 1.0])


def test_categorical_agrees_with_torch():
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    actions = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    oracle = Categorical(logits=logits)
    torch.testing.assert_close(losses.categorical_log_prob(logits, actions), oracle.log_prob(actions))
    torch.testing.assert_close(losses.categorical_entropy(logits), oracle.entropy())


def test_the_entropy_of_a_certain_policy_is_zero_with_a_finite_gradient():
    logits = torch.tensor([[0.0, 500.0, 0.0]], requires_grad=True)
    entropy = losses.categorical_entropy(logits)
    entropy.sum().backward()
    assert entropy.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    naive = logits.detach().requires_grad_()
    torch.special.entr(naive.softmax(-1)).sum().backward()
    assert naive.grad is not None
    assert naive.grad.isnan().any(), "the textbook form loses its gradient here"


def test_gaussian_agrees_with_torch():
    generator = torch.Generator().manual_seed(2)
    mean, actions = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    log_std = vector(-0.5, 0.0, 0.7)
    oracle = Independent(Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(losses.gaussian_log_prob(mean, log_std, actions), oracle.log_prob(actions))
    torch.testing.assert_close(losses.gaussian_entropy(log_std.expand(5, 3)), oracle.entropy())


def test_approx_kl_estimates_the_kl_of_old_from_new():
    generator = torch.Generator().manual_seed(3)
    old, new = torch.randn(2, 1, 5, generator=generator, dtype=torch.float64)
    actions = torch.multinomial(old.softmax(-1)[0], 200_000, replacement=True, generator=generator)
    log_ratio = (new.log_softmax(-1) - old.log_softmax(-1))[0, actions]
    right = kl_divergence(Categorical(logits=old), Categorical(logits=new)).item()
    wrong = kl_divergence(Categorical(logits=new), Categorical(logits=old)).item()
    found = losses.approx_kl(log_ratio).item()
    assert found == pytest.approx(right, rel=0.03)
    assert abs(found - wrong) > 0.1 * wrong, "the two directions differ here, so the test can tell them apart"


def test_approx_kl_of_an_unchanged_policy_is_zero_and_never_negative():
    assert losses.approx_kl(torch.zeros(5)).item() == 0
    assert losses.approx_kl(vector(-3.0, 0.1, -0.2)).item() > 0


def test_clip_fraction_counts_ratios_outside_the_interval():
    assert losses.clip_fraction(vector(1.0, 1.1, 1.3, 0.7).log(), 0.2).item() == 0.5


def test_explained_variance_by_hand():
    targets = vector(1, 2, 3)
    assert losses.explained_variance(targets, targets).item() == 1.0
    assert losses.explained_variance(targets + 7, targets).item() == 1.0
    assert losses.explained_variance(vector(5, 5, 5), targets).item() == 0.0
    assert losses.explained_variance(-targets, targets).item() == pytest.approx(-3.0)
    assert losses.explained_variance(targets, vector(2, 2, 2)).isnan()
