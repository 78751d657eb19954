"""Heads: gains, and the dueling sum by hand."""

import torch
from torch import nn

from stablegrad.nn import Dueling, NoisyLinear, linear_head


class Constant(nn.Module):
    """Returns the same row for every input."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.values.expand(len(x), -1)


def test_dueling_subtracts_the_mean_advantage() -> None:
    head = Dueling(Constant(10.0), Constant(1.0, 2.0, 6.0), n_actions=3)
    torch.testing.assert_close(head(torch.zeros(2, 4)), torch.tensor([[8.0, 9.0, 13.0]] * 2))


def test_dueling_with_atoms_does_so_for_each_atom() -> None:
    head = Dueling(Constant(10.0, 20.0), Constant(1.0, 0.0, 3.0, 8.0), n_actions=2, atoms=2)
    # advantages [[1, 0], [3, 8]], their means over actions [2, 4]
    torch.testing.assert_close(head(torch.zeros(1, 4)), torch.tensor([[[9.0, 16.0], [11.0, 24.0]]]))


def test_one_atom_is_still_an_atom() -> None:
    assert Dueling(Constant(1.0), Constant(1.0, 2.0), n_actions=2, atoms=1)(torch.zeros(3, 4)).shape == (3, 2, 1)


def test_gain_and_source_of_a_linear_head() -> None:
    before = torch.get_rng_state()
    critic, again = (linear_head(64, 3, gain=1.0, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(critic.weight, again.weight)
    torch.testing.assert_close(critic.weight @ critic.weight.T, torch.eye(3))


def test_a_noisy_head_keeps_the_papers_initialisation() -> None:
    head = linear_head(64, 3, linear=NoisyLinear, generator=torch.Generator().manual_seed(1))
    assert 0.05 < head.weight.abs().max() <= 1 / 8
