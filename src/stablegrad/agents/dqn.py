"""DQN: Q-learning from a replay of past transitions towards a target network.

Mnih et al. 2015, "Human-level control through deep reinforcement learning"; with `--double`, the target's action is
chosen by the trained network (van Hasselt, Guez and Silver 2016, arXiv:1509.06461). One update of `batch_size`
transitions falls due every `train_frequency` steps, however many environments make them. Defaults: Castanyer et al.
2025 (arXiv:2506.15544), table 7: squared errors, Adam, and 5 million steps, half of what their other agents get.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call

from stablegrad.agents.base import Agent, AgentSetup, Batch, Footprint, LossOutput, Params, outputs_for
from stablegrad.agents.replayed import (
    Experience,
    batch_footprint,
    capacity_problems,
    discrete_actions,
    follow_,
    replay_problems,
    replay_remarks,
    target_is_due,
    turns,
    updates_due,
)
from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.nn import build_network
from stablegrad.rl import exploration, losses, schedules
from stablegrad.settings import setting


@dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """DQN's own hyper-parameters."""

    buffer_size: int = setting(1_000_000, "transitions that the replay holds, over all environments")
    batch_size: int = setting(32, "transitions an update learns from")
    learning_starts: int = setting(80_000, "steps before the first update")
    train_frequency: int = setting(4, "steps from one update that is due to the next, over all environments")
    gradient_steps: int = setting(1, "updates each time that one is due: more make a replay ratio above 1", since=2)
    target_network_frequency: int = setting(1000, "steps between updates of the target network")
    tau: float = setting(1.0, "share of the trained network that the target network takes over; 1 copies it")
    gamma: float = setting(0.99, "discount factor")
    start_e: float = setting(1.0, "exploration epsilon at the start")
    end_e: float = setting(0.01, "exploration epsilon at the end")
    exploration_fraction: float = setting(0.1, "fraction of the run over which epsilon falls")
    double: bool = setting(False, "Double DQN: the trained network chooses the action that the target network values")
    anneal_lr: bool = setting(False, "let the learning rate fall to zero over the run")
    loss: Literal["mse", "huber"] = setting("mse", "squared errors (published) or errors clipped to 1 (Mnih 2015)")
    share_frames: bool = setting(True, "keep each frame of stacked images once (false: whole observations)")

    def __post_init__(self) -> None:
        if problems := replay_problems(self):
            raise UserError(problems)


class DQN(Agent):
    """A Q-network, the target network that follows it, a replay, and a generator that explores."""

    Config = DQNConfig
    defaults: ClassVar = {
        "env_id": "Breakout-v5",
        "protocol": "cleanrl",
        "total_timesteps": 5_000_000,
        "num_envs": 1,
        "learning_rate": 1e-4,
        "optimizer": "adam",
        "use_ln": False,
    }
    published_behaviour: ClassVar = {"conv_view": "published", "head_init": "torch"}

    @classmethod
    def check(cls, **sections: Any) -> list[str]:
        return capacity_problems(sections["agent"].buffer_size, sections["budget"].num_envs, n_step=1)

    @classmethod
    def remarks(cls, **sections: Any) -> list[str]:
        return replay_remarks(sections["agent"], sections["budget"])

    @classmethod
    def footprint(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **sections: Any
    ) -> Footprint:
        config = sections["agent"]
        outputs = outputs_for(action_space)
        return batch_footprint(observation_space, batch_size=config.batch_size, outputs=outputs)

    def __init__(self, config: DQNConfig, setup: AgentSetup) -> None:
        self.config, self.setup = config, setup
        n_actions = discrete_actions("dqn", setup.action_space)
        init, explore, sample = setup.seeds(3)
        self.experience = Experience(
            setup, capacity=config.buffer_size, gamma=config.gamma, share_frames=config.share_frames, seed=sample
        )
        self.network = build_network(
            setup.network, setup.observation_space, n_actions, generator=torch.Generator().manual_seed(init)
        ).to(setup.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.groups = {"q": self.network}
        self._explore = torch.Generator().manual_seed(explore)
        self.steps = self.updates = 0

    @property
    def storage_bytes(self) -> int:
        return self.experience.bytes_at_end

    @property
    def epsilon(self) -> float:
        """The exploration rate of the next action."""
        c = self.config
        duration = c.exploration_fraction * self.setup.total_steps
        return schedules.linear(self.steps, start=c.start_e, end=c.end_e, duration=duration)

    def act(self, obs: np.ndarray) -> np.ndarray:
        self.experience.begin(obs)
        with torch.no_grad():
            q = self.network(torch.as_tensor(obs, device=self.setup.device))
        self._actions = exploration.epsilon_greedy(q, self.epsilon, self._explore).cpu().numpy()
        return self._actions

    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        with torch.no_grad():
            q = self.network(torch.as_tensor(obs, device=self.setup.device))
        return exploration.epsilon_greedy(q, epsilon, generator).cpu().numpy()

    def observe(self, step: StepBatch) -> None:
        self.experience.add(self._actions, step)
        self.steps += self.setup.num_envs

    def batches(self) -> Iterator[Batch]:
        c = self.config
        due = updates_due(self.steps, self.setup.num_envs, every=c.train_frequency, after=c.learning_starts)
        for moment in turns(due, c.gradient_steps):
            self._moment = moment
            data = self.experience.sample(c.batch_size)
            yield {**data, "targets": self._targets(data)}

    def probe_batch(self, rows: int) -> Batch:
        data = self.experience.peek(rows, seed=self.steps)
        return {**data, "targets": self._targets(data)}

    @torch.no_grad()
    def _targets(self, data: Batch) -> Tensor:
        """Targets [N]; the discount is 0 where the game ended, and time-outs bootstrap from their last observation."""
        selector = self.network(data["next_obs"]) if self.config.double else None
        return losses.q_targets(data["rewards"], data["discounts"], self.target(data["next_obs"]), selector)

    def loss(self, params: Params, batch: Batch, generator: torch.Generator) -> LossOutput:
        """Mean error of Q(s, a) to the targets."""
        q, features = functional_call(self.network, dict(params["q"]), (batch["obs"],), {"with_features": True})
        chosen = losses.action_values(q, batch["actions"])
        loss = losses.regression(chosen, batch["targets"], self.config.loss).mean()
        metrics = {
            "losses/td_loss": loss,
            "losses/q_values": chosen.mean(),
            "losses/targets_mean": batch["targets"].mean(),
        }
        return LossOutput(loss, features, {name: value.detach() for name, value in metrics.items()})

    def after_update(self, output: LossOutput, batch: Batch) -> None:
        c = self.config
        self.updates += 1
        if target_is_due(self._moment, c):
            follow_(self.target, self.network, c.tau)

    def learning_rate_factor(self, group: str) -> float:
        if not self.config.anneal_lr:
            return 1.0
        return schedules.linear(self.steps, start=1.0, end=0.0, duration=self.setup.total_steps)

    def metrics(self) -> dict[str, float]:
        ratio = self.updates * self.config.batch_size / max(1, self.steps)
        return {"train/epsilon": self.epsilon, "replay/size": len(self.experience), "replay/ratio": ratio}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "experience": self.experience.state_dict(),
            "explore": self._explore.get_state(),
            "steps": self.steps,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.experience.load_state_dict(state["experience"])
        self._explore.set_state(state["explore"])
        self.steps, self.updates = state["steps"], state["updates"]
