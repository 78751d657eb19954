"""Measures what happens inside a deep network as it trains: probes, the metric catalogue, and a diagnosis.

Every probe is a pure function of a module and a batch: it leaves parameters, gradients, buffers, training
mode and every random generator as they were. Names are imported on first use, so that the catalogue stays
free of torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stablegrad.diagnostics import (
        battery,
        capacity,
        catalogue,
        churn,
        curvature,
        features,
        gradients,
        ntk,
        parts,
        purity,
        ranks,
        units,
    )
    from stablegrad.diagnostics.diagnosis import Diagnosis, diagnose

_MODULES = (
    "battery",
    "capacity",
    "catalogue",
    "churn",
    "curvature",
    "features",
    "gradients",
    "ntk",
    "parts",
    "purity",
    "ranks",
    "units",
)

__all__ = [
    "Diagnosis",
    "battery",
    "capacity",
    "catalogue",
    "churn",
    "curvature",
    "diagnose",
    "features",
    "gradients",
    "ntk",
    "parts",
    "purity",
    "ranks",
    "units",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"stablegrad.diagnostics.{name}")
    if name in ("Diagnosis", "diagnose"):
        return getattr(importlib.import_module("stablegrad.diagnostics.diagnosis"), name)
    raise AttributeError(f"module 'stablegrad.diagnostics' has no attribute '{name}'")
