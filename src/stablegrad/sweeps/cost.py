"""What a run costs: which runs cost the same a step, how many steps they take, and how much work a network is."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces

from stablegrad.agents import AGENTS
from stablegrad.envs.ids import backend_of
from stablegrad.errors import UserError
from stablegrad.nn import build_network
from stablegrad.optim.info import info
from stablegrad.runs.config import RunConfig, section_types

# What leaves the price of a step as it is, or sets only how often something is written.
_FREE = frozenset({
    "seed", "env_id", "total_timesteps", "threads", "log_every", "diagnostics_every", "checkpoint_every",
    "keep_checkpoints", "track", "eval_every", "eval_episodes", "protocol", "life_loss", "noop_max", "fire_reset",
    "full_action_space", "max_episode_steps", "eval_max_episode_steps", "reward_clip", "scores_run_on", "anneal_lr",
    "learning_starts", "epochs", "subset", "data_dir", "download", "non_stationary", "stream",
    "change_points", "first_task",
})  # fmt: skip


_MOST_BLOCKS = 10_000


def total_steps(config: RunConfig) -> int:
    """The length of a run in the unit that its rows count: agent steps, or what the algorithm says instead."""
    sections = {name: getattr(config, name) for name in section_types(config.algo)}
    return AGENTS[config.algo].total_steps(**sections)


def family(config: RunConfig) -> str:
    """Environments that cost about the same a step: Atari, MinAtar, or one of another kind (or a data set)."""
    if config.env is None:
        return "images"
    backend = backend_of(config.env.env_id)
    return backend if backend in ("atari", "minatar") else config.env.env_id


def shape_of(config: RunConfig) -> str:
    """Eight hex digits, the same for runs whose steps cost the same: algorithm, network, optimizer, sizes.

    Fractions (learning rates, discounts, …) do not change the price of a step and are left out.
    """
    paid = {k: v for k, v in config.flat().items() if k not in _FREE and not isinstance(v, float)}
    text = json.dumps({**paid, "family": family(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def kind_of(config: RunConfig) -> tuple[str, str, str]:
    """What has to be equal for the price of one network to say something about that of another."""
    return config.algo, family(config), config.optimizer.optimizer


def work(config: RunConfig) -> float:
    """Multiplications of an update, up to a factor that `kind_of` fixes: for extrapolation, not a prediction.

    A weight [m, n] costs 6 * m * n a row of the batch; under Kron another 2 * m * n * (m + n) an update.
    """
    matrices = _matrices(config)
    rows = _rows(config)
    total = float(sum(6 * m * n * rows for m, n in matrices))
    if info(config.optimizer.optimizer).second_order:
        total += sum(2.0 * m * n * (m + n) for m, n in matrices)
    return total


def weights(config: RunConfig) -> int:
    """Weights of the network, biases left out."""
    return sum(m * n for m, n in _matrices(config))


def _matrices(config: RunConfig) -> list[tuple[int, int]]:
    """Every weight as a matrix: outputs, and inputs of each. UserError where they are too many to list."""
    if config.network.blocks > _MOST_BLOCKS:
        raise UserError(f"--mlp_depth {config.network.mlp_depth}: no plan has more than {_MOST_BLOCKS:,} blocks")
    with torch.device("meta"):
        network = build_network(config.network, _OBSERVATIONS.get(family(config), _FLAT), 6)
    return [(p.shape[0], p[0].numel()) for p in network.parameters() if p.ndim > 1]


_OBSERVATIONS = {
    "atari": spaces.Box(0, 255, (4, 84, 84), np.uint8),
    "minatar": spaces.Box(0, 1, (6, 10, 10), np.uint8),
    "images": spaces.Box(0, 255, (3, 32, 32), np.uint8),
}
_FLAT = spaces.Box(-1, 1, (16,), np.float32)


def _rows(config: RunConfig) -> int:
    """Rows of a minibatch."""
    agent = dataclasses.asdict(config.agent)
    if "batch_size" in agent:
        return int(agent["batch_size"])
    if config.budget is not None and "num_steps" in agent and "num_minibatches" in agent:
        return int(config.budget.num_envs * agent["num_steps"] // agent["num_minibatches"])
    return 32


class Measured(NamedTuple):
    """Work of a shape, and what a step of it took."""

    work: float
    seconds: float


def extrapolate(points: Sequence[Measured], wanted: float) -> float:
    """Seconds a step at `wanted` work: the line through the two most costly measured points, or in proportion.

    Never less than what the least costly measured shape took.
    """
    ordered = sorted(set(points))
    low, high = ordered[0], ordered[-1]
    if len(ordered) > 1:
        low = ordered[-2]
    if high.work > low.work and high.seconds > low.seconds:
        slope = (high.seconds - low.seconds) / (high.work - low.work)
        return max(ordered[0].seconds, high.seconds + slope * (wanted - high.work))
    return high.seconds * max(1.0, wanted / high.work)
