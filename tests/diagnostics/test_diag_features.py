"""Features, tangent kernel, drift and capacity: hand-worked numbers and known answers."""

import copy
import math

import pytest
import torch
from torch import nn

from stablegrad.diagnostics import features
from stablegrad.diagnostics.capacity import capacity
from stablegrad.diagnostics.ntk import ntk, ntk_effective_rank


def test_summary_by_hand() -> None:
    found = features.summary(torch.tensor([[3.0, 4.0], [3.0, -4.0]]))
    assert found["norm"].item() == 5.0
    assert found["mean"].item() == 1.5
    assert found["spread"].item() == 2.0
    assert found["cosine"].item() == pytest.approx((9 - 16) / 25)


def test_pairwise_cosine_equals_the_naive_mean_over_pairs() -> None:
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    pairs = [torch.cosine_similarity(rows[i], rows[j], dim=0) for i in range(7) for j in range(7) if i != j]
    assert features.pairwise_cosine(rows).item() == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-6)
    with_empty = torch.cat([rows, torch.zeros(2, 3)])
    assert features.pairwise_cosine(with_empty).item() == pytest.approx(features.pairwise_cosine(rows).item(), abs=1e-6)
    assert math.isnan(features.pairwise_cosine(rows[:1]).item())


def test_drift_is_signed_and_churn_is_not() -> None:
    before = lambda obs: torch.tensor([[1.0, 0.0], [0.0, 5.0]])  # noqa: E731
    after = lambda obs: torch.tensor([[4.0, 0.0], [0.0, 1.0]])  # noqa: E731
    assert features.target_drift(before, after, torch.zeros(2, 1)) == -0.5


class TestTangentKernel:
    def test_of_a_linear_network_is_the_gram_matrix_of_its_inputs(self) -> None:
        inputs = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        kernel = ntk(nn.Linear(2, 1), inputs)
        assert torch.equal(kernel, (inputs @ inputs.T + 1).double())

    def test_takes_the_greedy_output_only(self) -> None:
        layer = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(2))
        # The two inputs move different rows of the weight.
        kernel = ntk(layer, torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        assert kernel.tolist() == [[1.0, 0.0], [0.0, 9.0]]

    def test_effective_rank_between_one_and_n(self) -> None:
        layer = nn.Linear(4, 1, bias=False)
        assert ntk_effective_rank(layer, torch.eye(4)) == pytest.approx(4.0)
        assert ntk_effective_rank(layer, torch.ones(4, 4)) == pytest.approx(1.0)
        assert ntk_effective_rank(layer, torch.zeros(4, 4)) == 0.0

    def test_taking_tensors_in_groups_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        inputs = torch.randn(5, 3)
        whole = ntk(network, inputs)
        monkeypatch.setattr("stablegrad.diagnostics.ntk._ENTRIES_AT_ONCE", 20)
        torch.testing.assert_close(ntk(network, inputs), whole, rtol=1e-5, atol=1e-6)


class TestCapacity:
    @staticmethod
    def network(seed: int = 0) -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def test_a_network_with_dead_units_needs_longer_or_never_gets_there(self) -> None:
        obs = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
        fresh = self.network()
        hurt, gone = copy.deepcopy(fresh), copy.deepcopy(fresh)
        with torch.no_grad():
            hurt[0].bias[4:] = -100.0
            gone[0].bias.fill_(-100.0)
        healthy, slower, never = (capacity(one, obs, budget=300) for one in (fresh, hurt, gone))
        assert healthy.reached
        assert healthy.error <= 0.1
        assert slower.steps > 1.5 * healthy.steps
        assert never.steps == 300
        assert not never.reached
        assert never.error == pytest.approx(1.0, abs=0.1)

    def test_large_values_are_not_mistaken_for_lost_capacity(self) -> None:
        obs = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
        shifted = self.network()
        with torch.no_grad():
            shifted[-1].bias.add_(1000.0)
        assert capacity(shifted, obs, budget=300).steps == pytest.approx(
            capacity(self.network(), obs, budget=300).steps, abs=15
        )

    def test_equal_observations_have_equal_targets(self) -> None:
        obs = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).repeat(8, 1)
        assert capacity(self.network(), obs, budget=300).reached

    def test_the_generator_chooses_the_targets(self) -> None:
        obs = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(5)
        first = capacity(self.network(), obs, budget=10, generator=generator)
        assert capacity(self.network(), obs, budget=10, generator=generator) == first
        assert capacity(self.network(), obs, budget=10) != first
