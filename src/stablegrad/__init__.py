"""Deep reinforcement learning with networks that grow: train, diagnose, repair, prove.

`train` and `load_run` are imported on first use, so that `import stablegrad` and the command line's `--help`
do not pay for torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load_run", "train"]

if TYPE_CHECKING:
    from stablegrad.api import load_run, train


def __getattr__(name: str) -> Any:
    if name in __all__:
        from stablegrad import api

        return getattr(api, name)
    raise AttributeError(f"module 'stablegrad' has no attribute '{name}'")
