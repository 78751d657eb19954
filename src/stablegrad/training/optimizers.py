"""From an OptimizerSpec to an optimizer: which settings apply to which recipe."""

from typing import Any

import torch
from torch import nn

from stablegrad.optim import build
from stablegrad.runs.config import OptimizerSpec


def build_optimizer(module: nn.Module, spec: OptimizerSpec, seed: int) -> torch.optim.Optimizer:
    """The optimizer of one module's parameters, with the settings of `spec` that its recipe has."""
    options: dict[str, Any] = {}
    if spec.weight_decay:
        options["weight_decay"] = spec.weight_decay
    if spec.optimizer == "kron":
        options |= {"conv_view": spec.conv_view, "update_probability": spec.update_probability, "seed": seed}
    elif spec.optimizer_eps is not None:
        options["eps"] = spec.optimizer_eps
    return build(spec.optimizer, list(module.parameters()), spec.learning_rate, **options)
