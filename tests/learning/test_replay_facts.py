"""What a replay does to what is learnt from it: the tails of episodes, and priorities."""

import json

import numpy as np
import pytest
import torch
from table_settings import PLAIN, TABLE

REPLAYED = {
    **TABLE,
    **PLAIN,
    "prioritized": True,
    "gamma": 0.9,
    "optimizer": "sgd",
    "learning_starts": 100,
    "batch_size": 64,
    "target_network_frequency": 40,
    "start_e": 0.5,
    "end_e": 0.5,
}


@pytest.mark.parametrize(("agent", "arrives"), [("rainbow", True), ("faulty_agents.py:LossyRainbow", False)])
def test_the_last_actions_of_an_episode_are_learnt(trained, agent, arrives):
    """An episode ends to the right of place 4: a window of three steps that begins there is always a tail."""
    settings = {
        "n_step": 3,
        "learning_rate": 1.0,
        "prioritized_replay_alpha": 0.0,
        "num_envs": 1,
        "total_timesteps": 3000,
    }
    q = trained(agent, {**REPLAYED, **settings}, env="Corridor").network(torch.eye(5)).detach()
    assert (abs(q[4, 1].item() - 1.0) < 0.03) == arrives


@pytest.mark.parametrize(("agent", "expected"), [("rainbow", 1.0), ("faulty_agents.py:BiasedRainbow", 2.5)])
def test_importance_weights_undo_the_bias_of_the_priorities(trained, tmp_path, agent, expected):
    """A reward of 10 in one game of ten, else 0: Q = 1. Drawn by |error|, the two balance where 10 - q = 3 q."""
    settings = {
        "prioritized_replay_alpha": 1.0,
        "prioritized_replay_beta": 1.0,
        "learning_rate": 0.05,
        "start_e": 1.0,
        "end_e": 1.0,
        "batch_size": 128,
        "num_envs": 8,
        "total_timesteps": 6000,
    }
    q = trained(agent, {**REPLAYED, **settings}, env="Bandit").network(torch.ones(1, 1)).detach()
    (episodes,) = tmp_path.glob("*/episodes.jsonl")
    share = np.mean([json.loads(line)["score"] for line in episodes.read_text().splitlines()]) / 10
    odds = np.sqrt((1 - share) / share) if expected > 1 else (1 - share) / share
    assert 10 / (1 + odds) == pytest.approx(expected, rel=0.1)  # of the games that were really played
    assert q.mean().item() == pytest.approx(10 / (1 + odds), rel=0.08)
