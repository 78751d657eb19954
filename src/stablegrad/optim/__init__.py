"""Optimizers: Kron, and a registry of recipes. Listing the recipes does not import torch."""

import importlib
from typing import TYPE_CHECKING, Any

from stablegrad.optim.info import OPTIMIZERS, OptimizerInfo, info
from stablegrad.optim.registry import build, option_names

if TYPE_CHECKING:
    from stablegrad.optim.kron import Kron

__all__ = ["OPTIMIZERS", "Kron", "OptimizerInfo", "build", "info", "option_names"]


def __getattr__(name: str) -> Any:
    if name == "Kron":
        return importlib.import_module("stablegrad.optim.kron").Kron
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
