"""Every layer and every hidden unit of a network by name: of ours, and of anybody's `nn.Module`.

A layer is a module that owns a weight. Its units are what the activation function behind it gives: each unit
is recorded once, at the first activation that its layer's output reaches through norms, poolings, sums and
reshapes. So in a pre-activated residual stream the first layer of a block is recorded inside the block, and
the second one where the next block activates the sum. A layer whose output reaches no activation (the head,
or the last layer of a residual stream that feeds a linear layer) has no units.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Group = Literal["encoder", "trunk", "head", "other"]

Place = Literal["inputs", "outputs"]
"""Before or behind a unit's activation function."""

Reduce = Callable[[Tensor], Tensor]

ACTIVATION_FUNCTIONS = frozenset(
    {
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "rrelu",
        "threshold",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
    }
    | {"softplus", "softsign", "tanh", "sigmoid", "logsigmoid", "hardtanh", "hardswish", "hardsigmoid"}
)
"""Functions of torch that make hidden units, as modules, functions or methods, in place or not."""

_WITHOUT_UNITS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag)


class Units(NamedTuple):
    """One layer's units: their activation function's name, and its outputs [B, units] or [B, channels, *]."""

    function: str
    outputs: Tensor


def layers(module: nn.Module) -> dict[str, str]:
    """Layer name -> name of its weight parameter, in order of registration (in ours, of the forward).

    A layer's weight is its first parameter of two or more dimensions; norms and embeddings are no layers, and
    a weight that several layers share is named once. A parametrised weight is named by its original.
    """
    found: dict[str, str] = {}
    seen: set[int] = set()
    for path, part in module.named_modules():
        if isinstance(part, (*_WITHOUT_UNITS, parametrize.ParametrizationList)):
            continue
        for name, parameter in _own_parameters(part):
            if parameter.ndim >= 2:
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    found[path] = f"{path}.{name}" if path else name
                break
    return found


def group(layer_name: str) -> Group:
    """The part that a layer belongs to: the innermost of `encoder`, `trunk` and `head` in its name."""
    for part in reversed(layer_name.split(".")):
        if part in get_args(Group):
            return cast(Group, part)
    return "other"


def record(module: nn.Module, batch: Any, *, reduce: Reduce | None = None) -> dict[str, Tensor]:
    """Layer name -> its units' outputs on `batch`, in the order of the forward pass, in evaluation mode.

    `reduce` is applied to each activation at once, so that large ones need not be held. A layer that is
    called several times gives its outputs one after another, as one batch.
    """
    return {layer: units.outputs for layer, units in record_units(module, batch, reduce=reduce).items()}


def record_units(module: nn.Module, batch: Any, *, reduce: Reduce | None = None) -> dict[str, Units]:
    """As `record`, with the name of each layer's activation function."""
    with torch.no_grad(), _recording(module, lambda outputs: _kept(outputs, reduce)) as recorder:
        module(batch)
    return {layer: Units(function, _joined(kept)) for layer, (function, kept) in recorder.units.items()}


def record_gradients(
    module: nn.Module, loss_fn: Callable[[], Tensor], *, reduce: Reduce | None = None, at: Place = "outputs"
) -> dict[str, Tensor]:
    """Layer name -> gradient of the loss with respect to its units' outputs, shaped as they are.

    At "inputs" it is that with respect to the units before their activation function, which is 0 for a dead
    ReLU. `loss_fn()` runs `module`, by itself or through `torch.func.functional_call`, and returns a scalar.
    Layers that the loss does not depend on are left out; no parameter's `.grad` is written.
    """
    # An edge of the graph stays where it was taken when a later function works in place on its tensor.
    with torch.enable_grad(), _recording(module, _edge, at=at) as recorder:
        loss = loss_fn()
    calls = [(layer, edge) for layer, (_, kept) in recorder.units.items() for edge in kept if edge is not None]
    gradients: dict[str, list[Tensor]] = {}
    if calls:
        found = torch.autograd.grad(loss, [edge for _, edge in calls], allow_unused=True)
        for (layer, _), gradient in zip(calls, found, strict=True):
            if gradient is not None:
                gradients.setdefault(layer, []).append(gradient if reduce is None else reduce(gradient))
    return {layer: _joined(kept) for layer, kept in gradients.items()}


class _Call(NamedTuple):
    """One call of a layer; calls are ordered by `number`."""

    number: int
    layer: str


class _Recorder(TorchFunctionMode):
    """Follows the output of each layer's call through torch's functions to the first activation function."""

    def __init__(self, keep: Callable[[Tensor], Any], *, at: Place) -> None:
        super().__init__()
        self.units: dict[str, tuple[str, list[Any]]] = {}
        self._keep = keep
        self._at = at
        self._calls = 0
        self._recorded: set[_Call] = set()
        # Weakly: following a tensor must not keep it alive.
        self._origins: Any = WeakTensorKeyDictionary()

    def called(self, layer: str, outputs: Any) -> None:
        """A layer returned `outputs`."""
        self._calls += 1
        self._mark(outputs, frozenset({_Call(self._calls, layer)}))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        origins = [self._origins.get(tensor) for tensor in _tensors((args, *kwargs.values()))]
        waiting = frozenset(call for found in origins if found for call in found) - self._recorded
        function = getattr(func, "__name__", "").removesuffix("_")
        activates = function in ACTIVATION_FUNCTIONS
        if activates and waiting and self._at == "inputs":
            if args and not (kwargs.get("inplace") or func.__name__.endswith("_")):
                # An alias: a residual stream is also read by the skip, whose gradient is not the unit's.
                args = (args[0].view_as(args[0]), *args[1:])
            before = self._keep(next(_tensors((args, *kwargs.values()))))
        outputs = func(*args, **kwargs)
        if activates:
            if waiting:
                self._recorded |= waiting
                _, kept = self.units.setdefault(max(waiting).layer, (function, []))
                kept.append(before if self._at == "inputs" else self._keep(outputs))
            waiting = frozenset()
        if waiting or any(origins):
            self._mark(outputs, waiting)
        return outputs

    def _mark(self, outputs: Any, calls: frozenset[_Call]) -> None:
        for tensor in _tensors((outputs,)):
            self._origins[tensor] = calls


@contextmanager
def _recording(module: nn.Module, keep: Callable[[Tensor], Any], *, at: Place = "outputs") -> Iterator[_Recorder]:
    """Record within, in evaluation mode; hooks, modes and flags are as before on leaving, by whatever way."""
    recorder = _Recorder(keep, at=at)
    flags = [(part, part.training) for part in module.modules()]
    handles = []
    try:
        for layer in layers(module):

            def called(part: nn.Module, inputs: Any, outputs: Any, layer: str = layer) -> None:
                recorder.called(layer, outputs)

            handles.append(module.get_submodule(layer).register_forward_hook(called))
        module.eval()
        with recorder:
            yield recorder
    finally:
        for handle in handles:
            handle.remove()
        for part, training in flags:
            part.training = training


def _own_parameters(part: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """One module's parameters, without its children's; parametrised ones under their originals' names."""
    if parametrize.is_parametrized(part):
        for name, parameter in cast(nn.Module, part.parametrizations).named_parameters():
            yield f"parametrizations.{name}", parameter
    yield from part.named_parameters(recurse=False)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _edge(tensor: Tensor) -> GradientEdge | None:
    return get_gradient_edge(tensor) if tensor.requires_grad else None


def _kept(outputs: Tensor, reduce: Reduce | None) -> Tensor:
    # A copy: a later layer may work in place.
    return outputs.detach().clone() if reduce is None else reduce(outputs.detach())


def _joined(kept: list[Tensor]) -> Tensor:
    return kept[0] if len(kept) == 1 else torch.cat(kept)
