"""PQN: parallelised Q-learning without a replay buffer or a target network.

Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning" (arXiv:2407.04811). Each iteration plays
`num_steps` epsilon-greedy steps in every environment, takes Peng's Q(lambda) targets from the values that the
behaviour network gave on the way, and regresses Q on them for `update_epochs` epochs of `num_minibatches`
minibatches. Defaults: Castanyer et al. 2025 (arXiv:2506.15544), table 4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call

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
from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.nn import build_network
from stablegrad.replay.rollout import Rollout, rollout_bytes
from stablegrad.rl import exploration, losses, returns, schedules
from stablegrad.settings import setting


@dataclass(frozen=True, kw_only=True)
class PQNConfig:
    """PQN's own hyper-parameters."""

    num_steps: int = setting(32, "steps of each environment in a rollout; a run learns from whole ones")
    num_minibatches: int = setting(32, "minibatches an epoch: num_envs * num_steps must be a multiple of it")
    update_epochs: int = setting(2, "epochs over a rollout")
    gamma: float = setting(0.99, "discount factor")
    q_lambda: float = setting(0.65, "lambda of the returns: 0 bootstraps at once, 1 not at all")
    start_e: float = setting(1.0, "exploration epsilon at the start")
    end_e: float = setting(0.005, "exploration epsilon at the end")
    exploration_fraction: float = setting(0.1, "fraction of the run over which epsilon falls")
    anneal_lr: bool = setting(False, "let the learning rate fall to zero over the run")
    bootstrap_truncated: bool = setting(True, "bootstrap where a time limit cut the game (published: false)")

    def __post_init__(self) -> None:
        problems = positive(self, "num_steps", "num_minibatches", "update_epochs")
        problems += fractions(self, "gamma", "q_lambda", "start_e", "end_e", "exploration_fraction")
        if problems:
            raise UserError(problems)


class PQN(Agent):
    """One Q-network, its rollout, and two generators: one explores, one shuffles minibatches."""

    Config = PQNConfig
    defaults: ClassVar = {
        "env_id": "Breakout-v5",
        "num_envs": 128,
        "learning_rate": 2.5e-4,
        "optimizer": "radam",
        "max_grad_norm": 10.0,
    }
    published_behaviour: ClassVar = {
        "bootstrap_truncated": False,
        "scores_run_on": True,
        "conv_view": "published",
        "diagnostics_batch": 128,
        "matmul_precision": "high",
    }

    @classmethod
    def check(cls, **sections: Any) -> list[str]:
        config, rows = sections["agent"], sections["budget"].num_envs * sections["agent"].num_steps
        if rows % config.num_minibatches:
            return [f"num_envs * num_steps = {rows} rows cannot be cut into --num_minibatches {config.num_minibatches}"]
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

    def __init__(self, config: PQNConfig, setup: AgentSetup) -> None:
        if not isinstance(setup.action_space, spaces.Discrete):
            raise UserError(f"pqn needs discrete actions, this environment has {setup.action_space}: use ppo")
        self.config, self.setup = config, setup
        init, explore, shuffle = (torch.Generator().manual_seed(seed) for seed in setup.seeds(3))
        self.network = build_network(
            setup.network, setup.observation_space, int(setup.action_space.n), generator=init
        ).to(setup.device)
        self.groups = {"q": self.network}
        self._explore, self._shuffle = explore, shuffle
        self._rollout = Rollout(config.num_steps, setup.num_envs, device=setup.device)
        self.steps = 0

    @property
    def boundary(self) -> bool:
        return self._rollout.filled == 0

    @property
    def epsilon(self) -> float:
        """The exploration rate of the next action."""
        c = self.config
        duration = c.exploration_fraction * self.setup.total_steps
        return schedules.linear(self.steps, start=c.start_e, end=c.end_e, duration=duration)

    def act(self, obs: np.ndarray) -> np.ndarray:
        self._obs = torch.as_tensor(obs, device=self.setup.device)
        with torch.no_grad():
            q = self.network(self._obs)
        self._values = q.amax(-1)
        self._actions = exploration.epsilon_greedy(q, self.epsilon, self._explore)
        return self._actions.cpu().numpy()

    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        with torch.no_grad():
            q = self.network(torch.as_tensor(obs, device=self.setup.device))
        return exploration.epsilon_greedy(q, epsilon, generator).cpu().numpy()

    def observe(self, step: StepBatch) -> None:
        """A life lost is an end for the targets where the protocol says so; the game plays on."""
        ended_for_good = step.terminated | (step.life_lost & self.setup.life_loss_ends)
        if not self.config.bootstrap_truncated:
            ended_for_good |= step.truncated
        self._rollout.add(
            obs=self._obs,
            actions=self._actions,
            values=self._values,
            rewards=self.setup.learning_reward(step.reward),
            discounts=self.config.gamma * (~ended_for_good).astype(np.float32),
            cut=step.ended | ended_for_good,
            final_values=self._final_values(step),
            chosen=step.chosen,
        )
        self._next_obs = step.obs
        self.steps += self.setup.num_envs

    def _final_values(self, step: StepBatch) -> Tensor:
        """max_a Q of the true last observation where a game was cut by a time limit, [B]; 0 elsewhere."""
        values = torch.zeros(self.setup.num_envs, device=self.setup.device)
        if step.truncated.any():
            with torch.no_grad():
                q = self.network(torch.as_tensor(step.final_obs, device=self.setup.device))
            values[torch.from_numpy(step.ended)] = q.amax(-1)
        return values

    def batches(self) -> Iterator[Batch]:
        if not self._rollout.full:
            return
        data = self._rollout
        with torch.no_grad():
            last = self.network(torch.as_tensor(self._next_obs, device=self.setup.device)).amax(-1)
        # Within a rollout the network stands still: the value of the state after step t is the one seen at t + 1.
        successors = returns.successor_values(data["values"], last, data["cut"], data["final_values"])
        targets = returns.lambda_returns(
            data["rewards"], data["discounts"], successors, self.config.q_lambda, cut=data["cut"]
        )
        yield from data.minibatches(
            count=self.config.num_minibatches,
            epochs=self.config.update_epochs,
            generator=self._shuffle,
            where=data["chosen"],
            targets=targets,
        )
        self._rollout.clear()

    def loss(self, params: Params, batch: Batch, generator: torch.Generator) -> LossOutput:
        """Mean squared error of Q(s, a) to the targets, without the half, as published."""
        q, features = functional_call(self.network, dict(params["q"]), (batch["obs"],), {"with_features": True})
        chosen = losses.action_values(q, batch["actions"])
        loss = losses.regression(chosen, batch["targets"]).mean()
        metrics = {
            "losses/td_loss": loss,
            "losses/q_values": chosen.mean(),
            "losses/targets_mean": batch["targets"].mean(),
        }
        return LossOutput(loss, features, {name: value.detach() for name, value in metrics.items()})

    def learning_rate_factor(self, group: str) -> float:
        """Annealed from rollout to rollout: the first one has the full rate."""
        if not self.config.anneal_lr:
            return 1.0
        done = max(0, self.steps - self.setup.num_envs * self.config.num_steps)
        return schedules.linear(done, start=1.0, end=0.0, duration=self.setup.total_steps)

    def metrics(self) -> dict[str, float]:
        return {"train/epsilon": self.epsilon}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "rollout": self._rollout.state_dict(),
            "explore": self._explore.get_state(),
            "shuffle": self._shuffle.get_state(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._rollout.load_state_dict(state["rollout"], chosen=torch.ones(self.setup.num_envs, dtype=torch.bool))
        self._explore.set_state(state["explore"])
        self._shuffle.set_state(state["shuffle"])
        self.steps = state["steps"]
