"""Rainbow's parts, one by one: each switch does its own thing, and without any of them it is DQN."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_setups import SPEC, Stream, build, parameters, play
from torch import nn

from stablegrad.errors import UserError
from stablegrad.nn import taps
from stablegrad.nn.noisy import NoisyLinear, draw_noise
from stablegrad.runs.config import OptimizerSpec, RunConfig
from stablegrad.training.learner import Learner

NOW = {"learning_starts": 0, "train_frequency": 2, "batch_size": 8}
PLAIN = {
    "distributional": False, "dueling": False, "noisy": "off", "double": False, "prioritized": False, "n_step": 1,
}  # fmt: skip


def learn(agent, stream, steps: int, optimizer: str = "sgd") -> None:
    learner = Learner(agent, OptimizerSpec(optimizer=optimizer, learning_rate=0.05), seed=1)
    for _ in range(steps):
        agent.observe(stream.step(agent.act(stream.obs)))
        for batch in agent.batches():
            agent.after_update(learner.update(batch, step=agent.steps).output, batch)


def test_with_every_switch_off_it_is_dqn_bit_for_bit():
    target = {"target_network_frequency": 20}
    dqn, rainbow = build("dqn", {**NOW, **target}), build("rainbow", {**NOW, **PLAIN, **target})
    for agent in (dqn, rainbow):
        learn(agent, Stream(terminated=(4, 11), truncated=(7,)), 40)
    theirs = dict(dqn.network.named_parameters())
    ours = dict(rainbow.network.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("switch", "value"),
    [("distributional", True), ("dueling", True), ("noisy", "head"), ("double", True), ("prioritized", True),
     ("n_step", 3)],
)  # fmt: skip
def test_each_switch_alone_changes_what_is_learnt(switch, value):
    dqn, rainbow = build("dqn", NOW), build("rainbow", {**NOW, **PLAIN, switch: value})
    for agent in (dqn, rainbow):
        learn(agent, Stream(terminated=(4, 11), truncated=(7,)), 20)
    obs = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    assert rainbow.network(obs).shape == (50, 4)
    assert not torch.equal(dqn.network(obs), rainbow.network(obs))


@pytest.mark.parametrize(("noisy", "expected"), [("all", 14), ("head", 2), ("off", 0)])
def test_noisy_says_which_layers_are(noisy, expected):
    network = build("rainbow", {"noisy": noisy}, network=replace(SPEC, mlp_depth=2)).network
    # Two trunks of 2 * 2 + 2 layers and two heads.
    assert sum(isinstance(layer, NoisyLinear) for layer in network.modules()) == expected
    assert len(taps.layers(network)) == 14


@pytest.mark.parametrize("mlp_type", ["residual", "multiskip_residual"])
def test_depth_means_the_same_number_of_blocks_as_in_dqn(mlp_type):
    spec = replace(SPEC, mlp_type=mlp_type, mlp_depth=3)
    rainbow, dqn = build("rainbow", network=spec).network, build("dqn", network=spec).network
    for trunk in (rainbow.trunk.value, rainbow.trunk.advantage, dqn.trunk):
        assert len(trunk.blocks) == 3


def test_noise_comes_from_the_generator_alone_and_is_new_for_each_update():
    agent = build("rainbow", {**NOW, "noisy": "all"})
    (batch, *_) = play(agent, Stream(), 6)
    params = parameters(agent)

    def loss(seed: int) -> torch.Tensor:
        return agent.loss(params, batch, torch.Generator().manual_seed(seed)).loss

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    generator = torch.Generator().manual_seed(1)
    assert agent.loss(params, batch, generator).loss != agent.loss(params, batch, generator).loss
    assert not any(buffer.any() for name, buffer in agent.network.named_buffers() if "noise" in name)


def test_acting_draws_noise_for_every_step_and_evaluation_none():
    agent = build("rainbow", {"noisy": "head"}, num_envs=64)
    with torch.no_grad():  # sigmas so large that the noise decides
        for layer in agent.network.modules():
            if isinstance(layer, NoisyLinear):
                layer.weight_sigma.fill_(10.0)
    obs = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    acted = [agent.act(obs) for _ in range(3)]
    assert (acted[0] != acted[1]).any()
    assert (acted[1] != acted[2]).any()
    generator = torch.Generator()
    greedy = [agent.evaluate(obs, epsilon=0.0, generator=generator) for _ in range(2)]
    assert (greedy[0] == greedy[1]).all()
    assert (greedy[0] == agent.network(torch.from_numpy(obs)).argmax(-1).numpy()).all()


def test_target_and_choice_have_noise_of_their_own(monkeypatch):
    """Three draws for an update: the target network's, the choosing one's, and the trained one's in the loss."""
    drawn: list[tuple[nn.Module, torch.Tensor]] = []

    def recorded(module: nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
        noise = draw_noise(module, generator)
        drawn.append((module, noise["head.value.linear.noise_in"]))
        return noise

    monkeypatch.setattr("stablegrad.agents.rainbow.draw_noise", recorded)
    agent = build("rainbow", {**NOW, "n_step": 1})
    (batch,) = play(agent, Stream(), 1)
    agent.loss(parameters(agent), batch, torch.Generator().manual_seed(3))
    acting, valuing, choosing, training = drawn
    assert [module is agent.target for module, _ in drawn] == [False, True, False, False]
    noises = [noise for _, noise in (acting, valuing, choosing, training)]
    assert all(not torch.equal(a, b) for i, a in enumerate(noises) for b in noises[:i])


class Logits(nn.Module):
    """A network whose distributions do not depend on the observation: logits [A, atoms]."""

    def __init__(self, atoms: torch.Tensor, logits: torch.Tensor) -> None:
        super().__init__()
        self.atoms, self.logits = atoms, nn.Parameter(logits)

    def forward(self, obs: torch.Tensor, *, whole: bool = False):
        outputs = self.logits.expand(len(obs), -1, -1)
        return (outputs, obs) if whole else self.values(outputs)

    def values(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.softmax(-1) @ self.atoms


@pytest.mark.parametrize(("double", "expected"), [(False, [0.0, 0.5, 0.5]), (True, [0.5, 0.5, 0.0])])
def test_distributions_of_the_chosen_action_are_shifted_shrunk_and_projected(double, expected):
    """Atoms -1, 0, 1. The target network's first action is certain of 1 and its second of -1; R = 0, discount 1/2."""
    agent = build("rainbow", {"double": double, "n_atoms": 3, "v_min": -1.0, "v_max": 1.0})
    atoms, sure = torch.tensor([-1.0, 0.0, 1.0]), 1e4
    agent.target = Logits(atoms, torch.tensor([[0.0, 0.0, sure], [sure, 0.0, 0.0]]))
    agent.network = Logits(atoms, torch.tensor([[sure, 0.0, 0.0], [0.0, 0.0, sure]]))
    data = {"rewards": torch.zeros(1), "discounts": torch.full((1,), 0.5), "next_obs": torch.zeros(1, 3)}
    assert agent._targets(data)[0].tolist() == pytest.approx(expected)
    ended = {**data, "rewards": torch.ones(1), "discounts": torch.zeros(1)}
    assert agent._targets(ended)[0].tolist() == [0.0, 0.0, 1.0]


def test_loss_weights_and_priorities_by_hand():
    agent = build("rainbow", {"n_atoms": 2, "v_min": 0.0, "v_max": 1.0})
    agent.network = Logits(torch.tensor([0.0, 1.0]), torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5]])))
    targets = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    batch = {
        "obs": torch.zeros(2, 3), "actions": torch.tensor([0, 1]), "targets": targets,
        "weights": torch.tensor([0.5, 1.0]),
    }  # fmt: skip
    output = agent.loss({"q": dict(agent.network.named_parameters())}, batch, torch.Generator())
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert output.loss.item() == pytest.approx((0.5 * entropy + np.log(2)) / 2, rel=1e-6)
    # What is left to learn: nothing where the prediction is the target, log 2 where it is a coin.
    assert output.extras["errors"].tolist() == pytest.approx([0.0, np.log(2)], abs=1e-6)


def test_priorities_follow_the_errors_of_the_update():
    agent, stream = build("rainbow", {**NOW, "prioritized_replay_alpha": 1.0}), Stream()
    learn(agent, stream, 8)
    errors = torch.linspace(1, 8, 8)
    batch = {"slots": torch.arange(8)}
    agent.after_update(type("Output", (), {"extras": {"errors": errors}}), batch)
    probabilities = agent.experience.priorities.probabilities(np.arange(8))
    assert probabilities / probabilities[0] == pytest.approx(np.arange(1, 9), rel=1e-4)
    assert agent.metrics()["replay/max_priority"] == pytest.approx(8.0, rel=1e-5)


def test_beta_reaches_one_at_the_end():
    agent = build("rainbow", {"prioritized_replay_beta": 0.4}, total_steps=1000)
    assert agent.beta == 0.4
    agent.steps = 500
    assert agent.beta == pytest.approx(0.7)
    agent.steps = 1000
    assert agent.beta == 1.0


def test_epsilon_explores_where_noise_does_not():
    assert build("rainbow").epsilon == 0.0
    assert build("rainbow", {"noisy": "off"}).epsilon == 1.0


def test_the_published_defaults_with_the_adam_eps_of_the_original_and_the_third_for_kron():
    flat = RunConfig.resolve("rainbow", {}).flat()
    expected = {
        "total_timesteps": 10_000_000, "num_envs": 1, "learning_rate": 6.25e-5, "optimizer": "adam",
        "optimizer_eps": 1.5e-4, "buffer_size": 1_000_000, "batch_size": 32, "learning_starts": 80_000,
        "train_frequency": 4, "target_network_frequency": 8000, "n_step": 3, "prioritized_replay_alpha": 0.5,
        "prioritized_replay_beta": 0.4, "prioritized_replay_eps": 1e-6, "n_atoms": 51, "v_min": -10.0, "v_max": 10.0,
        "noisy": "all", "use_ln": False, "protocol": "cleanrl",
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected
    kron = RunConfig.resolve("rainbow", {"optimizer": "kron"}).optimizer
    assert kron.learning_rate == pytest.approx(6.25e-5 / 3)
    faithful = RunConfig.resolve("rainbow", {"optimizer": "kron", "faithful": True}).optimizer
    assert (faithful.learning_rate, faithful.conv_view) == (6.25e-5, "published")
    assert RunConfig.resolve("rainbow", {"faithful": True}).optimizer.optimizer_eps == 1e-8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distributional": False, "n_atoms": 21}, "--n_atoms has no effect without --distributional"),
        ({"prioritized": False, "prioritized_replay_alpha": 0.6}, "has no effect without --prioritized"),
        ({"start_e": 0.5}, "--start_e has no effect without --noisy off"),
        ({"v_min": 10.0}, "--v_min below --v_max"),
        ({"noisy": "trunk"}, "must be one of all, head, off"),
        ({"use_spectral_norm": True}, "--use_spectral_norm divides plain weights"),
    ],
)
def test_settings_that_cannot_apply_are_errors(settings, message):
    with pytest.raises(UserError, match=message):
        RunConfig.resolve("rainbow", settings)
