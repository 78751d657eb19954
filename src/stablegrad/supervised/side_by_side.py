"""One update of many seeds at once: stacked networks, each seed's own loss, gradient and optimizer state.

A member's parameters are views of the stack's, so whatever else looks at a member (evaluation, probes, checkpoints)
sees an ordinary network. Optimizers that treat every number by itself step once over the stack; the others, Kron
among them, step once for each seed. Members end up where they would have alone, within rounding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from stablegrad.agents.base import Batch, LossOutput
from stablegrad.nn import taps
from stablegrad.supervised.classifier import masks_of
from stablegrad.supervised.stacked import stack_networks
from stablegrad.training.learner import Learner, UpdateReport
from stablegrad.training.optimizers import build_optimizer

ELEMENTWISE = frozenset({"adam", "adamw", "radam", "sgd", "rmsprop"})
"""Optimizers whose change of a number depends on that number's own history alone."""


class NotFinite(Exception):
    """Some members' losses or gradients are not finite; no parameter of any member has changed."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"members {sorted(reasons)}")
        self.reasons = dict(reasons)


class StackedLearner:
    """Learns for `learners`, each of a classifier. Raises NotStackable when their networks cannot be stacked.

    The members' optimizers keep their own state only where they step themselves; `scatter` brings it up to date for
    a checkpoint, and `gather` takes over what a checkpoint brought.
    """

    def __init__(self, learners: Sequence[Learner], example: Tensor) -> None:
        self.learners = tuple(learners)
        first = self.learners[0]
        (self.group,) = first.agent.groups
        self.network = stack_networks([learner.agent.groups[self.group] for learner in learners], example)
        self.params = dict(self.network.named_parameters())
        self._own = [learner.params[self.group] for learner in learners]
        for member, own in enumerate(self._own):
            for name, parameter in own.items():
                parameter.data = self.params[name].data[member]
        names = list(self.params)
        self._layer_rows = [names.index(weight) for weight in taps.layers(first.agent.groups[self.group]).values()]
        self.optimizer: torch.optim.Optimizer | None = None
        self.gather()

    def update(self, batches: Sequence[Batch], *, measure: bool = False) -> list[UpdateReport]:
        """Every member learns from its own batch; what it would have reported alone.

        Raises NotFinite before any parameter is touched.
        """
        together = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}
        outputs = self._losses(together)
        losses = torch.stack([output.loss for output in outputs])
        for parameter in self.params.values():
            parameter.grad = None
        losses.sum().backward()
        norms = self._norms({name: parameter.grad for name, parameter in self.params.items()})
        totals = torch.linalg.vector_norm(norms, dim=0)
        self._check_finite(losses.detach(), totals)
        points = {"raw": norms[self._layer_rows]}
        points["clipped"] = points["raw"] * self._clip(totals)
        before = {name: parameter.detach().clone() for name, parameter in self.params.items()} if measure else {}
        self._step()
        if measure:
            moved = self._norms({name: self.params[name].detach() - old for name, old in before.items()})
            points["update"] = moved[self._layer_rows]
            weights = self._norms(before)[self._layer_rows]
        return [
            UpdateReport(
                output,
                learner.layers,
                {point: rows[:, member] for point, rows in points.items()},
                total,
                weights=weights[:, member] if measure else None,
            )
            for member, (learner, output, total) in enumerate(zip(self.learners, outputs, totals, strict=True))
        ]

    def gather(self) -> None:
        """Take over the members' optimizer states, where the stack steps for them."""
        first = self.learners[0]
        if first.spec.optimizer not in ELEMENTWISE:
            return
        self.optimizer = build_optimizer(self.network, first.spec, first.seed)
        states = [learner.optimizers[self.group].state for learner in self.learners]
        for name, parameter in self.params.items():
            own = [state.get(members[name], {}) for state, members in zip(states, self._own, strict=True)]
            self.optimizer.state[parameter].update(
                {key: _joined(key, [state[key] for state in own], parameter) for key in own[0]}
            )

    def scatter(self) -> None:
        """Give the members their optimizer states, as views of the stack's."""
        if self.optimizer is None:
            return
        for name, parameter in self.params.items():
            for member, (learner, own) in enumerate(zip(self.learners, self._own, strict=True)):
                learner.optimizers[self.group].state[own[name]] = {
                    key: value[member] if _is_stacked(value, parameter) else value
                    for key, value in self.optimizer.state[parameter].items()
                }

    def _losses(self, batch: Batch) -> list[LossOutput]:
        logits, features = functional_call(self.network, masks_of(batch), (batch["obs"],), {"with_features": True})
        labels = batch["labels"]
        rows = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses = rows.view(labels.shape).mean(dim=1)
        accuracies = (logits.argmax(-1) == labels).float().mean(dim=1).detach()
        return [
            LossOutput(loss, of_member, {"losses/accuracy": accuracy})
            for loss, of_member, accuracy in zip(losses, features, accuracies, strict=True)
        ]

    @staticmethod
    def _norms(tensors: Mapping[str, Tensor | None]) -> Tensor:
        """The L2 norm of each parameter's part of each member [parameters, S]."""
        return torch.stack([torch.linalg.vector_norm(t.flatten(1), dim=1) for t in tensors.values() if t is not None])

    def _check_finite(self, losses: Tensor, totals: Tensor) -> None:
        finite = torch.isfinite(losses + totals).tolist()
        if all(finite):
            return
        self._hand_out_gradients()
        raise NotFinite(
            {
                member: self.learners[member].name_the_first(losses[member])
                for member, good in enumerate(finite)
                if not good
            }
        )

    def _clip(self, totals: Tensor) -> Tensor | float:
        """Clip each member's gradient by itself; the factors [S], or 1 where nothing is clipped."""
        limit = self.learners[0].spec.max_grad_norm
        if limit is None:
            return 1.0
        factors = (limit / (totals + 1e-6)).clamp(max=1.0)
        for parameter in self.params.values():
            assert parameter.grad is not None
            parameter.grad.mul_(factors.view(-1, *[1] * (parameter.ndim - 1)))
        return factors

    def _step(self) -> None:
        optimizers = [learner.optimizers[self.group] for learner in self.learners]
        if self.optimizer is None:
            self._hand_out_gradients()
        else:
            optimizers = [self.optimizer]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learners[0].learning_rate(self.group)
            optimizer.step()

    def _hand_out_gradients(self) -> None:
        for member, own in enumerate(self._own):
            for name, parameter in own.items():
                gradient = self.params[name].grad
                parameter.grad = None if gradient is None else gradient[member]


def _is_stacked(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _joined(key: str, values: Sequence[Any], parameter: Tensor) -> Any:
    """The members' values of one kind of state as one: stacked, but for what counts steps, which they share."""
    first = values[0]
    if key != "step" and isinstance(first, Tensor) and first.shape == parameter.shape[1:]:
        return torch.stack(list(values))
    return first
