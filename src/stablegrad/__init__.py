"""Deep reinforcement learning with networks that grow: train, diagnose, repair, prove.

    import stablegrad as sg

    run = sg.train("pqn", "MinAtar/Breakout", total_timesteps=100_000, mlp_type="multiskip_residual", progress=True)
    run.plot(); print(run.doctor()); run.evaluate(100)

Everything here is imported on first use, so that `import stablegrad` and the command line's `--help` do not pay for
torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stablegrad.api import Run, RunFailed, fork, load_run, resume, sweep, train, train_seeds
    from stablegrad.diagnostics import diagnose
    from stablegrad.errors import UserError
    from stablegrad.nn import NetworkSpec, build_network
    from stablegrad.optim import Kron
    from stablegrad.policy import Policy

_HOMES = {
    "Kron": "optim",
    "NetworkSpec": "nn",
    "Policy": "policy",
    "Run": "api",
    "RunFailed": "api",
    "UserError": "errors",
    "build_network": "nn",
    "diagnose": "diagnostics",
    "fork": "api",
    "load_run": "api",
    "resume": "api",
    "sweep": "api",
    "train": "api",
    "train_seeds": "api",
}

__all__ = [
    "Kron",
    "NetworkSpec",
    "Policy",
    "Run",
    "RunFailed",
    "UserError",
    "build_network",
    "diagnose",
    "fork",
    "load_run",
    "resume",
    "sweep",
    "train",
    "train_seeds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stablegrad' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"stablegrad.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
