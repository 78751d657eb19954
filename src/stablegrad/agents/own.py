"""The border to agents that somebody else wrote: what is wrong is one sentence, before training where it can be."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.agents.base import Algorithm, LossOutput
from stablegrad.errors import UserError
from stablegrad.settings import annotations, supported


def check_kind(name: str, kind: Any) -> None:
    """UserError, with everything that is wrong, where what `name` names is not a class of agents."""
    if not isinstance(kind, type) or not issubclass(kind, Algorithm):
        raise UserError(f"{name} is not an agent: write a subclass of stablegrad.agents.base.Agent")
    problems = []
    if inspect.isabstract(kind):
        problems.append(f"{name} has no {', '.join(sorted(kind.__abstractmethods__))}: every agent writes its own")
    config = getattr(kind, "Config", None)
    if not isinstance(config, type) or not dataclasses.is_dataclass(config):
        problems.append(f"{name} has no Config: write a frozen dataclass of its settings (it may be empty)")
    else:
        problems += [
            f"{name}: no flag can have the type of the setting {field} ({annotation}): take bool, int, float, str, a"
            " Literal, a tuple of one of them, or one of them or None"
            for field, annotation in annotations(config).items()
            if not supported(annotation)
        ]
    if problems:
        raise UserError(problems)


def check_built(name: str, agent: Any) -> None:
    """UserError where an agent names no modules that could be trained."""
    groups = getattr(agent, "groups", None)
    if not isinstance(groups, Mapping) or not groups:
        raise UserError(f"{name}: its __init__ has to set `groups`, a dict of the modules to train by name")
    problems = [
        f"{name}: the group '{group}' is a {type(module).__name__}, not an nn.Module with parameters to train"
        for group, module in groups.items()
        if not isinstance(module, nn.Module) or not any(p.requires_grad for p in module.parameters())
    ]
    if problems:
        raise UserError(problems)


def check_actions(agent: Any, actions: Any, space: spaces.Space[Any], *, num_envs: int, method: str) -> None:
    """UserError where `actions`, which a method of the agent returned, are not one of `space` for each environment."""
    said = f"{type(agent).__name__}.{method} returned"
    shape = (num_envs, *(space.shape or ()))
    if not isinstance(actions, np.ndarray):
        raise UserError(f"{said} a {type(actions).__name__}, not a numpy array of shape {shape}")
    if actions.shape != shape:
        raise UserError(f"{said} actions of shape {actions.shape}, not {shape}")
    if isinstance(space, spaces.Box):
        if actions.dtype.kind not in "fiu" or not np.isfinite(actions).all():
            raise UserError(f"{said} actions that are not finite numbers")
        return
    if actions.dtype.kind not in "iub":
        raise UserError(f"{said} actions of type {actions.dtype}, not whole numbers")
    wrong = [action for action in actions if not space.contains(space.dtype.type(action))]  # type: ignore[union-attr]
    if wrong:
        raise UserError(f"{said} the action {wrong[0]}, which is not in {space}")


def check_batch(agent: Any, batch: Any) -> None:
    """UserError where a batch is not a mapping of tensors with the observations among them."""
    said = f"{type(agent).__name__}.batches gave"
    if not isinstance(batch, Mapping):
        raise UserError(f"{said} a {type(batch).__name__}, not a dict of tensors by name")
    if not isinstance(batch.get("obs"), Tensor):
        raise UserError(f"{said} a batch without 'obs', a tensor of the observations")


def check_loss(agent: Any, output: Any) -> None:
    """UserError where what `loss` returned cannot be learnt from."""
    said = f"{type(agent).__name__}.loss returned"
    if not isinstance(output, LossOutput):
        raise UserError(f"{said} {_what(output)}, not a LossOutput")
    loss = output.loss
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        raise UserError(f"{said} a loss that is {_what(loss)}, not a tensor of one number: take its mean")
    if not loss.requires_grad:
        raise UserError(
            f"{said} a loss that depends on no parameter: call the network through functional_call with the parameters"
            " that loss is given, and do not detach what comes out"
        )
    if not isinstance(output.metrics, Mapping) or not all(_is_number(value) for value in output.metrics.values()):
        raise UserError(f"{said} metrics that are not a dict of numbers")


def check_metrics(agent: Any, metrics: Any) -> None:
    """UserError where the agent's metrics are not numbers by name."""
    if not isinstance(metrics, Mapping) or not all(_is_number(value) for value in metrics.values()):
        raise UserError(f"{type(agent).__name__}.metrics returned {_what(metrics)}, not a dict of numbers by name")


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0
    return isinstance(value, int | float | np.number)


def _what(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"
