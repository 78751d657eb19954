"""When probes look at a run, and at what: the agent's own networks, its loss, and as many inputs as asked for."""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from stablegrad.agents.base import Algorithm, Batch
from stablegrad.diagnostics import battery
from stablegrad.diagnostics.catalogue import of_group
from stablegrad.diagnostics.inputs import as_one
from stablegrad.diagnostics.purity import undisturbed
from stablegrad.nn import taps
from stablegrad.runs.config import RunSettings
from stablegrad.training.learner import Learner

log = logging.getLogger("stablegrad")

Inputs = Tensor | tuple[Tensor, ...]
"""What a module is called with: a tensor [N, *], or several."""

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


class Prober:
    """Looks at the networks of an agent that learns. Nothing of the run changes."""

    def __init__(self, agent: Algorithm, learner: Learner, settings: RunSettings) -> None:
        self._agent, self._learner, self._settings = agent, learner, settings
        self._callable: dict[str, bool] = {}

    def copies(self) -> dict[str, nn.Module]:
        """A copy of every group's module: what churn compares with."""
        return {group: copy.deepcopy(module) for group, module in self._agent.groups.items()}

    def probe(self, batch: Batch, before: Mapping[str, nn.Module] | None, *, step: int) -> dict[str, float]:
        """Metrics of every group's module on `batch`, by catalogue name.

        Where there are several groups, their names are part of the metrics' (`catalogue.of_group`): their order does
        not matter. `before` are copies from before this step's updates; `light` does without. The probes' own
        randomness comes from (seed, step), so a resumed run measures the same.
        """
        groups = self._agent.groups
        found: dict[str, float] = {}
        for group in groups:
            inputs = self._agent.probe_inputs(group, batch)
            if inputs is None or not self._takes(group, inputs):
                continue
            values = self._of_group(group, batch, inputs, None if before is None else before[group], step)
            found |= values if len(groups) == 1 else {of_group(name, group): value for name, value in values.items()}
        return found

    def _takes(self, group: str, inputs: Inputs) -> bool:
        """Whether the group's module can be called with such inputs: tried once, on two rows; a warning where not."""
        module = self._agent.groups[group]
        if group not in self._callable:
            self._callable[group] = bool(taps.layers(module))
            arguments = (inputs,) if isinstance(inputs, Tensor) else inputs
            try:
                if self._callable[group]:
                    with torch.no_grad(), undisturbed(module):
                        module(*(argument[:2] for argument in arguments))
            except Exception as error:  # noqa: BLE001 - the agent's own network may raise anything; a probe ends no run
                self._callable[group] = False
                log.warning(
                    "the group '%s' is not probed: its module cannot be called with %s (%s: %s); let the agent's"
                    " probe_inputs(group, batch) say what it takes, or None",
                    group,
                    " and ".join(str(list(argument.shape)) for argument in arguments),
                    type(error).__name__,
                    error,
                )
        return self._callable[group]

    def _of_group(
        self, group: str, batch: Batch, inputs: Inputs, before: nn.Module | None, step: int
    ) -> dict[str, float]:
        module, given = _as_one(self._agent.groups[group], inputs)
        light = battery.light(module, given)
        if self._settings.diagnostics != "light":
            rows = min(LOSS_ROWS, len(given))
            old = None if before is None else _as_one(before, inputs)[0]
            light = self._with_the_loss(group, module, batch, given[:rows], old, step) | light
        return {name.replace("/inner.", "/"): value for name, value in light.items()}

    def _with_the_loss(
        self, group: str, module: nn.Module, batch: Batch, given: Tensor, before: nn.Module | None, step: int
    ) -> dict[str, float]:
        """The full set on the first rows of `batch`, which `given` are; without what a loss that leaves out this group
        says nothing about."""
        rows, params = len(given), self._learner.params
        device = self._learner.generator.device
        seed = int(np.random.SeedSequence((self._settings.seed, step)).generate_state(1)[0])

        def loss(start: int, end: int) -> Tensor:
            generator = torch.Generator(device).manual_seed(seed)
            part = {name: values[start:end] for name, values in batch.items()}
            return self._agent.loss(params, part, generator).loss

        def whole() -> Tensor:
            return loss(0, rows)

        if len(params) > 1 and not battery.depends(whole, params[group]):
            return battery.fetch({} if before is None else battery.of_change(before, module, given))
        return battery.full(
            module,
            given,
            whole,
            params[group],
            before,
            torch.Generator(device).manual_seed(seed),
            halves=(lambda: loss(0, rows // 2), lambda: loss(rows // 2, rows)) if rows >= 2 else None,
        )


def _as_one(module: nn.Module, inputs: Inputs) -> tuple[nn.Module, Tensor]:
    return (module, inputs) if isinstance(inputs, Tensor) else as_one(module, inputs)
