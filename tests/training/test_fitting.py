"""How fast a checkpoint's network still learns, by the API and by `stablegrad doctor --capacity`."""

import json

import pytest
import torch
from small_runs import DQN, PQN

from stablegrad import api, cli
from stablegrad.errors import UserError
from stablegrad.replay import memory
from stablegrad.training.fitting import still_learns

CARTPOLE = {"env_id": "CartPole-v1", "total_timesteps": 256, "learning_rate": 1e-6}


def test_a_network_that_did_not_move_fits_as_fast_as_the_one_it_began_as(run):
    """At a learning rate of 1e-6 the two are the same network, and are given the same inputs and targets."""
    found = api.load_run(run("pqn", {**CARTPOLE, **PQN}).path).capacity(budget=30, inputs=32)
    assert found.now.error == pytest.approx(found.fresh.error, rel=0.05)
    assert abs(found.now.steps - found.fresh.steps) <= 5


def test_a_network_whose_units_are_dead_cannot_fit(run, capsys):
    folder = run("pqn", {**CARTPOLE, **PQN})
    found = api.load_run(folder.path)
    agent = found.agent()
    with torch.no_grad():
        for name, parameter in agent.network.named_parameters():
            if "trunk" in name and name.endswith("norm.bias"):
                parameter.fill_(-100.0)
    obs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    dead = still_learns(agent.network, found.agent().network, obs, budget=40, seed=0)
    assert not dead.now.reached
    assert dead.now.error > 0.8 > dead.fresh.error

    assert cli.main(["doctor", str(folder.path), "--capacity", "20", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["capacity"]["now"]["steps"] <= 20
    assert cli.main(["doctor", str(folder.path), "--capacity", "20"]) == 0
    assert "until a copy fits random targets" in capsys.readouterr().out


def test_to_play_and_to_fit_need_no_memory_for_a_replay(run, monkeypatch):
    found = api.load_run(run("dqn", {**CARTPOLE, **DQN}).path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)  # far below the 1 GB that a replay leaves free
    assert len(found.evaluate(episodes=2, seed=0).scores) == 2
    assert found.capacity(budget=5, inputs=8).now.steps <= 5
    with pytest.raises(UserError, match="no buffer would fit"):
        found.agent()


def test_what_makes_no_sense_is_refused(run):
    with pytest.raises(UserError, match="at least 1 step"):
        api.load_run(run("pqn", {**CARTPOLE, **PQN}).path).capacity(budget=0)
