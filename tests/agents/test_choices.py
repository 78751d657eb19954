"""PPO where an action is several choices (MultiDiscrete) or switches (MultiBinary), against torch's distributions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from agent_setups import build, setup
from gymnasium import spaces
from torch.distributions import Bernoulli, Categorical

import stablegrad
from stablegrad.agents import AGENTS, contract
from stablegrad.agents.actor_critic import choice_sizes, policy_size
from stablegrad.diagnostics import churn
from stablegrad.envs import EnvSpec, make
from stablegrad.envs.contract import violations
from stablegrad.errors import UserError
from stablegrad.rl import losses

GAMES = Path(__file__).parents[1] / "learning" / "tiny_envs.py"
CHOICES = spaces.MultiDiscrete([3, 2, 4])
SWITCHES = spaces.MultiBinary(3)
LOGITS = torch.randn(50, 9, generator=torch.Generator().manual_seed(1)) * 2


def drawn(count, sizes, seed=2):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([rng.integers(0, size, count) for size in sizes], axis=-1))


def test_choices_are_independent_categoricals():
    actions, parts = drawn(50, (3, 2, 4)), LOGITS.split([3, 2, 4], dim=-1)
    oracles = [Categorical(logits=part) for part in parts]
    expected = sum(oracle.log_prob(action) for oracle, action in zip(oracles, actions.unbind(-1), strict=True))
    torch.testing.assert_close(losses.multi_categorical_log_prob(LOGITS, actions, (3, 2, 4)), expected)
    torch.testing.assert_close(losses.multi_categorical_entropy(LOGITS, (3, 2, 4)), sum(o.entropy() for o in oracles))


def test_a_choice_of_two_is_a_bernoulli_variable_with_the_difference_of_its_logits():
    logits, switches = LOGITS[:, :6], drawn(50, (2, 2, 2))
    oracle = Bernoulli(logits=logits[:, 1::2] - logits[:, ::2])
    found = losses.multi_categorical_log_prob(logits, switches, (2, 2, 2))
    torch.testing.assert_close(found, oracle.log_prob(switches.float()).sum(-1))
    torch.testing.assert_close(losses.multi_categorical_entropy(logits, (2, 2, 2)), oracle.entropy().sum(-1))


def test_one_choice_is_what_it_was_alone():
    actions = drawn(50, (9,))
    alone = losses.categorical_log_prob(LOGITS, actions[:, 0])
    assert torch.equal(losses.multi_categorical_log_prob(LOGITS, actions, (9,)), alone)


def test_the_probabilities_of_all_actions_sum_to_one():
    every = torch.tensor([[a, b, c] for a in range(3) for b in range(2) for c in range(4)])
    total = losses.multi_categorical_log_prob(LOGITS[:1].expand(24, -1), every, (3, 2, 4)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("space", "sizes"),
    [(CHOICES, (3, 2, 4)), (SWITCHES, (2, 2, 2)), (spaces.MultiDiscrete([[2, 3], [4, 5]]), (2, 3, 4, 5))],
)
def test_a_policy_has_a_logit_for_each_action_of_each_choice(space, sizes):
    assert choice_sizes(space) == sizes
    assert policy_size(space) == sum(sizes)


def test_actions_are_drawn_with_the_probabilities_that_the_logits_say():
    agent = build("ppo", action_space=CHOICES)
    policy = LOGITS[:1].expand(20_000, -1)
    actions = agent.network.sample(policy, torch.Generator().manual_seed(3))
    for k, part in enumerate(LOGITS[0].split([3, 2, 4])):
        shares = torch.bincount(actions[:, k], minlength=len(part)) / len(actions)
        # Four standard errors of a share are at most 4 * sqrt(.25 / 20,000) = .014.
        assert torch.allclose(shares, part.softmax(-1), atol=0.015)
    pairs = torch.bincount(actions[:, 0] * 2 + actions[:, 1], minlength=6).reshape(3, 2) / len(actions)
    expected = LOGITS[0, :3].softmax(-1)[:, None] * LOGITS[0, 3:5].softmax(-1)[None]
    assert torch.allclose(pairs, expected, atol=0.015)


def test_the_entropy_of_a_new_policy_is_that_of_uniform_choices():
    """Heads begin near zero: log 3 + log 2 + log 4 nats, where one categorical of nine would have log 9."""
    agent = build("ppo", {"num_steps": 4, "num_minibatches": 1}, action_space=CHOICES)
    batch = {
        "obs": torch.zeros(4, 3), "actions": drawn(4, (3, 2, 4)), "log_probs": torch.full((4,), -math.log(24)),
        "values": torch.zeros(4), "returns": torch.zeros(4), "advantages": torch.tensor([1.0, 2.0, -1.0, 0.0]),
    }  # fmt: skip
    params = {"actor_critic": dict(agent.network.named_parameters())}
    output = agent.loss(params, batch, torch.Generator())
    assert output.metrics["losses/entropy"].item() == pytest.approx(math.log(24), abs=1e-3)
    assert output.metrics["losses/approx_kl"].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("space", [CHOICES, SWITCHES])
def test_every_promise_of_an_agent_is_kept(space):
    kind = AGENTS["ppo"]
    config = kind.Config(num_steps=5, num_minibatches=2)
    found = contract.checks(lambda its: kind(config, its), setup(num_envs=4, action_space=space), steps=20)
    assert {promise: problems for promise, problems in found if problems} == {}


@pytest.mark.parametrize("algo", ["pqn", "dqn", "rainbow"])
def test_the_others_name_ppo(algo):
    with pytest.raises(UserError, match="use ppo"):
        build(algo, action_space=CHOICES)


def test_churn_looks_at_each_choice():
    class Net(torch.nn.Module):
        action_sizes = (3, 2, 4)

        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, obs):
            return obs + self.shift

    one = torch.zeros(9)
    other = one.clone()
    other[4] = 100.0  # the second choice falls on its second action, for certain
    before, after = Net(one), Net(other)
    assert churn.policy_churn(before, after, LOGITS) == pytest.approx(
        (LOGITS[:, 3] >= LOGITS[:, 4]).float().mean().item()
    )
    assert churn.policy_kl(before, before, LOGITS) == pytest.approx(0, abs=1e-6)
    small = one.clone()
    small[5:] = torch.tensor([0.3, -0.2, 0.1, 0.0])
    p, q = (Categorical(logits=LOGITS[:, 5:] + shift) for shift in (one[5:], small[5:]))
    expected = torch.distributions.kl_divergence(p, q).mean().item()
    assert churn.policy_kl(before, Net(small), LOGITS) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("game", "sizes"), [("Locks", [3, 2]), ("Switches", [2, 2, 2])])
def test_ppo_opens_every_lock(tmp_path, game, sizes):
    """Chance opens the first to (1/3 + 1/2) / 2 = .42 of ten, the second to a half."""
    spec = EnvSpec.resolve({"env_id": f"{GAMES}:{game}"})
    assert violations(lambda **options: make(spec, **options), steps=40) == []
    env = make(spec, num_envs=1, seed=1)
    assert env.action_space == spaces.MultiDiscrete(sizes)
    config = {
        "algo": "ppo", "env_id": f"{GAMES}:{game}", "num_envs": 16, "num_steps": 16, "num_minibatches": 4,
        "total_timesteps": 12_000, "mlp_width": 32, "mlp_depth": 1, "gamma": 0.0, "learning_rate": 3e-3,
        "ent_coef": 0.0, "threads": 1, "diagnostics": "off",
    }  # fmt: skip
    run = stablegrad.train(config, run_dir=tmp_path / "run")
    assert run.evaluate(episodes=40, seed=3, epsilon=0.0).summary()["mean"] > 9
    # With a uniform action every time (of all choices at once), it is at chance: 400 locks, a standard error of .2.
    chance = np.mean([1 / size for size in sizes]) * 10
    assert run.evaluate(episodes=40, seed=3, epsilon=1.0).summary()["mean"] == pytest.approx(chance, abs=0.8)


def test_an_action_outside_its_choice_is_refused():
    env = make(EnvSpec.resolve({"env_id": f"{GAMES}:Locks"}), num_envs=1, seed=1)
    with pytest.raises(ValueError, match=r"actions must lie in 0 … \[2, 1\]"):
        env.step(np.array([[0, 2]]))
