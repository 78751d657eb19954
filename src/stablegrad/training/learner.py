"""The one place that turns a loss into a change of parameters.

loss -> added terms -> backward -> [raw] -> hooks -> clip -> [clipped] -> optimizer step -> [update] -> hooks.
Every gradient figure carries the name of its measuring point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stablegrad.agents.base import Algorithm, Batch, LossOutput
from stablegrad.diagnostics.gradients import cosines
from stablegrad.nn import advance_power_iteration_, taps
from stablegrad.plasticity.base import Intervention, Moment
from stablegrad.runs.config import OptimizerSpec
from stablegrad.training.optimizers import build_optimizer

_SETTINGS = frozenset({"eps", "weight_decay", "update_probability"})
"""What an optimizer's groups have from an OptimizerSpec, and may change between two steps."""


class NonFinite(Exception):
    """A loss or gradient that is not finite; the parameters are still those from before the update."""


@dataclass(frozen=True)
class UpdateReport:
    """One update: the agent's output and, by measuring point, the L2 norm of each layer's weight gradient [L].

    `total` is the norm over all parameters of all groups. `update` (what the optimizer changed) is there only
    when the update was measured, and with it `weights`, the norms of the weights [L] that it changed. `cosines` [L]
    are to the gradient of the update before, where that one was followed; NaN where either is zero. Everything is on
    the device: reading it is the caller's synchronisation.
    """

    output: LossOutput
    layers: tuple[str, ...]
    norms: dict[str, Tensor]
    total: Tensor
    weights: Tensor | None = None
    cosines: Tensor | None = None


class Learner:
    """Owns one optimizer for each of the agent's parameter groups, and the generator of the losses."""

    def __init__(
        self, agent: Algorithm, spec: OptimizerSpec, *, seed: int, interventions: Sequence[Intervention] = ()
    ) -> None:
        self.agent = agent
        self.spec = spec
        self.interventions = tuple(interventions)
        self.seed = seed
        self.restart_optimizers()
        self.params = {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
        self.updates = 0
        device = next(iter(next(iter(agent.groups.values())).parameters())).device
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self._weights = _layer_weights(agent.groups)
        self.layers = tuple(self._weights)
        self._followed: list[Tensor] | None = None

    def restart_optimizers(self) -> None:
        """New optimizers, as at the start of the run."""
        self.optimizers = {
            name: build_optimizer(module, self.spec, self.seed) for name, module in self.agent.groups.items()
        }

    def update(self, batch: Batch, *, step: int, measure: bool = False, follow: bool = False) -> UpdateReport:
        """Learn from one batch. `measure` also takes the norms of what the optimizer changed; `follow` keeps the
        gradient, for the next update to report the angle to it.

        Raises NonFinite before any parameter is touched when the loss or a gradient is not finite.
        """
        output = self.agent.loss(self.params, batch, self.generator)
        loss = output.loss
        for intervention in self.interventions:
            term = intervention.loss_term(self.params, batch, output)
            loss = loss if term is None else loss + term
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        moment = self.moment(step)
        for intervention in self.interventions:
            intervention.after_backward(moment)

        weights = list(self._weights.values())
        norms = {"raw": _norms([weight.grad for weight in weights], loss)}
        cosines = self._turn([weight.grad for weight in weights], follow=follow)
        total = self._clip(loss)
        if self.spec.max_grad_norm is not None:
            norms["clipped"] = _norms([weight.grad for weight in weights], loss)
        else:
            norms["clipped"] = norms["raw"]
        before = [weight.detach().clone() for weight in weights] if measure else []
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(name)
            optimizer.step()
            advance_power_iteration_(self.agent.groups[name])
        self.updates += 1
        if measure:
            norms["update"] = _norms([w.detach() - old for w, old in zip(weights, before, strict=True)], loss)
        moment = self.moment(step)
        for intervention in self.interventions:
            intervention.after_step(moment)
        return UpdateReport(
            output, self.layers, norms, total, weights=_norms(before, loss) if measure else None, cosines=cosines
        )

    def learning_rate(self, group: str) -> float:
        """The learning rate of a group's next update, annealing included."""
        return self.spec.learning_rate * self.agent.learning_rate_factor(group)

    def moment(self, step: int) -> Moment:
        """What hooks may act on now."""
        return Moment(step, self.updates, self.agent.groups, self.optimizers, self.generator)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "updates": self.updates,
            "generator": self.generator.get_state(),
            "followed": self._followed,
            "interventions": [intervention.state_dict() for intervention in self.interventions],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, optimizer in self.optimizers.items():
            # torch restores settings with the state; those that the spec has are the spec's.
            own = [{option: group[option] for option in _SETTINGS & group.keys()} for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, settings in zip(optimizer.param_groups, own, strict=True):
                group.update(settings)
        self.updates = state["updates"]
        self.generator.set_state(state["generator"])
        followed = state.get("followed")
        self._followed = None if followed is None else [tensor.to(self.generator.device) for tensor in followed]
        for intervention, its_state in zip(self.interventions, state["interventions"], strict=True):
            intervention.load_state_dict(its_state)

    def _turn(self, gradients: Sequence[Tensor | None], *, follow: bool) -> Tensor | None:
        """Cosine of each layer's gradient to the one kept by the update before [L], None where none was kept."""
        found = (
            [
                torch.zeros_like(weight) if gradient is None else gradient.detach()
                for weight, gradient in zip(self._weights.values(), gradients, strict=True)
            ]
            if follow or self._followed is not None
            else []
        )
        before, self._followed = self._followed, [gradient.clone() for gradient in found] if follow else None
        if before is None:
            return None
        return cosines(dict(zip(self.layers, before, strict=True)), dict(zip(self.layers, found, strict=True)))

    def _clip(self, loss: Tensor) -> Tensor:
        """Clip each group's gradient to `max_grad_norm`; the norm of all of it before clipping.

        Raises NonFinite first: a clipped NaN would spread over every layer and hide where it began.
        """
        gradients = [[p.grad for p in params.values() if p.grad is not None] for params in self.params.values()]
        group_norms = [torch.linalg.vector_norm(_norms(grads, loss)) for grads in gradients]
        total = torch.linalg.vector_norm(torch.stack(group_norms))
        if not bool(torch.isfinite(total + loss.detach())):
            raise NonFinite(self.name_the_first(loss))
        if self.spec.max_grad_norm is not None:
            for grads, norm in zip(gradients, group_norms, strict=True):
                torch._foreach_mul_(grads, (self.spec.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        return total

    def name_the_first(self, loss: Tensor) -> str:
        """Which layer's gradient is the first, going backwards from the loss, that is not finite."""
        if not bool(torch.isfinite(loss)):
            what = f"the loss is {float(loss.detach())}"
        else:
            what = "the loss is finite"
        for group, params in self.params.items():
            for name, parameter in reversed(params.items()):
                if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                    return f"{what}; from the loss backwards, the first gradient that is not finite is {group}.{name}'s"
        return f"{what}; every gradient is finite"


def _norms(tensors: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """The L2 norm of each tensor [L], 0 where there is no gradient; without a host synchronisation."""
    zero = like.detach().new_zeros(1)
    return torch.stack(torch._foreach_norm([zero if tensor is None else tensor for tensor in tensors]))


def _layer_weights(groups: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Layer name -> weight, over all groups; the group's name stands first where there are several."""
    weights: dict[str, Tensor] = {}
    for group, module in groups.items():
        params = dict(module.named_parameters())
        for layer, name in taps.layers(module).items():
            weights[layer if len(groups) == 1 else f"{group}.{layer}"] = params[name]
    return weights
