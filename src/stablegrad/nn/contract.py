"""The promises of a trunk or an encoder, as checks that anybody's network can be put to.

Each check is a sentence and the violations it found, one sentence each; none where the promise is kept.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call

from stablegrad.errors import UserError
from stablegrad.nn.build import Encoder, build_encoder, build_trunk
from stablegrad.nn.noisy import NoisyLinear
from stablegrad.nn.spec import NetworkSpec

Check = tuple[str, list[str]]

IN_FEATURES = 24
_ROWS = 8
_BUILT = "it can be built, and gives [B, D]"


def check_trunk(name: str, fields: Mapping[str, Any], in_features: int = IN_FEATURES) -> Iterator[Check]:
    """The promises of the `mlp_type` of this name; `fields` are those of its NetworkSpec that are given."""
    spec = NetworkSpec(**{**fields, "mlp_type": name})
    inputs = torch.randn(_ROWS, in_features, generator=torch.Generator().manual_seed(1))

    def build(seed: int, linear: type[nn.Module] = nn.Linear) -> nn.Module:
        return build_trunk(spec, in_features, linear=linear, generator=torch.Generator().manual_seed(seed))

    for promise, problems in _checks(build, inputs):
        yield promise, problems
        if promise == _BUILT and problems:
            return
    yield "its layers are made by `linear`, so that they can be noisy", _layers_ignored(build)


def check_encoder(name: str, fields: Mapping[str, Any], space: spaces.Space[Any]) -> Iterator[Check]:
    """The promises of the `cnn_type` of this name, on observations of `space`."""
    spec = NetworkSpec(**{**fields, "cnn_type": name})
    inputs = torch.rand(_ROWS, *(space.shape or ()), generator=torch.Generator().manual_seed(1))

    def build(seed: int) -> nn.Module:
        encoder = build_encoder(spec, space, generator=torch.Generator().manual_seed(seed))
        assert isinstance(encoder, Encoder), "observations of several parts have several encoders"
        return encoder.net

    yield from _checks(build, inputs)


def _checks(build: Any, inputs: Tensor) -> Iterator[Check]:
    try:
        module: nn.Module = build(1)
    except UserError as error:
        yield _BUILT, list(error.problems)
        return
    yield _BUILT, []
    yield "the same seed gives the same parameters", _seeds(build)
    yield "a forward pass draws nothing and changes nothing", _forward(module, inputs)
    yield "rows of a batch do not see each other", _rows(module, inputs)
    yield "its parameters are registered, and all are trained", _parameters(module, inputs)
    yield "it can be copied and saved", _copies(build, module, inputs)


def _seeds(build: Any) -> list[str]:
    before = torch.get_rng_state()
    first, again, other = (dict(build(seed).named_parameters()) for seed in (1, 1, 2))
    problems = [f"{name} differs between two builds from one seed" for name in first if not _equal(first, again, name)]
    if any(parameter.ndim > 1 for parameter in first.values()) and all(_equal(first, other, name) for name in first):
        problems.append("another seed gives the same parameters")
    if not torch.equal(before, torch.get_rng_state()):
        problems.append("building it moves torch's global generator")
    return problems


def _forward(module: nn.Module, inputs: Tensor) -> list[str]:
    state = copy.deepcopy(module.state_dict())
    before = torch.get_rng_state()
    with torch.no_grad():
        first, second = module(inputs), module(inputs)
    problems = []
    if not torch.equal(before, torch.get_rng_state()):
        problems.append("it draws random numbers (dropout?): a loss would not be a function of its inputs")
    if not torch.equal(first, second):
        problems.append("two passes over one batch differ")
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, state[name])]
    return problems + [f"a forward pass changes {name} (running statistics?)" for name in changed]


def _rows(module: nn.Module, inputs: Tensor) -> list[str]:
    with torch.no_grad():
        together, alone = module(inputs)[:2], module(inputs[:2])
    if torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
        return []
    return ["the output for an input depends on the others in its batch (batch normalisation?)"]


def _parameters(module: nn.Module, inputs: Tensor) -> list[str]:
    params = {name: (p + 0.1).detach().requires_grad_() for name, p in module.named_parameters()}
    if not params:
        return []
    with torch.no_grad():
        own = module(inputs)
    output = functional_call(module, params, (inputs,))
    if torch.equal(own, output):
        return ["other parameters handed to functional_call change nothing: the layers are not its submodules"]
    gradients = torch.autograd.grad(output.square().sum(), list(params.values()), allow_unused=True)
    return [f"{name} gets no gradient" for name, found in zip(params, gradients, strict=True) if found is None]


def _copies(build: Any, module: nn.Module, inputs: Tensor) -> list[str]:
    restored = build(2)
    restored.load_state_dict(module.state_dict())
    with torch.no_grad():
        expected = module(inputs)
        if not torch.equal(copy.deepcopy(module)(inputs), expected):
            return ["a deep copy gives something else"]
        if not torch.equal(restored(inputs), expected):
            return ["its state_dict is not all of it: loaded into another, it gives something else"]
    return []


def _layers_ignored(build: Any) -> list[str]:
    plain = [layer for layer in build(1, NoisyLinear).modules() if isinstance(layer, nn.Linear)]
    if not plain:
        return []
    return [f"{len(plain)} of its layers are nn.Linear whatever `linear` is: --noisy all has no effect on them"]


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str) -> bool:
    return name in other and torch.equal(one[name], other[name])
