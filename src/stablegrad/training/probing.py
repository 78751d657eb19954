"""When probes look at a run, and at what: the agent's own network, its loss, and as many inputs as asked for."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from stablegrad.agents.base import Algorithm, Batch
from stablegrad.diagnostics import battery
from stablegrad.runs.config import RunSettings
from stablegrad.training.learner import Learner

LIMIT = {"light": 0.02, "full": 0.15}
"""The share of training time that probes may take when no interval is given."""

LOSS_ROWS = 256
"""Rows of what differentiates the loss: a Hessian product costs two updates of that size."""

# What a set of probes costs, in updates of its own batch size, measured in benchmarks/results/diagnostics_cost.json.
_OBSERVING, _DIFFERENTIATING = 1.2, 40.0


def updates_between(level: Literal["light", "full"], rows: int, batch_rows: int) -> int:
    """After how many updates on `batch_rows` rows another probe of `rows` rows keeps within the level's limit."""
    cost = _OBSERVING * rows / batch_rows
    if level == "full":
        cost += _DIFFERENTIATING * min(rows, LOSS_ROWS) / batch_rows
    return round(cost / LIMIT[level])


def gather(agent: Algorithm, batches: Sequence[Batch], rows: int) -> Batch:
    """At most `rows` rows to probe: the agent's own choice, or the newest minibatches put together."""
    chosen = agent.probe_batch(rows)
    if chosen is None:
        chosen = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return {name: values[:rows] for name, values in chosen.items()}


def probe(
    agent: Algorithm, learner: Learner, batch: Batch, before: nn.Module | None, settings: RunSettings, step: int
) -> dict[str, float]:
    """Metrics of the agent's first network on `batch`, by catalogue name. Nothing of the run changes.

    `before` is a copy of the network from before this step's updates (for churn); `light` does without. The probes'
    own randomness comes from (seed, step), so a resumed run measures the same.
    """
    group, module = next(iter(agent.groups.items()))
    if settings.diagnostics == "light":
        return battery.light(module, batch["obs"])
    seed = int(np.random.SeedSequence((settings.seed, step)).generate_state(1)[0])
    rows = min(LOSS_ROWS, len(batch["obs"]))

    def loss(start: int, end: int) -> Tensor:
        generator = torch.Generator(learner.generator.device).manual_seed(seed)
        return agent.loss(learner.params, {name: values[start:end] for name, values in batch.items()}, generator).loss

    return battery.full(
        module,
        batch["obs"][:rows],
        lambda: loss(0, rows),
        learner.params[group],
        before,
        torch.Generator(learner.generator.device).manual_seed(seed),
        halves=(lambda: loss(0, rows // 2), lambda: loss(rows // 2, rows)) if rows >= 2 else None,
    ) | battery.light(module, batch["obs"])
