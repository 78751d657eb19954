"""PPO: proximal policy optimisation with clipped surrogate and value losses.

Schulman et al. 2017 (arXiv:1707.06347), with generalised advantage estimation (Schulman et al. 2016,
arXiv:1506.02438). Actor and critic share encoder and trunk where actions are discrete and have one each where they
are continuous. Defaults: Castanyer et al. 2025 (arXiv:2506.15544), table 5, with Adam; the published code used RAdam.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call

from stablegrad.agents.actor_critic import ActorCritic, choice_sizes, entropy, log_prob, policy_size
from stablegrad.agents.base import (
    Agent,
    AgentSetup,
    Batch,
    Footprint,
    LossOutput,
    Params,
    fractions,
    outputs_for,
    positive,
    rollout_remarks,
)
from stablegrad.agents.normalization import RewardNormalizer, normalizable, normalizer_of
from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.replay.rollout import Rollout, rollout_bytes
from stablegrad.rl import losses, returns, schedules
from stablegrad.settings import setting


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """PPO's own hyper-parameters."""

    num_steps: int = setting(128, "steps of each environment in a rollout; a run learns from whole ones")
    num_minibatches: int = setting(4, "minibatches an epoch: num_envs * num_steps must be a multiple of it")
    update_epochs: int = setting(4, "epochs over a rollout")
    gamma: float = setting(0.99, "discount factor")
    gae_lambda: float = setting(0.95, "lambda of generalised advantage estimation")
    norm_adv: bool = setting(True, "normalise advantages over each minibatch")
    clip_coef: float = setting(0.1, "clip of the policy's ratio, and of the value with --clip_vloss")
    clip_vloss: bool = setting(True, "clip the value loss")
    ent_coef: float = setting(0.01, "weight of the entropy bonus")
    vf_coef: float = setting(0.5, "weight of the value loss")
    target_kl: float | None = setting(
        None,
        "end the whole update after the first minibatch that finds the policy this far from the rollout's, in nats",
    )
    anneal_lr: bool = setting(True, "let the learning rate fall to zero over the run")
    shared_trunk: bool | None = setting(None, "one trunk for actor and critic (none: if actions are discrete)")
    normalize_obs: bool | None = setting(
        None, "running normalisation of observations (none: if actions are continuous, images excepted)"
    )
    normalize_reward: bool | None = setting(None, "running normalisation of rewards (none: if actions are continuous)")
    bootstrap_truncated: bool = setting(True, "bootstrap where a time limit cut the game (published: false)")

    def __post_init__(self) -> None:
        problems = positive(self, "num_steps", "num_minibatches", "update_epochs")
        problems += fractions(self, "gamma", "gae_lambda")
        for name in ("clip_coef", "target_kl"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                problems.append(f"--{name} {value}: must be positive")
        if problems:
            raise UserError(problems)


class PPO(Agent):
    """One actor-critic network, its rollout, and two generators: one acts, one shuffles minibatches."""

    Config = PPOConfig
    defaults: ClassVar = {
        "env_id": "Breakout-v5",
        "num_envs": 8,
        "learning_rate": 2.5e-4,
        "optimizer": "adam",
        "optimizer_eps": 1e-5,
        "max_grad_norm": 0.5,
        "use_ln": False,
    }
    published_behaviour: ClassVar = {
        "optimizer": "radam",
        "optimizer_eps": 1e-5,
        "bootstrap_truncated": False,
        "scores_run_on": True,
        "conv_view": "published",
        "matmul_precision": "high",
    }

    @classmethod
    def check(cls, **sections: Any) -> list[str]:
        config, rows = sections["agent"], sections["budget"].num_envs * sections["agent"].num_steps
        if rows % config.num_minibatches:
            return [f"num_envs * num_steps = {rows} rows cannot be cut into --num_minibatches {config.num_minibatches}"]
        if config.norm_adv and rows == config.num_minibatches:
            return [f"--norm_adv needs two rows in a minibatch: {rows} rows in as many minibatches have one each"]
        return []

    @classmethod
    def remarks(cls, **sections: Any) -> list[str]:
        budget = sections["budget"]
        return rollout_remarks(budget.total_timesteps, num_envs=budget.num_envs, num_steps=sections["agent"].num_steps)

    @classmethod
    def footprint(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **sections: Any
    ) -> Footprint:
        num_steps, num_envs = sections["agent"].num_steps, sections["budget"].num_envs
        return Footprint(
            outputs=outputs_for(action_space),
            experience=rollout_bytes(observation_space, num_steps=num_steps, num_envs=num_envs),
            grows_with=("num_envs", "num_steps"),
        )

    def __init__(self, config: PPOConfig, setup: AgentSetup) -> None:
        self.config, self.setup = config, setup
        self._box = setup.action_space if isinstance(setup.action_space, spaces.Box) else None
        self.gaussian = self._box is not None
        n_actions = policy_size(setup.action_space)
        images = not normalizable(setup.observation_space)
        if config.normalize_obs and images:
            raise UserError("--normalize_obs true: the network divides images by 255 already, so leave it out")
        init, act, shuffle = setup.seeds(3)
        self.network = ActorCritic(
            setup.network,
            setup.observation_space,
            n_actions,
            shared=_default(config.shared_trunk, not self.gaussian),
            gaussian=self.gaussian,
            action_sizes=choice_sizes(setup.action_space),
            generator=torch.Generator().manual_seed(init),
        ).to(setup.device)
        self.groups = {"actor_critic": self.network}
        self._acting = torch.Generator(device=setup.device).manual_seed(act)
        self._shuffle = torch.Generator().manual_seed(shuffle)
        self._rollout = Rollout(config.num_steps, setup.num_envs, device=setup.device)
        self._observations = self._rewards = None
        if _default(config.normalize_obs, self.gaussian and not images):
            self._observations = normalizer_of(setup.observation_space)
        if _default(config.normalize_reward, self.gaussian):
            self._rewards = RewardNormalizer(setup.num_envs, config.gamma)
        self.steps = 0
        self._stopped = False

    @property
    def boundary(self) -> bool:
        return self._rollout.filled == 0

    def act(self, obs: np.ndarray) -> np.ndarray:
        self._obs = self._tensor(obs, update=True)
        with torch.no_grad():
            policy, self._values, _ = self.network(self._obs)
            self._actions = self.network.sample(policy, self._acting)
            self._log_probs = log_prob(policy, self.network.log_std, self._actions, self.network.action_sizes)
        return self._to_env(self._actions)

    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        """The policy itself (sampled, as in training) where actions are discrete; its mean where they are not.

        With probability `epsilon` a discrete action is uniform instead.
        """
        with torch.no_grad():
            policy, _, _ = self.network(self._tensor(obs, update=False))
        if self.gaussian:
            return self._to_env(policy)
        actions = self.network.sample(policy, generator)
        return self._to_env(self.network.sometimes_uniform(actions, epsilon, generator))

    @torch.no_grad()
    def likeliest(self, obs: np.ndarray, *, generator: torch.Generator) -> np.ndarray:
        """The most probable choice; the mean where actions are continuous."""
        return self._to_env(self.network.mode(self.network(self._tensor(obs, update=False))[0]))

    @torch.no_grad()
    def drawn(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        """Drawn from the policy, continuous actions too, as in training; `epsilon` is for greedy policies."""
        return self._to_env(self.network.sample(self.network(self._tensor(obs, update=False))[0], generator))

    def observe(self, step: StepBatch) -> None:
        """A life lost is an end for the targets where the protocol says so; the game plays on."""
        ended_for_good = step.terminated | (step.life_lost & self.setup.life_loss_ends)
        if not self.config.bootstrap_truncated:
            ended_for_good |= step.truncated
        rewards = self.setup.learning_reward(step.reward)
        if self._rewards is not None:
            rewards = self._rewards(rewards, step.ended)
        self._rollout.add(
            obs=self._obs,
            actions=self._actions,
            log_probs=self._log_probs,
            values=self._values,
            rewards=rewards,
            discounts=self.config.gamma * (~ended_for_good).astype(np.float32),
            cut=step.ended | ended_for_good,
            final_values=self._final_values(step),
            chosen=step.chosen,
        )
        self._next_obs = step.obs
        self.steps += self.setup.num_envs

    def _final_values(self, step: StepBatch) -> Tensor:
        """V of the true last observation where a game was cut by a time limit, [B]; 0 elsewhere."""
        values = torch.zeros(self.setup.num_envs, device=self.setup.device)
        if step.truncated.any():
            with torch.no_grad():
                _, final, _ = self.network(self._tensor(step.final_obs, update=False))
            values[torch.from_numpy(step.ended)] = final
        return values

    def batches(self) -> Iterator[Batch]:
        if not self._rollout.full:
            return
        data = self._rollout
        with torch.no_grad():
            _, last, _ = self.network(self._tensor(self._next_obs, update=False))
        # Within a rollout the network stands still: the value of the state after step t is the one seen at t + 1.
        successors = returns.successor_values(data["values"], last, data["cut"], data["final_values"])
        advantages = returns.gae(
            data["rewards"], data["discounts"], data["values"], successors, self.config.gae_lambda, cut=data["cut"]
        )
        self._stopped = False
        for batch in data.minibatches(
            count=self.config.num_minibatches,
            epochs=self.config.update_epochs,
            generator=self._shuffle,
            where=data["chosen"],
            advantages=advantages,
            returns=advantages + data["values"],
        ):
            if self._stopped:
                break
            yield batch
        self._rollout.clear()

    def loss(self, params: Params, batch: Batch, generator: torch.Generator) -> LossOutput:
        c = self.config
        named = dict(params["actor_critic"])
        policy, values, features = functional_call(self.network, named, (batch["obs"],))
        sizes = self.network.action_sizes
        log_ratio = log_prob(policy, named.get("log_std"), batch["actions"], sizes) - batch["log_probs"]
        advantages = losses.normalized(batch["advantages"]) if c.norm_adv else batch["advantages"]
        policy_loss = losses.clipped_surrogate(log_ratio, advantages, c.clip_coef).mean()
        clip = c.clip_coef if c.clip_vloss else math.inf
        value_loss = losses.clipped_value_loss(values, batch["values"], batch["returns"], clip).mean()
        bonus = entropy(policy, named.get("log_std"), sizes).mean()
        loss = policy_loss + c.vf_coef * value_loss - c.ent_coef * bonus
        metrics = {
            "losses/policy_loss": policy_loss,
            "losses/value_loss": value_loss,
            "losses/entropy": bonus,
            "losses/approx_kl": losses.approx_kl(log_ratio),
            "losses/clip_fraction": losses.clip_fraction(log_ratio, c.clip_coef),
            "losses/explained_variance": losses.explained_variance(batch["values"], batch["returns"]),
            "losses/values": values.mean(),
        }
        return LossOutput(loss, features, {name: value.detach() for name, value in metrics.items()})

    def after_update(self, output: LossOutput, batch: Batch) -> None:
        """`target_kl` ends the whole update, the epochs that remain included.

        It is held against every minibatch's own estimate, taken before its step. The published script looks as often
        but ends only the epoch; CleanRL looks at the last minibatch of every epoch; Stable-Baselines3 leaves out the
        step of a minibatch whose estimate exceeds 1.5 times the target.
        """
        if self.config.target_kl is not None and float(output.metrics["losses/approx_kl"]) > self.config.target_kl:
            self._stopped = True

    def learning_rate_factor(self, group: str) -> float:
        """Annealed from rollout to rollout, as published: the first one has the full rate."""
        if not self.config.anneal_lr:
            return 1.0
        done = max(0, self.steps - self.setup.num_envs * self.config.num_steps)
        return schedules.linear(done, start=1.0, end=0.0, duration=self.setup.total_steps)

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "rollout": self._rollout.state_dict(),
            "acting": self._acting.get_state(),
            "shuffle": self._shuffle.get_state(),
            "steps": self.steps,
            "observations": None if self._observations is None else self._observations.moments.state_dict(),
            "rewards": None if self._rewards is None else self._rewards.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._rollout.load_state_dict(state["rollout"], chosen=torch.ones(self.setup.num_envs, dtype=torch.bool))
        self._acting.set_state(state["acting"])
        self._shuffle.set_state(state["shuffle"])
        self.steps = state["steps"]
        observations = None if self._observations is None else self._observations.moments
        for name, statistics in (("observations", observations), ("rewards", self._rewards)):
            if statistics is None:
                continue
            if state[name] is None:
                raise ValueError(f"there are no statistics to normalise {name} with")
            statistics.load_state_dict(state[name])

    def _tensor(self, obs: np.ndarray, *, update: bool) -> Tensor:
        if self._observations is not None:
            obs = self._observations(obs, update=update)
        return torch.as_tensor(obs, device=self.setup.device)

    def _to_env(self, actions: Tensor) -> np.ndarray:
        """Continuous actions are clipped to the space on their way out; the rollout keeps them as drawn."""
        array = actions.cpu().numpy().reshape(-1, *(self.setup.action_space.shape or ()))
        return array if self._box is None else np.clip(array, self._box.low, self._box.high)


def _default(value: bool | None, otherwise: bool) -> bool:
    return otherwise if value is None else value
