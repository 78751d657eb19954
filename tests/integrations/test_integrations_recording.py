"""Other people's loops, recorded: a CleanRL-style script in the middle of which five lines of ours stand."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from stablegrad import cli
from stablegrad.diagnostics.catalogue import entry
from stablegrad.doctor import Signals, examine
from stablegrad.errors import UserError
from stablegrad.integrations.recording import record


class Agent(nn.Module):
    """Two networks and no forward, as in CleanRL's scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))


def script(run_dir=None, *, iterations=24, steps=64):
    """A2C on CartPole, from scratch; with `run_dir` it is recorded."""
    torch.manual_seed(1)
    env = gymnasium.make("CartPole-v1")
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
    run = None
    if run_dir is not None:
        run = record(
            run_dir, agent, optimizer, every=256, batch=32,
            forward=lambda agent, obs: (agent.actor(obs), agent.critic(obs)),
            config={"env_id": "CartPole-v1", "total_timesteps": iterations * steps, "learning_rate": 1e-3},
        )  # fmt: skip
    obs, _ = env.reset(seed=1)
    score = length = 0
    for iteration in range(iterations):
        rollout, actions, rewards, dones = [], [], [], []
        for step in range(steps):
            rollout.append(torch.as_tensor(obs))
            actions.append(Categorical(logits=agent.actor(rollout[-1])).sample())
            obs, reward, terminated, truncated, _ = env.step(int(actions[-1]))
            rewards.append(reward)
            dones.append(terminated or truncated)
            score, length = score + reward, length + 1
            if dones[-1]:
                if run is not None:
                    run.episode(iteration * steps + step + 1, score, length)
                obs, _ = env.reset()
                score = length = 0
        seen = torch.stack(rollout)
        values = agent.critic(seen).squeeze(-1)
        returns, following = torch.zeros(steps), agent.critic(torch.as_tensor(obs)).item()
        for t in reversed(range(steps)):
            returns[t] = following = rewards[t] + 0.99 * following * (not dones[t])
        policy = Categorical(logits=agent.actor(seen))
        gain = policy.log_prob(torch.stack(actions)) * (returns - values).detach()
        loss = (returns - values).square().mean() - gain.mean() - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
        optimizer.step()
        if run is not None:
            run.log((iteration + 1) * steps, seen, {"losses/loss": loss.item()})
    if run is not None:
        run.close()
    return agent, torch.get_rng_state()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "run"
    return path, script(path)


def test_recording_changes_nothing(recorded):
    _, (agent, state) = recorded
    alone, state_alone = script()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(agent.parameters(), alone.parameters(), strict=True))
    assert torch.equal(state, state_alone)


def test_rows_are_written_at_their_cadence(recorded):
    rows = [json.loads(line) for line in (recorded[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [256, 512, 768, 1024, 1280, 1536]
    assert [row["update"] for row in rows] == [4, 8, 12, 16, 20, 24]


def test_what_is_written_is_in_the_catalogue(recorded):
    row = json.loads((recorded[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"gradients/raw/total", "gradients/raw/actor.0", "gradients/update/critic.2", "weights/norm/actor.4",
            "ranks/effective_rank", "units/saturated/total", "churn/policy", "churn/value",
            "losses/values", "train/episodes"} <= set(row)  # fmt: skip
    for name in row:
        assert entry(name)


def test_gradients_are_those_before_clipping(tmp_path):
    """A loss of w . (3, 4): the gradient's norm is 5, whatever the clip, and the step of SGD 0.1 of the clipped one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 1, bias=False))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with record(tmp_path / "run", network, optimizer, config={}, every=1) as run:
        network(torch.tensor([[3.0, 4.0]])).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        assert run.log(1, torch.randn(8, 2))
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert row["gradients/raw/0"] == pytest.approx(5.0)
    assert row["gradients/raw/total"] == pytest.approx(5.0)
    assert row["gradients/update/0"] == pytest.approx(0.1, rel=1e-4)


def test_a_layer_that_gets_no_gradient_is_seen(tmp_path):
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters())
    with record(tmp_path / "run", agent, optimizer, config={}, every=1,
                forward=lambda agent, obs: (agent.actor(obs), agent.critic(obs))) as run:  # fmt: skip
        for step in range(1, 9):
            obs = torch.randn(16, 4)
            optimizer.zero_grad()
            agent.critic(obs).square().mean().backward()
            optimizer.step()
            run.log(step, obs)
    finding = next(one for one in examine(tmp_path / "run").findings if one.name == "frozen_layers")
    assert finding.layers == ("actor.0", "actor.2", "actor.4")


def test_the_folder_is_a_run_for_doctor_and_watch(recorded, capsys):
    path, _ = recorded
    assert cli.main(["doctor", str(path)]) == 0
    assert "Agent CartPole-v1" in capsys.readouterr().out
    assert cli.main(["watch", "--once", str(path)]) == 0
    assert "effective rank" in capsys.readouterr().out
    games = Signals.read(path).games
    assert len(games) > 20
    assert np.all(games.values >= 8)


def test_hooks_are_gone_behind_close(tmp_path):
    network = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with record(tmp_path / "run", network, optimizer, config={}):
        assert network.weight._post_accumulate_grad_hooks
    assert not network.weight._post_accumulate_grad_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_an_exception_leaves_a_failed_run(tmp_path):
    network = nn.Linear(2, 1)
    with (
        pytest.raises(ZeroDivisionError),
        record(tmp_path / "run", network, torch.optim.SGD(network.parameters(), lr=0.1), config={}),
    ):
        raise ZeroDivisionError("by zero")
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["reason"]) == ("failed", "ZeroDivisionError: by zero")
    assert examine(tmp_path / "run").findings[0].name == "failed"


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    network = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    record(tmp_path, network, optimizer, config={}).close()
    with pytest.raises(UserError, match="holds a run already"):
        record(tmp_path, network, optimizer, config={})
