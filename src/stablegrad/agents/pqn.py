"""PQN: parallelised Q-learning without a replay buffer or a target network.

Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning" (arXiv:2407.04811). Each iteration plays
`num_steps` epsilon-greedy steps in every environment, computes Peng's Q(lambda) targets with the values that the
behaviour network gave, and regresses Q on them for `update_epochs` epochs of `num_minibatches` minibatches.
Defaults are those of Creus Castanyer et al. 2025, table 4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from stablegrad.agents.base import Agent, AgentSetup, Batch, LossOutput, Params
from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.nn import build_network
from stablegrad.replay.rollout import Rollout
from stablegrad.rl import exploration, losses, returns, schedules


@dataclass(frozen=True, kw_only=True)
class PQNConfig:
    """PQN's own hyper-parameters."""

    num_steps: int = 32
    num_minibatches: int = 32
    update_epochs: int = 2
    gamma: float = 0.99
    q_lambda: float = 0.65
    start_e: float = 1.0
    end_e: float = 0.005
    exploration_fraction: float = 0.1
    anneal_lr: bool = False
    bootstrap_truncated: bool = True


class PQN(Agent):
    """Parallelised Q-network."""

    Config = PQNConfig
    defaults: ClassVar = {
        "env_id": "Breakout-v5",
        "total_timesteps": 10_000_000,
        "num_envs": 128,
        "learning_rate": 2.5e-4,
        "optimizer": "radam",
        "max_grad_norm": 10.0,
    }
