"""PPO: the ratio, `target_kl`, time-outs, and the normalisation of continuous control."""

import copy

import numpy as np
import pytest
import torch
from agent_setups import Stream, build, parameters
from gymnasium import spaces

from stablegrad.agents.actor_critic import log_prob
from stablegrad.errors import UserError
from stablegrad.runs.config import OptimizerSpec, RunConfig
from stablegrad.training.learner import Learner
from stablegrad.training.optimizers import build_optimizer

SMALL = {"num_steps": 8, "num_minibatches": 2, "update_epochs": 4, "bootstrap_truncated": True}
BOX = {"action_space": spaces.Box(-2.0, 2.0, (2,), np.float32)}


def rollout(agent, stream: Stream) -> list:
    """Play one rollout; returns its steps."""
    steps = []
    for _ in range(agent.config.num_steps):
        steps.append(stream.step(agent.act(stream.obs)))
        agent.observe(steps[-1])
    return steps


def ratios(agent, batch) -> torch.Tensor:
    with torch.no_grad():
        policy, _, _ = agent.network(batch["obs"])
    return (log_prob(policy, agent.network.log_std, batch["actions"]) - batch["log_probs"]).exp()


@pytest.mark.parametrize("changes", [{}, BOX], ids=["discrete", "continuous"])
def test_the_ratio_is_one_at_the_first_minibatch_and_not_at_the_next(changes):
    agent = build("ppo", SMALL, **changes)
    learner = Learner(agent, OptimizerSpec(learning_rate=0.01), seed=1)
    rollout(agent, Stream())
    batches = agent.batches()
    first = next(batches)
    torch.testing.assert_close(ratios(agent, first), torch.ones(8), rtol=0, atol=1e-5)
    output = agent.loss(learner.params, first, learner.generator)
    assert output.metrics["losses/approx_kl"].abs() < 1e-9
    assert output.metrics["losses/clip_fraction"] == 0
    learner.update(first, step=16)
    assert (ratios(agent, next(batches)) - 1).abs().max() > 1e-3


@pytest.mark.parametrize(("target_kl", "updates"), [(None, 8), (1e6, 8), (1e-6, 2)])
def test_target_kl_ends_the_whole_update_not_one_epoch(target_kl, updates):
    """The first minibatch has not moved yet; the second has. A break of the inner loop alone would give 5 or more."""
    agent = build("ppo", {**SMALL, "target_kl": target_kl})
    learner = Learner(agent, OptimizerSpec(learning_rate=0.01), seed=1)
    stream = Stream()
    for _ in range(2):  # the next rollout learns again
        rollout(agent, stream)
        before = learner.updates
        for batch in agent.batches():
            agent.after_update(learner.update(batch, step=16).output, batch)
        assert learner.updates - before == updates


@pytest.mark.parametrize("bootstrap_truncated", [True, False])
def test_a_time_out_bootstraps_from_the_value_of_its_last_observation(bootstrap_truncated):
    settings = {**SMALL, "gae_lambda": 0.0, "gamma": 0.9, "update_epochs": 1, "num_minibatches": 1}
    agent = build("ppo", {**settings, "bootstrap_truncated": bootstrap_truncated})
    stream = Stream(truncated=(3,), terminated=(6,))
    first = stream.obs
    steps = rollout(agent, stream)
    (batch,) = agent.batches()

    def value(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return agent.network(torch.from_numpy(obs))[1].numpy()

    seen = [first, *(step.obs for step in steps)]
    for t, step in enumerate(steps):
        successor = value(step.obs)
        if step.truncated.any():
            successor = value(step.final_obs) * bootstrap_truncated  # the fault: a time-out taken for an end
        if step.terminated.any():
            successor = np.zeros(2)
        for env in range(2):
            (row,) = (batch["obs"] == torch.from_numpy(seen[t][env])).all(-1).nonzero()[0].tolist()
            expected = step.reward[env] + 0.9 * successor[env]
            assert batch["returns"][row].item() == pytest.approx(expected, abs=1e-5)


def test_observations_and_rewards_are_normalised_saved_exactly_and_frozen_in_evaluation():
    agent = build("ppo", SMALL, **BOX)
    rollout(agent, Stream())
    saved = copy.deepcopy(agent.state_dict())
    assert saved["observations"]["count"] == 16
    obs = np.full((2, 3), 50.0, np.float32)
    actions = [agent.evaluate(obs, epsilon=0.0, generator=torch.Generator()) for _ in range(2)]
    assert (actions[0] == actions[1]).all()
    assert agent.state_dict()["observations"]["count"] == 16
    assert (agent.state_dict()["observations"]["mean"] == saved["observations"]["mean"]).all()
    restored = build("ppo", SMALL, seed=99, **BOX)
    restored.load_state_dict(saved)
    assert (restored.act(obs) == agent.act(obs)).all()
    assert (restored.state_dict()["observations"]["mean"] == agent.state_dict()["observations"]["mean"]).all()
    assert (restored.state_dict()["observations"]["mean"] != saved["observations"]["mean"]).all()  # acting goes on


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_scaled_once(dtype):
    """Normalised images would be divided by 255 by the network once more."""
    images, control = spaces.Box(0, 255, (4, 36, 36), dtype), spaces.Box(-1, 1, (2,), np.float32)
    with pytest.raises(UserError, match="--normalize_obs true: the network divides images by 255 already"):
        build("ppo", {"normalize_obs": True}, observation_space=images)
    for actions in (spaces.Discrete(3), control):
        agent = build("ppo", observation_space=images, action_space=actions)
        agent.act(np.full((2, 4, 36, 36), 200, dtype))
        assert agent._obs.unique().tolist() == [200]
    planes = spaces.Box(0, 1, (4, 10, 10), np.uint8)  # the control: MinAtar's are not divided, and may be normalised
    agent = build("ppo", {"normalize_obs": True}, observation_space=planes)
    agent.act(np.ones((2, 4, 10, 10), np.uint8))
    assert agent._obs.unique().tolist() == [0]


def test_actor_and_critic_are_apart_where_actions_are_continuous_and_share_elsewhere():
    assert build("ppo", SMALL, **BOX).network.critic_torso is not None
    assert build("ppo", SMALL).network.critic_torso is None
    assert build("ppo", {**SMALL, "shared_trunk": True}, **BOX).network.critic_torso is None


def test_continuous_actions_are_clipped_on_their_way_out_only():
    agent = build("ppo", SMALL, **BOX)
    with torch.no_grad():
        agent.network.log_std += 3
    actions = agent.act(np.zeros((2, 3), np.float32))
    assert (np.abs(actions) <= 2).all()
    assert (agent._actions.abs() > 2).any()


def test_the_learning_rate_falls_from_rollout_to_rollout():
    agent = build("ppo", SMALL, total_steps=64)
    factors = []
    for _ in range(4):
        rollout(agent, Stream())
        factors.append(agent.learning_rate_factor("actor_critic"))
        list(agent.batches())
    assert factors == [1.0, 0.75, 0.5, 0.25]


def test_the_loss_by_hand():
    """One sample: ratio 1.5 clipped to 1.1 with advantage 2; value 3 clipped to 2.1 towards a return of 5."""
    agent = build("ppo", {**SMALL, "norm_adv": False, "clip_coef": 0.1, "vf_coef": 0.5, "ent_coef": 0.01})
    params = {name: torch.zeros_like(p) for name, p in agent.network.named_parameters()}
    params["critic.bias"] = torch.tensor([3.0])
    batch = {
        "obs": torch.zeros(1, 3), "actions": torch.tensor([0]), "log_probs": torch.log(torch.tensor([0.25 / 1.5])),
        "advantages": torch.tensor([2.0]), "values": torch.tensor([2.0]), "returns": torch.tensor([5.0]),
    }  # fmt: skip
    output = agent.loss({"actor_critic": params}, batch, torch.Generator())
    expected = -1.1 * 2 + 0.5 * (0.5 * 2.9**2) - 0.01 * np.log(4)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert parameters(agent)["actor_critic"].keys() == params.keys()


def test_spaces_and_sizes_that_cannot_work_are_named():
    with pytest.raises(UserError, match="ppo needs discrete actions or a box"):
        build("ppo", action_space=spaces.Text(5))
    with pytest.raises(UserError, match="--norm_adv needs two rows"):
        RunConfig.resolve("ppo", {"env_id": "CartPole-v1", "num_envs": 2, "num_steps": 4, "num_minibatches": 8})
    assert RunConfig.resolve("ppo", {"faithful": True, "optimizer": "kron"}).optimizer.optimizer_eps is None


def test_ppo_is_the_original_with_adam():
    flat = RunConfig.resolve("ppo", {}).flat()
    expected = {
        "optimizer": "adam", "optimizer_eps": 1e-5, "learning_rate": 2.5e-4, "anneal_lr": True, "num_envs": 8,
        "num_steps": 128, "num_minibatches": 4, "update_epochs": 4, "gamma": 0.99, "gae_lambda": 0.95,
        "clip_coef": 0.1, "clip_vloss": True, "norm_adv": True, "ent_coef": 0.01, "vf_coef": 0.5,
        "max_grad_norm": 0.5, "target_kl": None, "use_ln": False,
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected
    assert RunConfig.resolve("ppo", {"faithful": True}).optimizer.optimizer == "radam"


@pytest.mark.parametrize(("optimizer", "eps"), [("adam", 1e-5), ("radam", 1e-5), ("adamw", 1e-5), ("kron", None),
                                                ("rmsprop", None)])  # fmt: skip
def test_the_eps_of_ppo_is_meant_for_adam_and_its_kin(optimizer, eps):
    """As published, where RAdam has it too; torch's own default, which it had here, is 1e-8."""
    for faithful in (False, True):
        assert RunConfig.resolve("ppo", {"optimizer": optimizer, "faithful": faithful}).optimizer.optimizer_eps == eps
    spec = RunConfig.resolve("ppo", {"optimizer": optimizer}).optimizer
    used = build_optimizer(torch.nn.Linear(2, 2), spec, seed=1).param_groups[0].get("eps")
    assert used == {"kron": None, "rmsprop": 1e-8}.get(optimizer, 1e-5)
    assert RunConfig.resolve("ppo", {"optimizer": "radam", "optimizer_eps": 1e-8}).optimizer.optimizer_eps == 1e-8
    assert RunConfig.resolve("pqn", {"optimizer": "radam"}).optimizer.optimizer_eps is None  # published: torch's own
