"""The two forms in which a caller may state a loss, made one."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from stablegrad.diagnostics.parts import first_tensor
from stablegrad.errors import UserError

LossFn = Callable[..., Tensor]
"""A scalar loss: a function of the network's outputs, or of nothing (it runs the network itself)."""


def closure(module: nn.Module, batch: Any, loss_fn: LossFn | None) -> Callable[[], Tensor]:
    """`loss_fn` as a function of nothing; without one, half the mean square of the (first) outputs on `batch`.

    Raises UserError when `loss_fn` needs more than the outputs.
    """
    if loss_fn is None:
        return lambda: first_tensor(_call(module, batch)).square().mean() / 2
    needed = [
        parameter
        for parameter in inspect.signature(loss_fn).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if not needed:
        return loss_fn
    if len(needed) == 1:
        return lambda: loss_fn(_call(module, batch))
    raise UserError(
        f"loss_fn needs {', '.join(one.name for one in needed)}: it may take the network's outputs only, or"
        " nothing; bind the rest, as in lambda outputs: mse_loss(outputs, targets)"
    )


def _call(module: nn.Module, batch: Any) -> Any:
    return module(*batch) if isinstance(batch, tuple | list) else module(batch)
