"""The C51 projection: literal numbers, conservation, a naive twin, and the known trap of the algorithm."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stablegrad.rl.distributional import cross_entropy, mean, project

SUPPORT = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)


def rows(numbers: list[list[float]]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def naive_project(support, probabilities, target_support, *, drop_exact_hits=False):
    """Algorithm 1 of the paper, atom by atom; `drop_exact_hits` is its trap where floor equals ceiling."""
    low, high, gap = float(support[0]), float(support[-1]), float(support[1] - support[0])
    result = torch.zeros(len(probabilities), len(support), dtype=torch.float64)
    for b in range(len(probabilities)):
        for p, x in zip(probabilities[b].tolist(), target_support[b].tolist(), strict=True):
            position = min((min(max(x, low), high) - low) / gap, len(support) - 1)
            lower, upper = math.floor(position), math.ceil(position)
            if lower == upper and not drop_exact_hits:
                result[b, lower] += p
            result[b, lower] += p * (upper - position)
            result[b, upper] += p * (position - lower)
    return result


@st.composite
def distributions(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    atoms, batch = draw(st.integers(2, 51)), draw(st.integers(1, 4))
    support = torch.linspace(-10, 10, atoms, dtype=torch.float64)
    probabilities = torch.rand(batch, atoms, generator=generator, dtype=torch.float64).softmax(-1)
    rewards = 4 * torch.randn(batch, 1, generator=generator, dtype=torch.float64)
    discounts = draw(st.sampled_from([0.0, 0.5, 0.99]))
    return support, probabilities, rewards + discounts * support


def test_mass_is_split_between_neighbours_in_proportion():
    found = project(SUPPORT, rows([[1.0]]), rows([[0.25]]))
    assert found.tolist() == [[0.75, 0.25, 0.0]]


def test_a_bellman_step_by_hand():
    # atoms 0, 1, 2 with masses .2, .3, .5 move to .5 + .5 z = .5, 1, 1.5
    found = project(SUPPORT, rows([[0.2, 0.3, 0.5]]), (0.5 + 0.5 * SUPPORT)[None])
    torch.testing.assert_close(found, rows([[0.1, 0.65, 0.25]]))


def test_mass_outside_the_support_lands_on_its_ends():
    found = project(SUPPORT, rows([[0.25, 0.75]]), rows([[-7.0, 9.0]]))
    assert found.tolist() == [[0.25, 0.0, 0.75]]


def test_a_termination_puts_all_mass_at_the_reward():
    probabilities = rows([[0.2, 0.3, 0.5]])
    assert project(SUPPORT, probabilities, rows([[1.0, 1.0, 1.0]])).tolist() == [[0.0, 1.0, 0.0]]


def test_an_atom_hit_exactly_keeps_its_mass_which_the_known_trap_loses():
    probabilities = rows([[0.2, 0.3, 0.5]])
    assert torch.equal(project(SUPPORT, probabilities, SUPPORT[None]), probabilities)
    trapped = naive_project(SUPPORT, probabilities, SUPPORT[None], drop_exact_hits=True)
    assert trapped.sum().item() == 0


@settings(max_examples=60)
@given(distributions())
def test_the_projection_equals_the_papers_algorithm_and_conserves_mass(case):
    support, probabilities, target = case
    found = project(support, probabilities, target)
    torch.testing.assert_close(found, naive_project(support, probabilities, target))
    torch.testing.assert_close(found.sum(-1), probabilities.sum(-1))
    assert found.min() >= 0


@settings(max_examples=40)
@given(distributions())
def test_the_mean_is_conserved_inside_the_support(case):
    support, probabilities, target = case
    inside = target.clamp(-10, 10)
    torch.testing.assert_close(mean(support, project(support, probabilities, inside)), (probabilities * inside).sum(-1))


def test_the_mean_is_conserved_on_unequal_atoms_too():
    support = torch.tensor([0.0, 1.0, 4.0, 16.0], dtype=torch.float64)
    found = project(support, rows([[0.5, 0.5]]), rows([[2.0, 10.0]]))
    torch.testing.assert_close(found, rows([[0.0, 1 / 3, 5 / 12, 0.25]]))
    assert mean(support, found).item() == pytest.approx(6.0)


def test_float32_keeps_mass_to_rounding_at_51_atoms():
    support = torch.linspace(-10, 10, 51)
    probabilities = torch.rand(32, 51, generator=torch.Generator().manual_seed(0)).softmax(-1)
    found = project(support, probabilities, 0.3 + 0.99**3 * support.expand(32, 51))
    assert (found.sum(-1) - 1).abs().max() < 1e-6


def test_mean_takes_any_leading_axes():
    probabilities = rows([[[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]])
    assert mean(SUPPORT, probabilities).tolist() == [[0.0, 1.5]]


def test_cross_entropy_is_of_each_sample_and_least_at_the_target():
    target = rows([[0.5, 0.5], [1.0, 0.0]])
    logits = torch.zeros(2, 2).double()
    assert cross_entropy(target, logits).tolist() == pytest.approx([math.log(2), math.log(2)])
    logits = torch.tensor([[0.3, 0.3], [40.0, 0.0]], dtype=torch.float64)
    assert cross_entropy(target, logits).tolist() == pytest.approx([math.log(2), 0.0])


@pytest.mark.parametrize(
    ("support", "probabilities", "target", "message"),
    [
        (SUPPORT[None], SUPPORT[None], SUPPORT[None], r"support must be \[atoms\], not of shape \[1, 3\]"),
        (SUPPORT, SUPPORT, SUPPORT, r"probabilities must be \[B, M\], not of shape \[3\]"),
        (SUPPORT, SUPPORT[None], SUPPORT[None, :2], r"target_support has shape \[1, 2\], but probabilities"),
        (SUPPORT[:1], SUPPORT[None], SUPPORT[None], r"support needs two atoms or more"),
    ],
)
def test_mistakes_are_named(support, probabilities, target, message):
    with pytest.raises(ValueError, match=message):
        project(support, probabilities, target)
