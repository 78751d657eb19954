"""Small real runs, made sick on purpose as benchmarks/doctor_study.py does it at size, and healthy ones."""

import sys
from pathlib import Path

import pytest

from stablegrad import train
from stablegrad.doctor import examine
from stablegrad.runs.config import RunConfig

ROOT = Path(__file__).parents[2]
AGENTS = ROOT / "benchmarks/doctor_agents.py"
GAME = Path(__file__).with_name("doctor_game.py")

SETTINGS = {
    "env_id": f"{GAME}:Lamps",
    "total_timesteps": 5120,
    "num_envs": 8,
    "num_steps": 16,
    "num_minibatches": 4,
    "update_epochs": 2,
    "gamma": 0.5,
    "exploration_fraction": 0.5,
    "learning_rate": 5e-4,
    "mlp_depth": 1,
    "mlp_width": 32,
    "use_ln": True,
    "diagnostics": "light",
    "diagnostics_every": 640,
    "log_every": 128,
    "threads": 1,
    "checkpoint_every": 10**9,
}

SICK = {"env_id": "MinAtar/Breakout", "gamma": 0.99, "total_timesteps": 2048, "diagnostics_every": 256}
"""Too short to learn anything, and long enough to show what was done to them."""


SEEDS = pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.evidence) for seed in (2, 3, 4))])


def said(tmp_path, algo="pqn", **changes):
    config = RunConfig.resolve(algo, {**SETTINGS, **changes})
    run = train(config, run_dir=tmp_path / "run")
    return {finding.name for finding in examine(run.path).findings if finding.severity != "info"}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@SEEDS
def test_a_healthy_run_is_not_accused(tmp_path, seed):
    assert said(tmp_path, seed=seed) == set()


@SEEDS
def test_a_learning_rate_30_times_too_high(tmp_path, seed):
    assert "steps_too_large" in said(tmp_path, **{**SICK, "mlp_width": 128}, seed=seed, learning_rate=1.5e-2)


@SEEDS
def test_dead_relus(tmp_path, seed):
    assert "dead_units" in said(tmp_path, f"{AGENTS}:DeadPQN", **SICK, seed=seed)


@SEEDS
def test_a_frozen_encoder(tmp_path, seed):
    assert "frozen_layers" in said(tmp_path, f"{AGENTS}:FrozenPQN", **SICK, seed=seed)


@SEEDS
def test_a_12_layer_head_without_norm(tmp_path, seed):
    deep = {**SICK, "total_timesteps": 3200, "mlp_depth": 5, "mlp_width": 64, "use_ln": False}
    assert "rank_collapse" in said(tmp_path, **deep, seed=seed)
