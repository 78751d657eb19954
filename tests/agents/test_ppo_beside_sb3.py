"""A rollout of Stable-Baselines3's continuous PPO, read by ours: normalisation, advantages, loss and gradient agree."""

import gymnasium
import numpy as np
import pytest
import torch
from torch.nn import functional

from stablegrad.agents.normalization import ObservationNormalizer, RewardNormalizer
from stablegrad.api import resolve
from stablegrad.envs import make
from stablegrad.rl import returns
from stablegrad.training.loop import build_agent

sb3 = pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3")

STEPS = 450  # Pendulum's games have 200: two time-outs on the way
SETTLED = 100  # theirs starts from a variance of 1 that counts as a ten-thousandth of a row, ours from none
SETTINGS = {
    "algo": "ppo", "env_id": "Pendulum-v1", "num_envs": 1, "num_steps": STEPS, "num_minibatches": 10,
    "total_timesteps": STEPS, "clip_coef": 0.2, "clip_vloss": False, "ent_coef": 0.0, "vf_coef": 0.5,
    "mlp_depth": "published", "shared_trunk": False, "activation_fn": "tanh", "threads": 1,
}  # fmt: skip


class Seen(gymnasium.Wrapper):
    """Keeps what the environment gave, before anything is normalised."""

    def __init__(self, env):
        super().__init__(env)
        self.obs, self.rewards, self.cut = [], [], []

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        self.obs.append(obs)
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.rewards.append(reward)
        self.cut.append(terminated or truncated)
        if not self.cut[-1]:
            self.obs.append(obs)  # behind a cut comes the next game's first one
        return obs, reward, terminated, truncated, info


@pytest.fixture
def rollout():
    """Their model behind its first rollout, ours with its weights, and what the environment gave."""
    from stable_baselines3.common.callbacks import CallbackList
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    seen = Seen(gymnasium.make("Pendulum-v1"))
    theirs = sb3.PPO(
        "MlpPolicy", VecNormalize(DummyVecEnv([lambda: seen]), gamma=0.99), n_steps=STEPS, batch_size=45, seed=3,
        policy_kwargs={"net_arch": {"pi": [512], "vf": [512]}, "activation_fn": torch.nn.Tanh}, device="cpu",
    )  # fmt: skip
    config = resolve(SETTINGS)
    envs = make(config.env, num_envs=1, seed=1)
    ours = build_agent(config, envs)
    envs.close()
    with torch.no_grad():
        for mine, other in pairs(ours.network, theirs.policy):
            mine.copy_(other)
    _, callback = theirs._setup_learn(STEPS, CallbackList([]))
    theirs.collect_rollouts(theirs.env, callback, theirs.rollout_buffer, n_rollout_steps=STEPS)
    return theirs, ours, seen


def pairs(network, policy):
    """Our parameters and theirs."""
    modules = [
        (network.torso, policy.mlp_extractor.policy_net), (network.critic_torso, policy.mlp_extractor.value_net),
        (network.actor, policy.action_net), (network.critic, policy.value_net),
    ]  # fmt: skip
    layers = [pair for mine, other in modules for pair in zip(mine.parameters(), other.parameters(), strict=True)]
    return [*layers, (network.log_std, policy.log_std)]


def test_observations_and_rewards_are_normalised_alike(rollout):
    theirs, _, seen = rollout
    buffer, observations, rewards = theirs.rollout_buffer, ObservationNormalizer((3,)), RewardNormalizer(1, 0.99)
    mine = np.concatenate([observations(obs[None], update=True) for obs in seen.obs])[:STEPS]
    assert mine[SETTLED:] == pytest.approx(buffer.observations[SETTLED:, 0], abs=1e-3)
    assert np.abs(mine - np.array(seen.obs)[:STEPS])[SETTLED:].max() > 0.1
    scaled = np.concatenate(
        [rewards(np.array([r]), np.array([cut])) for r, cut in zip(seen.rewards, seen.cut, strict=True)]
    )
    inside = ~np.array(seen.cut)  # at a time-out theirs adds the bootstrap value to the reward
    inside[:SETTLED] = False
    assert scaled[inside] == pytest.approx(buffer.rewards[inside, 0], abs=1e-5)


def test_advantages_are_the_same_across_time_outs(rollout):
    theirs, _, seen = rollout
    buffer, cut = theirs.rollout_buffer, torch.tensor(seen.cut)[:, None]
    assert cut.nonzero()[:, 0].tolist() == [199, 399]
    values, rewards = torch.as_tensor(buffer.values), torch.as_tensor(buffer.rewards)
    with torch.no_grad():
        last = theirs.policy.predict_values(torch.as_tensor(theirs._last_obs))[:, 0]
    # Their rewards at a cut hold the bootstrap already, so ours is told that nothing follows there.
    discounts = torch.where(cut, 0.0, torch.tensor(0.99)).expand(STEPS, 1)
    successors = returns.successor_values(values, last, cut, torch.zeros(STEPS, 1))
    advantages = returns.gae(rewards, discounts, values, successors, 0.95, cut=cut)
    assert advantages.numpy() == pytest.approx(buffer.advantages, abs=1e-5)
    uncut = returns.gae(rewards, torch.full((STEPS, 1), 0.99), values, successors, 0.95)
    assert np.abs(uncut.numpy() - buffer.advantages).max() > 0.01


@pytest.mark.parametrize(("weight", "same"), [(0.25, True), (0.5, False)])
def test_loss_and_gradient_are_the_same(rollout, weight, same):
    """Behind a change of the weights, so that ratios are not 1. Our value loss has a ½ that theirs has not."""
    theirs, ours, _ = rollout
    buffer, policy = theirs.rollout_buffer, theirs.policy
    rows = np.random.default_rng(0).permutation(STEPS)[:64]
    names = {"obs": "observations", "actions": "actions", "log_probs": "log_probs", "values": "values",
             "advantages": "advantages", "returns": "returns"}  # fmt: skip
    batch = {name: torch.as_tensor(getattr(buffer, their)[rows, 0]) for name, their in names.items()}
    with torch.no_grad():
        for mine, other in pairs(ours.network, policy):
            other.add_(0.01 * torch.randn(other.shape, generator=torch.Generator().manual_seed(0)))
            mine.copy_(other)
    values, log_probs, _ = policy.evaluate_actions(batch["obs"], batch["actions"])
    ratio, advantages = (log_probs - batch["log_probs"]).exp(), batch["advantages"]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    policy.zero_grad()
    (weight * functional.mse_loss(batch["returns"], values.flatten()) - surrogate).backward()
    assert ratio.std() > 0.01

    ours.network.zero_grad()
    ours.loss({"actor_critic": dict(ours.network.named_parameters())}, batch, torch.Generator()).loss.backward()
    largest = max((mine.grad - other.grad).abs().max() for mine, other in pairs(ours.network, policy))
    assert (largest < 1e-6) == same
