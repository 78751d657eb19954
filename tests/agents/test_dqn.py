"""DQN's targets and loss by hand, and what it does with a protocol's rewards and lives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_setups import Stream, build, parameters, play
from gymnasium import spaces

from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig

NOW = {"learning_starts": 0, "train_frequency": 2, "batch_size": 8}


class Fixed(torch.nn.Module):
    """Q values that do not depend on the observation."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.values.expand(len(obs), -1)


@pytest.mark.parametrize(("double", "bootstrap"), [(False, 3.0), (True, -1.0)])
def test_the_target_network_values_what_it_or_the_trained_network_chose(double, bootstrap):
    agent = build("dqn", {"double": double})
    agent.network, agent.target = Fixed(0.0, 9.0, 1.0, 2.0), Fixed(3.0, -1.0, 2.0, 0.0)
    data = {
        "rewards": torch.tensor([1.0, 1.0]),
        "discounts": torch.tensor([0.5, 0.0]),
        "next_obs": torch.zeros(2, 3),
    }
    assert agent._targets(data).tolist() == [1.0 + 0.5 * bootstrap, 1.0]


@pytest.mark.parametrize(("kind", "expected"), [("mse", (0.25 + 9.0) / 2), ("huber", (0.125 + 2.5) / 2)])
def test_the_loss_is_the_mean_error_of_the_actions_taken(kind, expected):
    agent = build("dqn", {"loss": kind})
    params = {"q": {name: torch.zeros_like(p) for name, p in agent.network.named_parameters()}}
    params["q"]["head.bias"] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    batch = {"obs": torch.zeros(2, 3), "actions": torch.tensor([0, 3]), "targets": torch.tensor([0.5, 1.0])}
    output = agent.loss(params, batch, torch.Generator())
    assert float(output.loss) == pytest.approx(expected)
    assert output.features.shape == (2, 512)
    assert float(output.metrics["losses/q_values"]) == 2.5


@pytest.mark.parametrize("algo", ["dqn", "pqn"])
def test_exploration_begins_at_its_start(algo):
    agent = build(algo, {"start_e": 1.0, "end_e": 0.2, "exploration_fraction": 0.5}, total_steps=1000)
    explored = []
    for agent.steps in (0, 250, 500, 1000):
        explored.append(agent.epsilon)
    assert explored == pytest.approx([1.0, 0.6, 0.2, 0.2])


@pytest.mark.parametrize(("anneal", "expected"), [(False, 1.0), (True, 0.75)])
def test_the_learning_rate_falls_only_where_it_is_annealed(anneal, expected):
    agent = build("dqn", {"anneal_lr": anneal}, total_steps=16)
    assert agent.learning_rate_factor("q") == 1.0
    agent.steps = 4
    assert agent.learning_rate_factor("q") == expected


def test_a_time_out_bootstraps_from_its_last_observation_and_an_end_from_nothing():
    for ends, discount in (({"truncated": (3,)}, 0.99), ({"terminated": (3,)}, 0.0)):
        agent, stream = build("dqn", {**NOW, "batch_size": 200}), Stream(seed=3, **ends)
        steps = [stream.step(agent.act(stream.obs))]
        agent.observe(steps[0])
        for _ in range(3):
            steps.append(stream.step(agent.act(stream.obs)))
            agent.observe(steps[-1])
        (batch,) = agent.batches()
        (finals,) = (step.final_obs for step in steps if len(step.final_obs))
        rows = (batch["next_obs"] == torch.from_numpy(finals[0])).all(-1)
        assert rows.any()
        assert batch["discounts"][rows].unique().tolist() == pytest.approx([discount])
        firsts = torch.from_numpy(steps[2].obs)  # the first observations of the next episode follow nothing
        assert not any((batch["next_obs"] == first).all(-1).any() for first in firsts)


def test_rewards_are_clipped_and_lives_end_the_return_where_the_protocol_says_so():
    for clip, lives in ((False, False), (True, True)):
        agent = build("dqn", {**NOW, "batch_size": 100}, reward_clip=clip, life_loss_ends=lives)
        stream = Stream()
        for _ in range(2):
            step = stream.step(agent.act(stream.obs))
            agent.observe(replace(step, reward=np.full(2, -7.0, np.float32), life_lost=np.ones(2, bool)))
        (batch,) = agent.batches()
        assert batch["rewards"].unique().tolist() == [-1.0 if clip else -7.0]
        assert batch["discounts"].unique().tolist() == pytest.approx([0.0 if lives else 0.99])


def test_the_target_stands_still_between_its_updates():
    agent, stream = build("dqn", {**NOW, "target_network_frequency": 1000}), Stream()
    with torch.no_grad():
        agent.network.head.bias += 5
    for batch in play(agent, stream, 20):
        assert float(batch["targets"].abs().max()) < 5
        agent.after_update(None, batch)


def test_the_loss_is_a_function_of_the_parameters_it_is_given():
    agent = build("dqn", NOW)
    (batch, *_) = play(agent, Stream(), 4)
    given = parameters(agent)
    other = {"q": {name: value + 1 for name, value in given["q"].items()}}
    generator = torch.Generator().manual_seed(1)
    assert agent.loss(given, batch, generator).loss != agent.loss(other, batch, generator).loss
    assert agent.loss(given, batch, generator).loss == agent.loss(given, batch, generator).loss


def test_the_published_defaults():
    flat = RunConfig.resolve("dqn", {}).flat()
    expected = {
        "env_id": "Breakout-v5", "protocol": "cleanrl", "eval_epsilon": 0.01, "total_timesteps": 5_000_000,
        "num_envs": 1, "learning_rate": 1e-4, "optimizer": "adam", "optimizer_eps": None, "max_grad_norm": None,
        "buffer_size": 1_000_000, "batch_size": 32, "learning_starts": 80_000, "train_frequency": 4, "gamma": 0.99,
        "target_network_frequency": 1000, "tau": 1.0, "start_e": 1.0, "end_e": 0.01, "exploration_fraction": 0.1,
        "double": False, "loss": "mse", "use_ln": False,
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected
    assert RunConfig.resolve("dqn", {"optimizer": "kron"}).optimizer.learning_rate == pytest.approx(1e-4 / 3)
    assert RunConfig.resolve("dqn", {"env_id": "CartPole-v1"}).env.protocol is None


def test_mistakes_are_named():
    with pytest.raises(UserError) as caught:
        RunConfig.resolve("dqn", {"tau": 2, "batch_size": 0, "learning_starts": -1, "num_steps": 5})
    text = "\n".join(caught.value.problems)
    for part in ("--tau 2", "--batch_size 0", "--learning_starts -1", "no setting --num_steps"):
        assert part in text
    with pytest.raises(UserError, match="did you mean 'huber'"):
        RunConfig.resolve("dqn", {"loss": "hubr"})
    with pytest.raises(UserError, match=r"dqn needs discrete actions.*use ppo"):
        build("dqn", action_space=spaces.Box(-1, 1, (2,)))
