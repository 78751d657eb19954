"""A small soft actor-critic with three parameter groups, the critic first, and a policy that is delayed.

Haarnoja et al. 2018 (arXiv:1812.05905), without its reparametrised bounds: actions lie between -1 and 1. It is there to
hold the house to its promise that any number of groups in any order trains, and that an update may leave groups out.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from stablegrad.agents.base import Agent, LossOutput
from stablegrad.agents.replayed import Experience, follow_
from stablegrad.nn.init import drawing_from
from stablegrad.settings import setting

WIDTH = 16


@dataclass(frozen=True, kw_only=True)
class Config:
    buffer_size: int = setting(400, "transitions that the replay holds")
    batch_size: int = setting(16, "transitions an update learns from")
    learning_starts: int = setting(20, "steps before the first update")
    policy_delay: int = setting(2, "updates of the critic for each of the policy")
    gamma: float = setting(0.99, "discount factor")
    tau: float = setting(0.1, "share of the critic that its target takes over after each update")


def mlp(inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    with drawing_from(generator):
        return nn.Sequential(
            nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs)
        )


class Critic(nn.Module):
    """Two values [N, 1] each of observations and actions."""

    def __init__(self, observation, action, generator):
        super().__init__()
        self.one, self.two = (mlp(observation + action, 1, generator) for _ in range(2))

    def forward(self, obs, actions):
        both = torch.cat([obs, actions], dim=1)
        return self.one(both), self.two(both)


class Actor(nn.Module):
    """Mean and log standard deviation [N, A] of the policy before the tanh."""

    def __init__(self, observation, action, generator):
        super().__init__()
        self.net = mlp(observation, 2 * action, generator)

    def forward(self, obs):
        mean, log_std = self.net(obs).chunk(2, dim=1)
        return mean, log_std.clamp(-5, 2)


class Temperature(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(()))


def squashed(mean, log_std, noise):
    """Actions [N, A] and the logarithm of their density [N]."""
    raw = mean + log_std.exp() * noise
    normal = -0.5 * noise.square() - log_std - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    slope = 2 * (torch.log(torch.tensor(2.0)) - raw - functional.softplus(-2 * raw))
    return raw.tanh(), (normal - slope).sum(1)


class SoftActorCritic(Agent):
    Config = Config
    defaults = {"num_envs": 2, "learning_rate": 3e-3, "optimizer": "adam", "max_grad_norm": 10.0}  # noqa: RUF012
    order = ("critic", "actor", "temperature")

    def __init__(self, config, setup):
        self.config, self.setup = config, setup
        init, noise, sample = setup.seeds(3)
        observation, action = setup.observation_space.shape[0], setup.action_space.shape[0]
        generator = torch.Generator().manual_seed(init)
        self.critic, self.actor = Critic(observation, action, generator), Actor(observation, action, generator)
        self.temperature = Temperature()
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.groups = {name: getattr(self, name) for name in self.order}
        self.experience = Experience(
            setup, capacity=config.buffer_size, gamma=config.gamma, share_frames=False, seed=sample
        )
        self.noise = torch.Generator().manual_seed(noise)
        self.steps = self.made = 0

    def act(self, obs):
        self.experience.begin(obs)
        self.actions = self._draw(torch.as_tensor(obs), self.noise)[0].numpy()
        return self.actions

    def evaluate(self, obs, *, epsilon, generator):
        with torch.no_grad():
            return self.actor(torch.as_tensor(obs))[0].tanh().numpy()

    def observe(self, step):
        self.experience.add(self.actions, step)
        self.steps += self.setup.num_envs

    @torch.no_grad()
    def _draw(self, obs, generator):
        mean, log_std = self.actor(obs)
        return squashed(mean, log_std, torch.randn(mean.shape, generator=generator))

    def batches(self):
        if self.steps > self.config.learning_starts:
            self.made += 1
            yield self._batch(self.experience.sample(self.config.batch_size), self.noise, self.made)

    def probe_batch(self, rows):
        peeked = self.experience.peek(rows, seed=self.steps)
        return self._batch(peeked, torch.Generator().manual_seed(self.steps), 0)

    @torch.no_grad()
    def _batch(self, data, generator, number):
        """With the targets [N], the noise of the policy's actions [N, A], and whether the policy learns from it [N]."""
        actions, log_prob = self._draw(data["next_obs"], generator)
        value = torch.minimum(*self.target(data["next_obs"], actions)).squeeze(1)
        soft = value - self.temperature.log_alpha.exp() * log_prob
        noise = torch.randn(data["actions"].shape, generator=generator)
        due = torch.full((len(noise),), number % self.config.policy_delay == 0)
        return {**data, "targets": data["rewards"] + data["discounts"] * soft, "noise": noise, "policy": due}

    def loss(self, params, batch, generator):
        values = functional_call(self.critic, dict(params["critic"]), (batch["obs"], batch["actions"]))
        loss = sum(0.5 * (value.squeeze(1) - batch["targets"]).square().mean() for value in values)
        if bool(batch["policy"].any()):
            mean, log_std = functional_call(self.actor, dict(params["actor"]), (batch["obs"],))
            actions, log_prob = squashed(mean, log_std, batch["noise"])
            fixed = {name: value.detach() for name, value in params["critic"].items()}
            judged = torch.minimum(*functional_call(self.critic, fixed, (batch["obs"], actions))).squeeze(1)
            log_alpha = params["temperature"]["log_alpha"]
            loss = loss + (log_alpha.exp().detach() * log_prob - judged).mean()
            loss = loss - (log_alpha * (log_prob.detach() - actions.shape[1])).mean()
        return LossOutput(loss, torch.cat(values, dim=1), {"losses/q_values": values[0].mean().detach()})

    def after_update(self, output, batch):
        follow_(self.target, self.critic, self.config.tau)

    def probe_inputs(self, group, batch):
        return {"critic": (batch["obs"], batch["actions"]), "actor": batch["obs"]}.get(group)

    def learning_rate_factor(self, group):
        return {"critic": 1.0, "actor": 0.5, "temperature": 0.1}[group]

    def state_dict(self):
        networks = {name: getattr(self, name).state_dict() for name in (*self.order, "target")}
        own = {"experience": self.experience.state_dict(), "noise": self.noise.get_state()}
        return {**networks, **own, "steps": self.steps, "made": self.made}

    def load_state_dict(self, state):
        for name in (*self.order, "target"):
            getattr(self, name).load_state_dict(state[name])
        self.experience.load_state_dict(state["experience"])
        self.noise.set_state(state["noise"])
        self.steps, self.made = state["steps"], state["made"]


class ActorFirst(SoftActorCritic):
    order = ("temperature", "actor", "critic")


class SaysNothingOfItsCritic(SoftActorCritic):
    """The critic takes actions too, and probes are not told."""

    def probe_inputs(self, group, batch):
        return Agent.probe_inputs(self, group, batch)


class NeverLearnsThePolicy(SoftActorCritic):
    def _batch(self, data, generator, number):
        return super()._batch(data, generator, 1)


class OptimizersOfTheirOwn(SoftActorCritic):
    """The temperature is moved by plain gradient descent, and its gradient is not clipped."""

    def optimizer_settings(self, group):
        if group != "temperature":
            return {}
        return {"optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": None, "lr_scale": 1.0}
