"""Spectral norm: weights of norm one, a pure forward pass, the trunk only."""

import torch
from gymnasium import spaces
from torch import nn

from stablegrad.nn import NetworkSpec, SpectralLinear, advance_power_iteration_, build_network, initialise_


def effective(layer: SpectralLinear) -> torch.Tensor:
    eye = torch.eye(layer.in_features)
    return (layer(eye) - layer.bias).detach().T


def random_layer() -> SpectralLinear:
    layer = initialise_(SpectralLinear(20, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.copy_(torch.randn(30, 20, generator=torch.Generator().manual_seed(1)))
    return layer


def test_the_effective_weight_has_spectral_norm_one() -> None:
    layer = random_layer()
    for _ in range(200):
        advance_power_iteration_(layer)
    torch.testing.assert_close(effective(layer), layer.weight / torch.linalg.matrix_norm(layer.weight, 2))
    assert torch.linalg.matrix_norm(layer.weight, 2) > 5  # the raw weight is far from it


def test_the_forward_pass_stores_nothing_and_advancing_does() -> None:
    layer, x = random_layer(), torch.randn(2, 20)
    before = layer.u.clone()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(layer.u, before)
    advance_power_iteration_(layer)
    assert not torch.equal(layer.u, before)


def test_the_gradient_is_that_of_w_over_sigma() -> None:
    """Against torch's own implementation, started from the same singular vectors."""
    ours = random_layer()
    for _ in range(200):
        advance_power_iteration_(ours)
    theirs = nn.Linear(20, 30)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    theirs = nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=200)
    x = torch.randn(4, 20)
    torch.testing.assert_close(ours(x), theirs(x))
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original.grad)


def test_it_follows_a_weight_that_trains() -> None:
    """One stored iteration a step is enough to keep the norm near one."""
    layer = random_layer()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(2)
    for _ in range(100):
        optimizer.zero_grad()
        layer(torch.randn(8, 20, generator=generator)).square().mean().backward()
        optimizer.step()
        advance_power_iteration_(layer)
    assert abs(torch.linalg.matrix_norm(effective(layer), 2) - 1) < 0.01


def test_the_trunk_is_normalised_and_the_head_is_not(minatar: spaces.Box) -> None:
    network = build_network(NetworkSpec(use_spectral_norm=True, mlp_width=32), minatar, 3)
    inside = {name for name, part in network.named_modules() if isinstance(part, SpectralLinear)}
    assert inside == {f"trunk.{layer}.linear" for layer in range(4)}
    assert type(network.head) is nn.Linear
    plain = build_network(NetworkSpec(mlp_width=32), minatar, 3)
    assert dict(network.named_parameters()).keys() == dict(plain.named_parameters()).keys()
