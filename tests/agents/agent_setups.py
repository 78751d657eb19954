"""Agents by themselves: small set-ups, and streams of steps without an environment."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from stablegrad.agents import AGENTS
from stablegrad.agents.base import Agent, AgentSetup
from stablegrad.envs.base import StepBatch
from stablegrad.nn.spec import NetworkSpec

SPACE = spaces.Box(-np.inf, np.inf, (3,), np.float32)
SPEC = NetworkSpec(mlp_width=16, mlp_depth=1, use_ln=False)


def setup(**changes: Any) -> AgentSetup:
    fields: dict[str, Any] = {
        "observation_space": SPACE,
        "action_space": spaces.Discrete(4),
        "num_envs": 2,
        "total_steps": 1000,
        "network": SPEC,
        "seed": 5,
    }
    return AgentSetup(**{**fields, **changes})


def build(algo: str, settings: dict[str, Any] | None = None, **changes: Any) -> Any:
    kind = AGENTS[algo]
    return kind(kind.Config(**(settings or {})), setup(**changes))


class Stream:
    """Random observations and rewards; the vector steps at which all episodes end are given."""

    def __init__(self, num_envs: int = 2, *, seed: int = 0, terminated: tuple = (), truncated: tuple = ()) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.terminated, self.truncated = num_envs, terminated, truncated
        self.obs = self._draw()
        self.count = 0

    def step(self, actions: np.ndarray) -> StepBatch:
        self.count += 1
        everyone = np.ones(self.num_envs, bool)
        terminated, truncated = everyone & (self.count in self.terminated), everyone & (self.count in self.truncated)
        final = self._draw()
        self.obs = self._draw()
        return StepBatch(
            obs=self.obs,
            reward=self.rng.normal(size=self.num_envs).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=np.zeros(self.num_envs, bool),
            final_obs=final if (terminated | truncated).any() else final[:0],
            episodes=(),
        )

    def _draw(self) -> np.ndarray:
        return self.rng.normal(size=(self.num_envs, 3)).astype(np.float32)


def play(agent: Agent, stream: Stream, steps: int) -> list[dict[str, torch.Tensor]]:
    """Act and observe; returns the batches that came up, without learning from them."""
    batches = []
    for _ in range(steps):
        agent.observe(stream.step(agent.act(stream.obs)))
        batches += list(agent.batches())
    return batches


def parameters(agent: Agent) -> dict[str, dict[str, torch.Tensor]]:
    return {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
