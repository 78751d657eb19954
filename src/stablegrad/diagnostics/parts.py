"""Where a network's head begins: its features, found in any `nn.Module` by following the output back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stablegrad.diagnostics.purity import undisturbed
from stablegrad.errors import UserError

Network = Callable[[Tensor], Any]
"""A module, or any function from observations [B, *] to outputs."""


class Parts(NamedTuple):
    """A network cut in two: `features(obs) -> [B, D]`, `head(features) -> outputs`."""

    features: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]

    def __call__(self, obs: Tensor) -> Tensor:
        return self.head(self.features(obs))


class _Call(NamedTuple):
    module: nn.Module
    given: Any
    returned: Any


def outputs(network: Network, obs: Tensor) -> Tensor:
    """The network's outputs on `obs`, without gradient or trace; the first tensor if it returns several."""
    with torch.no_grad(), undisturbed(*_modules(network)):
        return first_tensor(network(obs))


def features(network: Network, obs: Tensor) -> Tensor:
    """What feeds the network's head, `[B, D]`: the input of the last layer that has parameters, flattened.

    Raises UserError when `network` is a plain function, or its output is not what one of its submodules
    returned.
    """
    if isinstance(network, Parts):
        with torch.no_grad():
            return network.features(obs).flatten(1)
    fed, _ = _cut(_require_module(network), obs)
    return fed.flatten(1)


def split(network: Network, obs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The features on `obs` as the head takes them, and the head as a function. Errors as `features`."""
    if isinstance(network, Parts):
        with torch.no_grad():
            return network.features(obs), network.head
    fed, chain = _cut(_require_module(network), obs)

    def head(given: Tensor) -> Tensor:
        with torch.no_grad(), undisturbed(*chain):
            for layer in chain:
                given = first_tensor(layer(given))
        return given

    return fed, head


def first_tensor(output: Any) -> Tensor:
    """`output` itself, or the first tensor in a tuple, list or dict of outputs.

    Raises UserError when there is none.
    """
    if isinstance(output, Tensor):
        return output
    values = (
        output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    )
    for value in values:
        if isinstance(value, Tensor):
            return value
    raise UserError(f"the network must return a tensor or several, not {type(output).__name__}")


def _cut(module: nn.Module, obs: Tensor) -> tuple[Tensor, list[nn.Module]]:
    """The input of the last layer with parameters, and the chain of modules from there to the output."""
    calls: list[_Call] = []

    def note(layer: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        calls.append(_Call(layer, given[0] if given else None, returned))

    handles = [part.register_forward_hook(note) for part in module.modules() if part is not module]
    try:
        with torch.no_grad(), undisturbed(module):
            target = first_tensor(module(obs))
    finally:
        for handle in handles:
            handle.remove()
    chain: list[nn.Module] = []
    while True:
        # Inner modules return before the ones around them, so the first match is the innermost.
        made = next((call for call in calls if call.returned is target and call.module not in chain), None)
        if made is None or not isinstance(made.given, Tensor):
            raise UserError(
                f"cannot tell where the head of {type(module).__name__} begins: its output is not what one of"
                " its layers returned; pass stablegrad.diagnostics.parts.Parts(features=…, head=…) instead"
            )
        chain.insert(0, made.module)
        target = made.given
        if any(True for _ in made.module.parameters()):
            return target, chain


def _require_module(network: Network) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    raise UserError(
        "a plain function has no features to look at: pass the nn.Module, or"
        " stablegrad.diagnostics.parts.Parts(features=…, head=…)"
    )


def _modules(network: Network) -> tuple[nn.Module, ...]:
    return (network,) if isinstance(network, nn.Module) else ()
