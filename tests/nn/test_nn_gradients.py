"""What depth does to the gradient at the first layer of the trunk, before any training.

With orthogonal weights of gain sqrt(2) a plain ReLU trunk of 12 layers passes its gradient on at the start: the
collapse of such networks comes with training. What the skips change at the start is how the gradient depends on
the layers above: a product of 11 of them in a plain trunk, a sum over paths in a multi-skip one.
"""

import math

import pytest
import torch
from torch import nn

from stablegrad.nn import NetworkSpec, build_trunk, taps


def first_and_last_gradient(trunk: nn.Module) -> tuple[float, float]:
    """Norms of the gradients of a fixed linear function of the features, first and last weight of the trunk."""
    generator = torch.Generator().manual_seed(9)
    x = torch.rand(64, 100, generator=generator)
    weights = [dict(trunk.named_parameters())[name] for name in taps.layers(trunk).values()]
    loss = (trunk(x) * torch.randn(512, generator=generator)).mean()
    first, last = torch.autograd.grad(loss, [weights[0], weights[-1]])
    return first.norm().item(), last.norm().item()


def trunk_of(mlp_type: str, seed: int, **fields: object) -> nn.Module:
    spec = NetworkSpec(mlp_type=mlp_type, mlp_width=128, mlp_depth="large", use_ln=False, **fields)
    return build_trunk(spec, 100, generator=torch.Generator().manual_seed(seed))


def ratio(trunk: nn.Module) -> float:
    first, last = first_and_last_gradient(trunk)
    return first / last


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_sigmoids_the_gradient_vanishes_in_a_plain_trunk_and_not_in_a_multiskip_one(seed: int) -> None:
    """Each sigmoid passes at most a quarter: (sqrt(2) / 4)^11 is 1e-5."""
    assert ratio(trunk_of("default", seed, activation_fn="sigmoid")) < 1e-4
    assert ratio(trunk_of("multiskip_residual", seed, activation_fn="sigmoid")) > 0.3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_relu_it_does_not_vanish_at_this_initialisation(seed: int) -> None:
    """The control of the test above, and the reason why it says sigmoid."""
    assert ratio(trunk_of("default", seed)) > 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_halving_every_weight_costs_a_plain_trunk_two_to_the_eleven(seed: int) -> None:
    """A gradient at the first of 12 layers is a product of the 11 others; ReLU is homogeneous, so it is exact."""
    shrunk = {}
    for mlp_type in ("default", "multiskip_residual"):
        trunk = trunk_of(mlp_type, seed)
        before, _ = first_and_last_gradient(trunk)
        with torch.no_grad():
            for parameter in trunk.parameters():
                parameter.mul_(0.5)
        after, _ = first_and_last_gradient(trunk)
        shrunk[mlp_type] = after / before
    assert math.isclose(shrunk["default"], 2**-11, rel_tol=1e-3)
    assert shrunk["multiskip_residual"] > 2**-4
