"""CartPole-v1 is solved: at least 475 of 500 over 100 evaluation games, by every seed, within the stated steps.

`make test` trains one seed of each agent, `make evidence` the other two.
"""

from pathlib import Path

import pytest

import stablegrad

SHARED = {"env_id": "CartPole-v1", "mlp_depth": "published", "diagnostics": "off", "threads": 1}

BUDGETS = {
    "ppo": {
        "total_timesteps": 80_000, "num_envs": 8, "num_steps": 64, "num_minibatches": 4, "update_epochs": 8,
        "learning_rate": 1e-3, "gamma": 0.98, "gae_lambda": 0.9, "clip_coef": 0.2, "ent_coef": 0.0,
        "clip_vloss": False,  # values grow hundreds of times larger than the clip
        "shared_trunk": False,
    },
    "pqn": {
        "total_timesteps": 120_000, "num_envs": 16, "num_steps": 32, "num_minibatches": 4, "update_epochs": 4,
        "learning_rate": 1e-3, "anneal_lr": True, "gamma": 0.98, "q_lambda": 0.9, "exploration_fraction": 0.5,
        "end_e": 0.05,
    },
    "dqn": {
        "total_timesteps": 50_000, "num_envs": 4, "train_frequency": 4, "batch_size": 128, "buffer_size": 50_000,
        "learning_starts": 1000, "learning_rate": 1e-3, "anneal_lr": True, "gamma": 0.99, "tau": 0.05,
        "target_network_frequency": 4, "double": True, "max_grad_norm": 10.0, "use_ln": True,
        "exploration_fraction": 0.4, "end_e": 0.04,
        "loss": "mse",  # clipped errors are too slow to say that falling is the end of all reward
    },
}  # fmt: skip


def score(algo: str, seed: int, folder: Path, **changes: object) -> float:
    """The mean evaluation score of a run within its budget."""
    run = stablegrad.train({**SHARED, **BUDGETS[algo], **changes, "algo": algo, "seed": seed}, run_dir=folder)
    return run.evaluate(episodes=100, seed=3).summary()["mean"]


@pytest.mark.parametrize("algo", BUDGETS)
def test_cartpole_is_solved(algo: str, tmp_path: Path):
    assert score(algo, 1, tmp_path / "run") >= 475


@pytest.mark.evidence
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("algo", BUDGETS)
def test_cartpole_is_solved_by_every_seed(algo: str, seed: int, tmp_path: Path):
    assert score(algo, seed, tmp_path / "run") >= 475


def test_cartpole_is_not_solved_by_an_agent_that_hardly_learns(tmp_path: Path):
    assert score("ppo", 1, tmp_path / "run", total_timesteps=4096, learning_rate=1e-6) < 100
