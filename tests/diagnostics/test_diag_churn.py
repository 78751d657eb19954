"""Churn and its split: hand-worked numbers on linear networks, and where a network's head is found."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from stablegrad.diagnostics import churn, parts
from stablegrad.errors import UserError

OBS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])


def linear(*rows: tuple[float, ...]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


def network(body: nn.Linear, head: nn.Linear) -> nn.Sequential:
    return nn.Sequential(body, nn.ReLU(), head)


BEFORE = network(linear((1, 0), (0, 1)), linear((2, 0), (0, 1)))
NEW_HEAD = network(linear((1, 0), (0, 1)), linear((0, 2), (0, 1)))
NEW_BODY = network(linear((1, 0), (0, 3)), linear((2, 0), (0, 1)))


def test_policy_churn_is_the_share_of_greedy_actions_that_changed() -> None:
    # Q before: (2, 0), (0, 1), (4, 2). With the new body: (2, 0), (0, 3), (4, 6): the last one changes.
    assert churn.policy_churn(BEFORE, NEW_BODY, OBS) == pytest.approx(1 / 3)
    assert churn.policy_churn(BEFORE, BEFORE, OBS) == 0.0


def test_value_churn_is_the_mean_change_of_the_largest_output() -> None:
    # V: 2, 1, 4 becomes 2, 3, 6
    assert churn.value_churn(BEFORE, NEW_BODY, OBS) == pytest.approx(4 / 3)
    critic = lambda obs: obs[:, :1] * 3  # noqa: E731
    assert churn.value_churn(lambda obs: obs[:, 0], critic, OBS) == pytest.approx(2.0)


def test_the_split_tells_features_from_head() -> None:
    # New body, old head: outputs change by (0, 0), (0, 2), (0, 4): mean over six numbers.
    assert churn.representation_churn(BEFORE, NEW_BODY, OBS) == pytest.approx(1.0)
    assert churn.head_churn(BEFORE, NEW_BODY, OBS) == 0.0
    # Old features, new head: (0, 0) - (2, 0), (2, 1) - (0, 1), (4, 2) - (4, 2).
    assert churn.head_churn(BEFORE, NEW_HEAD, OBS) == pytest.approx(4 / 6)
    assert churn.representation_churn(BEFORE, NEW_HEAD, OBS) == 0.0


def test_the_split_adds_up_to_the_total_to_first_order() -> None:
    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    obs = torch.randn(64, 4)
    totals, parted = [], []
    for size in (1e-2, 1e-3):
        after = copy.deepcopy(before)
        with torch.no_grad():
            for parameter in after.parameters():
                parameter.add_(size)
            totals.append((after(obs) - before(obs)).abs().mean().item())
        parted.append(churn.representation_churn(before, after, obs) + churn.head_churn(before, after, obs))
        assert totals[-1] <= parted[-1] * 1.05
    assert parted[0] / parted[1] == pytest.approx(10, rel=0.1)


def test_cosine_and_distance_of_features() -> None:
    # Features: (1, 0), (0, 1), (2, 2) becomes (1, 0), (0, 3), (2, 6)
    assert churn.representation_distance(BEFORE, NEW_BODY, OBS) == pytest.approx((0 + 2 + 4) / 3)
    cosines = (1, 1, (4 + 12) / (8**0.5 * 40**0.5))
    assert churn.representation_cosine(BEFORE, NEW_BODY, OBS) == pytest.approx(sum(cosines) / 3)
    assert churn.representation_cosine(BEFORE, BEFORE, OBS) == pytest.approx(1.0)


def test_an_input_without_features_is_left_out_of_the_cosine() -> None:
    obs = torch.cat([OBS[:2], torch.tensor([[-1.0, -1.0]])])
    assert churn.representation_cosine(BEFORE, BEFORE, obs) == pytest.approx(1.0)
    assert math.isnan(churn.representation_cosine(BEFORE, BEFORE, -OBS))


def test_policy_kl_of_logits_and_of_distributions() -> None:
    # Bernoulli(1/2) against (3/4, 1/4): ln(1/2 / 3/4) / 2 + ln(1/2 / 1/4) / 2 = ln(4/3) / 2
    old = lambda obs: torch.zeros(len(obs), 2)  # noqa: E731
    new = lambda obs: torch.tensor([[math.log(3), 0.0]]).expand(len(obs), 2)  # noqa: E731
    assert churn.policy_kl(old, new, OBS) == pytest.approx(math.log(4 / 3) / 2)
    first = lambda obs: Normal(torch.zeros(3), torch.ones(3))  # noqa: E731
    second = lambda obs: Normal(torch.full((3,), 2.0), torch.ones(3))  # noqa: E731
    assert churn.policy_kl(first, second, OBS) == pytest.approx(2.0)


def test_policy_churn_refuses_outputs_that_are_no_actions() -> None:
    with pytest.raises(UserError, match="one column an action"):
        churn.policy_churn(lambda obs: obs[:, :1], lambda obs: obs[:, :1], OBS)
    with pytest.raises(UserError, match="one column an action"):
        churn.policy_churn(lambda obs: obs[:, None, :], lambda obs: obs[:, None, :], OBS)


class TestParts:
    def test_features_are_what_feeds_the_last_layer_with_parameters(self) -> None:
        assert torch.equal(parts.features(BEFORE, OBS), OBS)
        squashed = nn.Sequential(*BEFORE, nn.Tanh())
        assert torch.equal(parts.features(squashed, OBS), OBS)
        fed, head = parts.split(squashed, OBS)
        assert torch.equal(head(fed), squashed(OBS))

    def test_a_head_of_several_layers_is_found_whole(self) -> None:
        class Dueling(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.value, self.advantage = linear((1, 1)), linear((1, 0), (0, 1))

            def forward(self, x):
                return self.value(x) + self.advantage(x) - self.advantage(x).mean(dim=1, keepdim=True)

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body, self.top = linear((1, 0), (0, 3)), Dueling()

            def forward(self, x):
                return self.top(self.body(x).relu())

        network = Net()
        fed, head = parts.split(network, OBS)
        assert fed.tolist() == [[1, 0], [0, 3], [2, 6]]
        assert torch.equal(head(fed), network(OBS))

    def test_the_first_of_several_outputs_counts(self) -> None:
        class ActorCritic(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body, self.actor, self.critic = linear((2, 0)), linear((1,), (2,)), linear((5,))

            def forward(self, x):
                features = self.body(x)
                return self.actor(features), self.critic(features)

        assert parts.features(ActorCritic(), OBS).tolist() == [[2], [0], [4]]

    def test_what_cannot_be_cut_is_said(self) -> None:
        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = linear((1, 1))

            def forward(self, x):
                return self.layer(x) * 2

        with pytest.raises(UserError, match="where the head of Scaled begins"):
            parts.features(Scaled(), OBS)
        with pytest.raises(UserError, match="plain function"):
            churn.representation_churn(lambda x: x, lambda x: x, OBS)

    def test_a_plain_function_is_its_own_representation(self) -> None:
        assert churn.representation_distance(lambda x: x, lambda x: x * 2, OBS) == pytest.approx((2 + 8**0.5) / 3)
        assert churn.representation_cosine(lambda x: x, lambda x: -x, OBS) == pytest.approx(-1.0)

    def test_a_single_layer_is_all_head(self) -> None:
        before, after = linear((1, 0)), linear((0, 1))
        assert churn.representation_churn(before, after, OBS) == 0.0
        assert churn.head_churn(before, after, OBS) == churn.value_churn(before, after, OBS) > 0

    def test_functions_can_be_given_as_parts(self) -> None:
        before = parts.Parts(features=lambda x: x, head=lambda phi: phi.sum(dim=1, keepdim=True))
        after = parts.Parts(features=lambda x: x * 2, head=lambda phi: phi.sum(dim=1, keepdim=True) + 1)
        assert churn.representation_churn(before, after, OBS) == pytest.approx((1 + 1 + 4) / 3)
        assert churn.head_churn(before, after, OBS) == pytest.approx(1.0)
        assert churn.value_churn(before, after, OBS) == pytest.approx((2 + 2 + 5) / 3)
