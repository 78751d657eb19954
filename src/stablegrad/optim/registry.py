"""From a name and a learning rate to an optimizer."""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stablegrad.errors import UserError, nearest
from stablegrad.optim.info import OPTIMIZERS, OptimizerInfo, info
from stablegrad.registry import in_words

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.optimizer import ParamsT


_OF_AN_OPTIMIZER = ("param_groups", "step", "zero_grad", "state_dict", "load_state_dict")


def option_names(name: str) -> tuple[str, ...]:
    """The options that `build(name, …)` takes beside the parameters and the learning rate."""
    parameters = list(inspect.signature(_factory(info(name))).parameters.values())[1:]
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(p.name for p in parameters if p.name != "lr" and p.kind not in starred)


def build(name: str, params: "ParamsT", lr: "float | Tensor", **options: Any) -> "Optimizer":
    """The optimizer called `name` (or `path/to/file.py:Name`) over parameters or parameter groups.

    `lr` is used as given: `lr_scale` is for whoever resolves a config. Raises UserError for an unknown name
    or option, and for a value that the optimizer refuses.
    """
    recipe = info(name)
    factory = _factory(recipe)
    known = option_names(name)
    if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(factory).parameters.values()):
        unknown = [
            f"optimizer '{name}' has no option '{option}'{nearest(option, known)}; known: {', '.join(known)}"
            for option in options
            if option not in known
        ]
        if unknown:
            raise UserError(unknown)
    try:
        optimizer: Optimizer = factory(params, lr=lr, **{**recipe.defaults, **options})
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer '{name}': {error}") from error
    except (Exception, SystemExit) as error:
        if name in OPTIMIZERS:
            raise
        raise UserError(f"optimizer '{name}' cannot be built: {in_words(error)}") from error
    lacking = [part for part in _OF_AN_OPTIMIZER if not hasattr(optimizer, part)]
    if lacking:
        raise UserError(
            f"optimizer '{name}' is a {type(optimizer).__name__} without {', '.join(lacking)}: write a"
            " torch.optim.Optimizer, or a function that returns one"
        )
    return optimizer


def _factory(recipe: OptimizerInfo) -> Callable[..., Any]:
    if callable(recipe.factory):
        return recipe.factory
    module, _, attribute = recipe.factory.partition(":")
    factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return factory
