"""What a trained agent can still learn: how fast a copy of its network fits random targets, beside a fresh network."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stablegrad.agents.base import Agent
from stablegrad.diagnostics.capacity import Capacity, capacity
from stablegrad.diagnostics.purity import undisturbed
from stablegrad.envs import make
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import UserError
from stablegrad.nn import taps

INPUTS = 256
BUDGET = 500
_POOL = 8
_APART = 4
"""Steps between two observations that are taken: neighbours look alike."""


class StillLearns(NamedTuple):
    """`now` is of the network asked about, `fresh` of one as the run began with, on the same inputs and targets."""

    now: Capacity
    fresh: Capacity


def still_learns(module: nn.Module, fresh: nn.Module, obs: Tensor, *, budget: int, seed: int) -> StillLearns:
    """Steps that copies of both networks need to fit the same random functions of `obs [N, *]`."""
    now, then = (
        capacity(network, obs, budget=budget, generator=torch.Generator().manual_seed(seed))
        for network in (module, fresh)
    )
    return StillLearns(now, then)


def reads_observations(agent: Agent, obs: Tensor) -> str:
    """The first group whose module takes observations alone. UserError where there is none."""
    reasons = []
    for group, module in agent.groups.items():
        if not taps.layers(module):
            continue
        try:
            with torch.no_grad(), undisturbed(module):
                module(obs[:2])
        except Exception as error:  # noqa: BLE001 - the agent's own network may raise anything
            reasons.append(f"{group}: {type(error).__name__}: {error}")
        else:
            return group
    told = f" ({'; '.join(reasons)})" if reasons else ""
    raise UserError(f"no network of this agent takes observations alone: its capacity cannot be measured{told}")


def observations(agent: Agent, spec: EnvSpec, *, count: int, seed: int, task: int | None = None) -> Tensor:
    """`count` observations [N, *] of games that the agent plays as in evaluation, on its device.

    `task` (from 0) is the one to play of a schedule, and None where there is no schedule.
    """
    device = next(iter(next(iter(agent.groups.values())).parameters())).device
    generator = torch.Generator(device=device).manual_seed(seed)
    envs = make(spec.for_evaluation(), num_envs=_POOL, seed=seed, task=task)
    seen: list[np.ndarray] = []
    try:
        for step in range(_APART * -(-count // _POOL)):
            if step % _APART == 0:
                seen.append(np.array(envs.obs))
            envs.step(agent.evaluate(envs.obs, epsilon=spec.eval_epsilon, generator=generator))
    finally:
        envs.close()
    return torch.as_tensor(np.concatenate(seen)[:count], device=device)
