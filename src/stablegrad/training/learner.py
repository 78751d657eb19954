"""The one place that turns a loss into a change of parameters.

loss -> added terms -> backward -> [raw] -> hooks -> clip -> [clipped] -> optimizer step -> [update] -> hooks.
Every gradient figure carries the name of its measuring point.

A parameter group takes part in an update where the loss (or a hook) gave any of its parameters a gradient. One that
does not, as the policy of an agent that delays it, is left as it is, its optimizer included.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stablegrad.agents.base import Algorithm, Batch, LossOutput, NonFinite
from stablegrad.agents.own import check_batch, check_loss
from stablegrad.diagnostics.gradients import cosines
from stablegrad.nn import advance_power_iteration_, taps
from stablegrad.plasticity.base import Intervention, Moment
from stablegrad.runs.config import OptimizerSpec
from stablegrad.training.optimizers import build_optimizer, spec_of

_SETTINGS = frozenset({"eps", "weight_decay", "update_probability"})
"""What an optimizer's groups have from an OptimizerSpec, and may change between two steps."""


@dataclass(frozen=True)
class UpdateReport:
    """One update: the agent's output and, by measuring point, the L2 norm of each layer's weight gradient [L].

    `total` is the raw norm over all parameters of all groups, `totals` that of each group that took part. `update`
    (what the optimizer changed) is there only when the update was measured, and with it `weights`, the norms of the
    weights [L] that it changed. `cosines` [L] are to the gradient of the update before that the layer's group took
    part in, where that one was followed; NaN where either is zero. Everything is on the device: reading it is the
    caller's synchronisation.

    `left_out` names the groups that took no part. `part` and `compared` [L] say of which layers the norms and the
    cosines are; None where they are of all.
    """

    output: LossOutput
    layers: tuple[str, ...]
    norms: dict[str, Tensor]
    total: Tensor
    weights: Tensor | None = None
    cosines: Tensor | None = None
    totals: Mapping[str, Tensor] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    part: Tensor | None = None
    compared: Tensor | None = None


class Learner:
    """Owns one optimizer for each of the agent's parameter groups, and the generator of the losses."""

    def __init__(
        self, agent: Algorithm, spec: OptimizerSpec, *, seed: int, interventions: Sequence[Intervention] = ()
    ) -> None:
        self.agent = agent
        self.spec = spec
        self.interventions = tuple(interventions)
        self.seed = seed
        self.specs = {group: spec_of(agent, group, spec) for group in agent.groups}
        self.restart_optimizers()
        self.params = {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
        self.updates = 0
        device = next(parameter.device for params in self.params.values() for parameter in params.values())
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self._weights = _layer_weights(agent.groups)
        self.layers = tuple(self._weights)
        self._group_of = [group for group, module in agent.groups.items() for _ in taps.layers(module)]
        self._masks: dict[frozenset[str], Tensor] = {}
        self._followed: dict[str, Tensor] = {}

    def restart_optimizers(self) -> None:
        """New optimizers, as at the start of the run."""
        self.optimizers = {
            name: build_optimizer(module, self.specs[name], self.seed) for name, module in self.agent.groups.items()
        }

    def update(
        self,
        batch: Batch,
        *,
        step: int,
        measure: bool = False,
        follow: bool = False,
        wanted: frozenset[str] = frozenset(),
    ) -> UpdateReport:
        """Learn from one batch. `measure` also takes the norms of what the optimizer changed; `follow` keeps the
        gradient, for the next update to report the angle to it. With `wanted`, both are done only where one of these
        groups takes part.

        Raises NonFinite before any parameter is touched when the loss or a gradient is not finite.
        """
        check_batch(self.agent, batch)
        output = self.agent.loss(self.params, batch, self.generator)
        check_loss(self.agent, output)
        loss = output.loss
        for intervention in self.interventions:
            term = intervention.loss_term(self.params, batch, output)
            loss = loss if term is None else loss + term
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        weights = list(self._weights.values())
        gradients = self._gradients()
        if wanted and wanted.isdisjoint(gradients):
            measure = follow = False
        norms = {"raw": _norms([weight.grad for weight in weights], loss)}
        group_norms = _group_norms(gradients, loss)
        totals = dict(zip(gradients, group_norms, strict=True))
        total = torch.linalg.vector_norm(torch.stack(group_norms))
        cosines, compared = self._turn(gradients.keys(), follow=follow)
        if self.interventions:
            moment = self.moment(step)
            for intervention in self.interventions:
                intervention.after_backward(moment)
            gradients = self._gradients()
            group_norms = _group_norms(gradients, loss)
        self._clip(gradients, group_norms, loss)
        if self.interventions or any(spec.max_grad_norm is not None for spec in self.specs.values()):
            norms["clipped"] = _norms([weight.grad for weight in weights], loss)
        else:
            norms["clipped"] = norms["raw"]
        before = [weight.detach().clone() for weight in weights] if measure else []
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(name)
            if name in gradients:
                optimizer.step()
                advance_power_iteration_(self.agent.groups[name])
        self.updates += 1
        if measure:
            norms["update"] = _norms([w.detach() - old for w, old in zip(weights, before, strict=True)], loss)
        moment = self.moment(step)
        for intervention in self.interventions:
            intervention.after_step(moment)
        return UpdateReport(
            output,
            self.layers,
            norms,
            total,
            weights=_norms(before, loss) if measure else None,
            cosines=cosines,
            totals=totals,
            left_out=frozenset(self.params.keys() - gradients.keys()),
            part=self._mask(gradients.keys()),
            compared=compared,
        )

    def _gradients(self) -> dict[str, list[Tensor]]:
        """The gradients that there are, by group; no entry for a group without any."""
        found = {
            group: [p.grad for p in params.values() if p.grad is not None] for group, params in self.params.items()
        }
        return {group: gradients for group, gradients in found.items() if gradients}

    def _mask(self, groups: Iterable[str]) -> Tensor | None:
        """Which layers are of these groups [L], on the device; None where all are."""
        wanted = frozenset(groups)
        if wanted >= self.params.keys():
            return None
        if wanted not in self._masks:
            self._masks[wanted] = torch.tensor([g in wanted for g in self._group_of], device=self.generator.device)
        return self._masks[wanted]

    def learning_rate(self, group: str) -> float:
        """The learning rate of a group's next update, annealing included."""
        return self.specs[group].learning_rate * self.agent.learning_rate_factor(group)

    def learning_rates(self) -> dict[str, float]:
        """The learning rate of every group's next update."""
        return {group: self.learning_rate(group) for group in self.params}

    def moment(self, step: int) -> Moment:
        """What hooks may act on now."""
        return Moment(step, self.updates, self.agent.groups, self.optimizers, self.generator)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "updates": self.updates,
            "generator": self.generator.get_state(),
            "followed": dict(self._followed),
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
        followed = state.get("followed") or {}
        if isinstance(followed, list):  # before groups could be left out, the gradients of all layers in a row
            followed = dict(zip(self.layers, followed, strict=True))
        self._followed = {layer: tensor.to(self.generator.device) for layer, tensor in followed.items()}
        for intervention, its_state in zip(self.interventions, state["interventions"], strict=True):
            intervention.load_state_dict(its_state)

    def _turn(self, groups: Iterable[str], *, follow: bool) -> tuple[Tensor | None, Tensor | None]:
        """Cosine of each layer's gradient to the one that was kept [L], None where none was; and of which layers.

        A gradient is kept until the next update that its group takes part in.
        """
        taking_part = frozenset(groups)
        if not follow and not self._followed:
            return None, None
        found = {
            layer: torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()
            for (layer, weight), group in zip(self._weights.items(), self._group_of, strict=True)
            if group in taking_part
        }
        before = {layer: self._followed.pop(layer) for layer in found if layer in self._followed}
        if follow:
            self._followed |= found
        if not before:
            return None, None
        turned = dict(zip(before, cosines(before, found), strict=True))
        undefined = next(iter(turned.values())).new_full((), torch.nan)
        everywhere = torch.stack([turned.get(layer, undefined) for layer in self.layers])
        return everywhere, self._mask(group for layer, group in zip(self.layers, self._group_of, strict=True)
                                      if layer in before)  # fmt: skip

    def _clip(self, gradients: Mapping[str, list[Tensor]], group_norms: list[Tensor], loss: Tensor) -> None:
        """Clip each group's gradient to `max_grad_norm`.

        Raises NonFinite first: a clipped NaN would spread over every layer and hide where it began.
        """
        if not bool(torch.isfinite(torch.stack(group_norms).sum() + loss.detach())):
            raise NonFinite(self.name_the_first(loss))
        for (group, grads), norm in zip(gradients.items(), group_norms, strict=True):
            limit = self.specs[group].max_grad_norm
            if limit is not None:
                torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))

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
        sizes = {
            f"{group}.{name}": float(parameter.grad.abs().amax())
            for group, params in self.params.items()
            for name, parameter in params.items()
            if parameter.grad is not None and parameter.numel()
        }
        largest = max(sizes, key=lambda name: sizes[name])
        return (
            f"{what} and every gradient is, but not their norm: the largest entry, in {largest}, is"
            f" {sizes[largest]:.2g}, and squares beyond 1e38 leave float32"
        )


def _group_norms(gradients: Mapping[str, list[Tensor]], like: Tensor) -> list[Tensor]:
    """The norm of each group's gradient, over all of its parameters."""
    return [torch.linalg.vector_norm(_norms(grads, like)) for grads in gradients.values()]


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
