"""From an OptimizerSpec to an optimizer: which settings apply to which group, and to which recipe."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stablegrad.agents.base import Algorithm
from stablegrad.errors import UserError, nearest
from stablegrad.optim import build, info
from stablegrad.registry import users_code
from stablegrad.runs.config import OptimizerSpec
from stablegrad.settings import annotations
from stablegrad.settings import build as build_section


def spec_of(agent: Algorithm, group: str, spec: OptimizerSpec) -> OptimizerSpec:
    """What a group's optimizer is asked for: what the run's is, but for what the agent says of the group."""
    what = f"{type(agent).__name__}: the optimizer of group '{group}'"
    with users_code(f"{what}:"):
        asked = agent.optimizer_settings(group)
    if not isinstance(asked, Mapping):
        raise UserError(f"{what}: optimizer_settings must return a dict, not {type(asked).__name__}")
    known = annotations(OptimizerSpec)
    problems = [f"it has no setting '{name}'{nearest(str(name), known)}" for name in asked if name not in known]
    found = build_section(OptimizerSpec, {**dataclasses.asdict(spec), **asked}, problems)
    if problems:
        raise UserError([f"{what}: {problem}" for problem in problems])
    return found


def build_optimizer(module: nn.Module, spec: OptimizerSpec, seed: int) -> torch.optim.Optimizer:
    """The optimizer of one module's parameters. UserError for a setting that its recipe does not have."""
    given = {"weight_decay": spec.weight_decay, "eps": spec.optimizer_eps}
    recipe = info(spec.optimizer)
    options: dict[str, Any] = {**recipe.speed, **{name: value for name, value in given.items() if value is not None}}
    if spec.optimizer == "kron":
        options |= {"conv_view": spec.conv_view, "update_probability": spec.update_probability}
    if recipe.seeded:
        options["seed"] = seed
    return build(spec.optimizer, list(module.parameters()), spec.learning_rate, **options)
