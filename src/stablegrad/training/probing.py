"""When probes look at a run, and at what: the agent's own network, loss and newest batch."""

from typing import Any

import numpy as np
import torch
from torch import nn

from stablegrad.agents.base import Algorithm, Batch
from stablegrad.diagnostics import battery
from stablegrad.runs.config import RunSettings
from stablegrad.training.learner import Learner


def probe(
    agent: Algorithm, learner: Learner, batch: Batch, before: nn.Module | None, settings: RunSettings, step: int
) -> dict[str, float]:
    """Metrics of the agent's first network, by catalogue name. Nothing of the run changes.

    `before` is a copy of the network from before this step's updates (for churn); `light` does without. The probes'
    own randomness comes from (seed, step), so a resumed run measures the same.
    """
    group, module = next(iter(agent.groups.items()))
    rows = slice(0, settings.diagnostics_batch)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((settings.seed, step)).generate_state(1)[0]))
    obs = batch["obs"][rows]
    if settings.diagnostics == "light":
        return battery.light(module, obs)

    def loss() -> Any:
        sample = {name: value[rows] for name, value in batch.items()}
        return agent.loss(learner.params, sample, generator).loss

    return battery.full(module, obs, loss, learner.params[group], before, generator)
