"""What an intervention is: a record of what it claims and touches, and hooks that the learner and the loop call.

Agents do not know which interventions run. Every hook of the base class does nothing, so an intervention
overrides only the moments it acts at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stablegrad.agents.base import Batch, LossOutput, Params

Kind = Literal["loss term", "reset at a moment", "periodic recycling", "per-step projection", "schedule"]


@dataclass(frozen=True, kw_only=True)
class InterventionInfo:
    """What an intervention declares of itself; `conflicts` names interventions it cannot run beside."""

    name: str
    paper: str
    kind: Kind
    optimizer_state: Literal["kept", "reset", "reset where touched"]
    target_network: Literal["kept", "synchronised", "untouched by definition"]
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moment:
    """What a hook may act on: the trained modules and their optimizers, by parameter group.

    `generator` is the learner's own, saved with every checkpoint.
    """

    step: int
    update: int
    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    generator: torch.Generator


class Intervention:
    """Base of all interventions."""

    info: InterventionInfo

    def loss_term(self, params: Params, batch: Batch, output: LossOutput) -> Tensor | None:
        """A scalar added to the loss, or None."""
        return None

    def after_backward(self, moment: Moment) -> None:
        """Gradients exist; nothing is clipped yet."""

    def after_step(self, moment: Moment) -> None:
        """The optimizer has changed the parameters."""

    def on_step(self, moment: Moment) -> None:
        """The environments made a step; called before the updates that follow it."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
