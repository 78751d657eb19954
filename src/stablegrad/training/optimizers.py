"""From an OptimizerSpec to an optimizer: which settings apply to which recipe."""

from typing import Any

import torch
from torch import nn

from stablegrad.optim import build, info
from stablegrad.runs.config import OptimizerSpec


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
