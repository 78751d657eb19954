"""Every agent learns from a picture and a touch together, where neither is enough, and stays at chance without one."""

from pathlib import Path

import pytest

import stablegrad

ENVS = f"{Path(__file__).parent}/tiny_envs.py"
SHARED = {
    "threads": 1, "diagnostics": "off", "mlp_width": 32, "mlp_depth": 1, "cnn_size": 4, "use_ln": True,
    "gamma": 0.0, "learning_rate": 2e-3,
}  # fmt: skip
ON_POLICY = {"num_envs": 16, "num_steps": 8, "num_minibatches": 2, "total_timesteps": 8000}
REPLAYED = {
    "num_envs": 4, "train_frequency": 8, "batch_size": 64, "buffer_size": 8000, "learning_starts": 200,
    "target_network_frequency": 100, "exploration_fraction": 0.5, "total_timesteps": 4000,
}  # fmt: skip
AGENTS = {
    "pqn": {**ON_POLICY, "update_epochs": 2, "exploration_fraction": 0.5, "end_e": 0.05, "q_lambda": 0.0},
    "ppo": {**ON_POLICY, "update_epochs": 4, "ent_coef": 0.0},
    "dqn": REPLAYED,
    "rainbow": {**REPLAYED, "v_min": 0.0, "v_max": 1.0, "n_atoms": 11, "n_step": 1, "noisy": "off"},
}


def score(algo: str, game: str, folder: Path) -> float:
    run = stablegrad.train({"algo": algo, "env_id": f"{ENVS}:{game}", **SHARED, **AGENTS[algo]}, run_dir=folder)
    return run.evaluate(episodes=60, seed=3).summary()["mean"]


@pytest.mark.parametrize("algo", AGENTS)
def test_both_senses_are_used(algo, tmp_path):
    """300 rounds: chance is 2.5 with a standard error of .14, whoever uses both is right nearly always."""
    assert score(algo, "TwoSenses", tmp_path / "run") > 4.5


def test_without_the_touch_the_picture_is_not_enough(tmp_path):
    assert score("pqn", "Numb", tmp_path / "run") < 3.2  # five standard errors above chance
