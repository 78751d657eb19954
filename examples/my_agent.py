"""Double Q-learning from the newest steps, with a target network: an agent of your own, whole, in eighty lines.

    stablegrad train examples/my_agent.py:MyAgent --env_id CartPole-v1 --total_timesteps 100000
    stablegrad check examples/my_agent.py:MyAgent

docs/your_own_agent.md says what each part of it is for.
"""

import copy
from dataclasses import dataclass

import torch
from torch.func import functional_call

from stablegrad.agents.base import Agent, LossOutput
from stablegrad.nn import build_network
from stablegrad.replay.rollout import Rollout
from stablegrad.rl import exploration, losses
from stablegrad.settings import setting


@dataclass(frozen=True, kw_only=True)
class Config:
    gamma: float = setting(0.99, "discount factor")
    epsilon: float = setting(0.1, "exploration epsilon")
    num_steps: int = setting(8, "steps of each environment between updates")
    tau: float = setting(0.02, "share of the network that its target takes over after each update")


class MyAgent(Agent):
    Config = Config
    defaults = {"num_envs": 16, "learning_rate": 5e-4, "optimizer": "adam", "max_grad_norm": 10.0}  # noqa: RUF012

    def __init__(self, config, setup):
        self.config, self.setup = config, setup
        init, explore = (torch.Generator().manual_seed(seed) for seed in setup.seeds(2))
        actions = int(setup.action_space.n)
        self.network = build_network(setup.network, setup.observation_space, actions, generator=init).to(setup.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.groups = {"q": self.network}  # each group gets an optimizer
        self.explore = explore
        self.rollout = Rollout(config.num_steps, setup.num_envs, device=setup.device)

    @torch.no_grad()
    def act(self, obs):
        self.obs = torch.as_tensor(obs, device=self.setup.device)
        actions = exploration.epsilon_greedy(self.network(self.obs), self.config.epsilon, self.explore)
        self.actions = actions.cpu().numpy()
        return self.actions

    @torch.no_grad()
    def evaluate(self, obs, *, epsilon, generator):
        values = self.network(torch.as_tensor(obs, device=self.setup.device))
        return exploration.epsilon_greedy(values, epsilon, generator).cpu().numpy()

    def observe(self, step):
        """`next_obs` is the true successor, also where a time limit cut the episode; `executed`, what was played."""
        gone_on = ~(step.terminated | (step.life_lost & self.setup.life_loss_ends))
        self.rollout.add(
            obs=self.obs,
            actions=step.executed(self.actions),
            rewards=self.setup.learning_reward(step.reward),
            discounts=(self.config.gamma * gone_on).astype("float32"),
            next_obs=step.next_obs,
        )

    def batches(self):
        if not self.rollout.full:
            return
        batch = next(self.rollout.minibatches(count=1, epochs=1, generator=self.explore))
        with torch.no_grad():
            following = self.target(batch["next_obs"]), self.network(batch["next_obs"])
        yield {**batch, "targets": losses.q_targets(batch["rewards"], batch["discounts"], *following)}
        self.rollout.clear()

    def loss(self, params, batch, generator):
        """Pure: the network is called with the parameters it is given, and nothing is changed."""
        q, features = functional_call(self.network, dict(params["q"]), (batch["obs"],), {"with_features": True})
        chosen = losses.action_values(q, batch["actions"])
        loss = losses.regression(chosen, batch["targets"], "huber").mean()
        return LossOutput(loss, features, {"losses/q_values": chosen.mean().detach()})

    def after_update(self, output, batch):
        with torch.no_grad():
            for kept, current in zip(self.target.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(current, self.config.tau)

    def state_dict(self):
        parts = {"network": self.network, "target": self.target, "rollout": self.rollout}
        return {"explore": self.explore.get_state(), **{name: part.state_dict() for name, part in parts.items()}}

    def load_state_dict(self, state):
        self.explore.set_state(state["explore"])
        for name, part in {"network": self.network, "target": self.target, "rollout": self.rollout}.items():
            part.load_state_dict(state[name])
