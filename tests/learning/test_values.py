"""Values converge to what they are known to be."""

import numpy as np
import pytest
import torch
from table_settings import PLAIN, TABLE

V = 0.9 ** np.arange(4, -1, -1.0)
Q = np.stack([0.9 * V[[0, 0, 1, 2, 3]], V], axis=1)
EXPLORING = {"start_e": 0.5, "end_e": 0.5}
PQN = {
    "num_envs": 32,
    "num_steps": 2,
    "num_minibatches": 1,
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "total_timesteps": 24_000,
}
REPLAYED = {
    "num_envs": 4,
    "learning_starts": 200,
    "batch_size": 64,
    "target_network_frequency": 40,
    "optimizer": "sgd",
    "learning_rate": 1.0,
}
DISTRIBUTIONS = {"noisy": "off", "v_min": 0.0, "v_max": 1.25, "n_step": 1, "learning_rate": 15.0}


def q_values(agent) -> np.ndarray:
    with torch.no_grad():
        return agent.network(torch.eye(5)).numpy()


@pytest.mark.parametrize(
    ("algo", "settings"),
    [
        ("pqn", {**PQN, "q_lambda": 0.0}),
        ("dqn", REPLAYED),
        ("dqn", {**REPLAYED, "double": True, "loss": "huber", "tau": 0.3, "target_network_frequency": 4}),
        ("rainbow", {**REPLAYED, **PLAIN, "prioritized": True, "dueling": True, "double": True}),
        ("rainbow", {**REPLAYED, **DISTRIBUTIONS, "total_timesteps": 5000}),
    ],
    ids=["pqn", "dqn", "double-dqn", "rainbow-values", "rainbow-distributions"],
)
def test_action_values_on_a_chain_are_those_of_the_optimal_policy(trained, algo, settings):
    agent = trained(algo, {**TABLE, **EXPLORING, "gamma": 0.9, **settings}, env="Chain")
    np.testing.assert_allclose(q_values(agent), Q, rtol=0, atol=0.02)


def test_returns_that_follow_the_exploring_policy_are_not(trained):
    """The control: with lambda = 1 and half of the actions random, Peng's Q(lambda) learns the exploring values."""
    settings = {**PQN, "num_envs": 8, "num_steps": 8, "q_lambda": 1.0, "learning_rate": 0.1}
    agent = trained("pqn", {**TABLE, **EXPLORING, **settings, "gamma": 0.9}, env="Chain")
    assert q_values(agent)[0, 1] < Q[0, 1] - 0.1


@pytest.mark.parametrize(("noisy", "finds"), [("head", True), ("off", False)])
def test_noisy_layers_explore_without_any_epsilon(trained, noisy, finds):
    settings = {**REPLAYED, **PLAIN, "noisy": noisy, "learning_rate": 0.2, "gamma": 0.9, "total_timesteps": 6000}
    settings |= {} if noisy == "head" else {"start_e": 0.0, "end_e": 0.0}  # greedy from the start
    agent = trained("rainbow", {**TABLE, **settings}, env="Corridor")
    assert agent.epsilon == 0
    assert np.allclose(q_values(agent)[:, 1], V, rtol=0, atol=0.05) == finds


def test_state_values_of_ppo_are_those_of_the_policy_it_finds(trained):
    settings = {"num_envs": 32, "num_steps": 8, "num_minibatches": 4, "learning_rate": 0.02, "ent_coef": 0.0}
    agent = trained("ppo", {**TABLE, **settings, "gamma": 0.9, "total_timesteps": 16_000}, env="Chain")
    with torch.no_grad():
        policy, values, _ = agent.network(torch.eye(5))
    assert (policy.softmax(-1)[:, 1] > 0.95).all()
    np.testing.assert_allclose(values.numpy(), V, rtol=0, atol=0.05)
