"""ε-greedy: frequencies against what the definition says, and generators that are the caller's alone."""

import torch

from stablegrad.rl.exploration import epsilon_greedy, greedy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_greedy_takes_the_first_of_equal_maxima():
    values = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0], [-1.0, -2.0, 5.0]])
    assert greedy(values).tolist() == [1, 0, 2]


def test_epsilon_zero_is_greedy_and_one_is_uniform():
    values = torch.tensor([[0.0, 9.0, 0.0, 0.0]]).expand(40_000, 4)
    assert epsilon_greedy(values, 0.0, seeded()).eq(1).all()
    counts = epsilon_greedy(values, 1.0, seeded()).bincount(minlength=4)
    assert (counts - 10_000).abs().max() < 400  # 4.6 standard deviations


def test_the_greedy_action_has_one_minus_epsilon_plus_its_uniform_share():
    values = torch.tensor([[0.0, 9.0, 0.0, 0.0]]).expand(40_000, 4)
    share = epsilon_greedy(values, 0.4, seeded()).eq(1).double().mean().item()
    assert abs(share - 0.7) < 0.01  # and not 0.6


def test_each_environment_has_its_own_draw_and_may_have_its_own_epsilon():
    values = torch.tensor([[9.0, 0.0]]).expand(20_000, 2)
    epsilon = torch.zeros(20_000)
    epsilon[10_000:] = 1.0
    actions = epsilon_greedy(values, epsilon, seeded())
    assert actions[:10_000].eq(0).all()
    assert 0.47 < actions[10_000:].double().mean().item() < 0.53


def test_the_generator_advances_by_the_same_amount_whatever_epsilon_is():
    values = torch.zeros(5, 3)
    states = []
    for epsilon in (0.0, 0.5, 1.0):
        generator = seeded()
        epsilon_greedy(values, epsilon, generator)
        states.append(generator.get_state())
    assert all(torch.equal(states[0], state) for state in states[1:])


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    epsilon_greedy(torch.zeros(5, 3), 0.5, seeded())
    assert torch.equal(torch.get_rng_state(), before)
