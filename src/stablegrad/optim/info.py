"""Which optimizers there are, what they need and where they come from: data, readable without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stablegrad.errors import UserError
from stablegrad.registry import Registry


@dataclass(frozen=True, kw_only=True)
class OptimizerInfo:
    """A recipe for an optimizer.

    factory: called as `factory(params, lr=…, **options)`; "module:attribute" is imported on first use.
    lr_scale: what a learning rate tuned for Adam is multiplied by, once, when a config is resolved.
    defaults: options that differ from the factory's own defaults.
    speed: options under which the same step takes less time; training sets them.
    adam_like: whether its `eps` is Adam's, added to the root of the second moment: an agent's own is meant for these.
    compile_safe: whether its step may be compiled or captured in a CUDA graph.
    second_order: whether it estimates curvature, so that its state is expensive to lose and to keep.
    moments: numbers that it keeps for each parameter, at the least.
    seeded: whether it draws random numbers and takes `seed=`.
    """

    name: str
    factory: str | Callable[..., Any]
    description: str
    citation: str
    lr_scale: float = 1.0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    speed: Mapping[str, Any] = field(default_factory=dict)
    adam_like: bool = False
    compile_safe: bool = True
    second_order: bool = False
    moments: int = 0
    seeded: bool = False


_BUILT_IN = (
    OptimizerInfo(
        name="adam",
        factory="torch.optim:Adam",
        description="momentum over the root mean square of past gradients",
        citation="Kingma and Ba 2015, arXiv:1412.6980",
        adam_like=True,
        speed={"fused": True},
        moments=2,
    ),
    OptimizerInfo(
        name="adamw",
        factory="torch.optim:AdamW",
        description="Adam with decoupled weight decay",
        citation="Loshchilov and Hutter 2019, arXiv:1711.05101",
        adam_like=True,
        speed={"fused": True},
        moments=2,
    ),
    OptimizerInfo(
        name="radam",
        factory="torch.optim:RAdam",
        description="Adam whose first steps wait for a trustworthy variance; the published default of PQN",
        citation="Liu et al. 2020, arXiv:1908.03265",
        adam_like=True,
        speed={"foreach": True},
        moments=2,
    ),
    OptimizerInfo(
        name="sgd",
        factory="torch.optim:SGD",
        description="the gradient, with momentum where asked for",
        citation="Robbins and Monro 1951, doi:10.1214/aoms/1177729586",
    ),
    OptimizerInfo(
        name="rmsprop",
        factory="torch.optim:RMSprop",
        description="the gradient over the root mean square of past gradients",
        citation="Tieleman and Hinton 2012, lecture 6.5 of Neural Networks for Machine Learning",
        moments=1,
    ),
    OptimizerInfo(
        name="kron",
        factory="stablegrad.optim.kron:Kron",
        description="PSGD: momentum whitened by Kronecker factors, which keeps deep networks learning",
        citation="Li 2018, arXiv:1512.04202 and arXiv:1809.10232; constants of kron_torch 0.3.3",
        lr_scale=1 / 3,
        compile_safe=False,
        second_order=True,
        seeded=True,
        moments=1,
    ),
)

OPTIMIZERS = Registry("optimizer", {entry.name: entry for entry in _BUILT_IN})


def info(name: str) -> OptimizerInfo:
    """The recipe called `name`, or the one made from `path/to/file.py:Name`: a recipe or an optimizer class.

    Raises UserError for any other name.
    """
    entry = OPTIMIZERS[name]
    if isinstance(entry, OptimizerInfo):
        return entry
    if not callable(entry):
        raise UserError(f"optimizer '{name}' is a {type(entry).__name__}, not a class or function that makes one")
    summary = (entry.__doc__ or "").strip().partition("\n")[0]
    return OptimizerInfo(name=name, factory=entry, description=summary, citation="", compile_safe=False)
