"""Where a network's head begins: its features, found in any `nn.Module` by following the output back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stablegrad.diagnostics.purity import undisturbed
from stablegrad.errors import UserError

Network = nn.Module | Callable[[Tensor], Any]
"""A module, or any function from observations [B, *] to outputs."""


class NoHead(UserError):
    """A network whose features cannot be told from its head."""


@dataclass(frozen=True)
class Parts:
    """A network cut in two: `features(obs) -> [B, D]`, `head(features) -> outputs`."""

    features: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]

    def __call__(self, obs: Tensor) -> Tensor:
        return self.head(self.features(obs))


class _Call(NamedTuple):
    module: nn.Module
    given: Any
    returned: Any


def run(network: Network, obs: Any) -> Any:
    """Whatever the network returns on `obs`, without gradient or trace."""
    modules = (network,) if isinstance(network, nn.Module) else ()
    with torch.no_grad(), undisturbed(*modules):
        return network(obs)


def features(network: Network, obs: Tensor) -> Tensor:
    """What feeds the network's head, `[B, D]`: the input of the last layer that has parameters, flattened.

    A single layer is all head: its features are its inputs.

    Raises NoHead when `network` is a plain function, or its output is not what one of its submodules
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
    several = output.values() if isinstance(output, dict) else output
    if isinstance(output, dict | tuple | list):
        for value in several:
            if isinstance(value, Tensor):
                return value
    raise UserError(f"the network must return a tensor or several, not {type(output).__name__}")


def critic_values(output: Any) -> Tensor | None:
    """The values `[B]` of an actor-critic that returned (policy, values, …), or None.

    A second tensor counts as values when it has one entry for each input, unless it is [B, 1] like the first:
    those are twin critics.
    """
    if isinstance(output, tuple | list) and len(output) > 1 and isinstance(output[1], Tensor):
        first, second = first_tensor(output), output[1]
        twins = first.shape == second.shape == (len(first), 1)
        return second.reshape(-1) if second.numel() == len(first) and not twins else None
    return None


def state_values(output: Any) -> Tensor:
    """V(x) `[B]` from what a network returned: the critic's values, else the largest output.

    Raises UserError when there is no tensor.
    """
    values = critic_values(output)
    if values is not None:
        return values
    first = first_tensor(output)
    return first.flatten(1).amax(dim=1) if first.ndim > 1 else first


def _cut(module: nn.Module, obs: Tensor) -> tuple[Tensor, list[nn.Module]]:
    """The input of the last layer with parameters, and the chain of modules from there to the output."""
    # Two rows are enough to find it, and their activations small enough to hold all at once.
    chain = _chain(module, obs[:2])
    fed: list[Tensor] = []

    def note(layer: nn.Module, given: tuple[Any, ...]) -> None:
        fed.append(given[0].clone())

    handle = chain[0].register_forward_pre_hook(note)
    try:
        run(module, obs)
    finally:
        handle.remove()
    return fed[-1], chain


def _chain(module: nn.Module, obs: Tensor) -> list[nn.Module]:
    if not any(True for _ in module.children()):
        return [module]
    calls: list[_Call] = []

    def note(layer: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        calls.append(_Call(layer, given[0] if given else None, returned))

    handles = [part.register_forward_hook(note) for part in module.modules() if part is not module]
    try:
        target = first_tensor(run(module, obs))
    finally:
        for handle in handles:
            handle.remove()
    chain: list[nn.Module] = []
    while True:
        # Inner modules return before the ones around them, so the first match is the innermost.
        made = next((call for call in calls if call.returned is target and call.module not in chain), None)
        if made is None or not isinstance(made.given, Tensor):
            raise NoHead(
                f"cannot tell where the head of {type(module).__name__} begins: its output is not what one of"
                " its layers returned; pass stablegrad.diagnostics.parts.Parts(features=…, head=…) instead"
            )
        chain.insert(0, made.module)
        target = made.given
        if any(True for _ in made.module.parameters()):
            return chain


def _require_module(network: Network) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    raise NoHead(
        "a plain function has no features to look at: pass the nn.Module, or"
        " stablegrad.diagnostics.parts.Parts(features=…, head=…)"
    )
