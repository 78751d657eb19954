"""Noisy layers: the formula, the stated variance, the factorised structure, and noise that only comes when drawn."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call, vmap

from stablegrad.nn import (
    Dueling,
    NetworkSpec,
    NoisyLinear,
    apply_noise_,
    build_torso,
    draw_noise,
    linear_head,
    zero_noise,
)


def test_the_formula_by_hand() -> None:
    layer = NoisyLinear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.weight_sigma.copy_(torch.tensor([[0.5, 0.25]]))
        layer.bias.fill_(3.0)
        layer.bias_sigma.fill_(0.1)
    apply_noise_(layer, {"noise_in": torch.tensor([2.0, -1.0]), "noise_out": torch.tensor([3.0])})
    # (1 + .5*3*2) * 10 + (-2 + .25*3*(-1)) * 100 + 3 + .1*3
    torch.testing.assert_close(layer(torch.tensor([[10.0, 100.0]])), torch.tensor([[40.0 - 275.0 + 3.3]]))


def test_initial_values_are_those_of_the_paper() -> None:
    layer = NoisyLinear(400, 300)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    for mean in (layer.weight, layer.bias):
        assert mean.abs().max() <= 1 / 20
        assert math.isclose(mean.std().item(), 1 / 20 / math.sqrt(3), rel_tol=0.1)
    for sigma in (layer.weight_sigma, layer.bias_sigma):
        torch.testing.assert_close(sigma.detach(), torch.full_like(sigma, 0.5 / 20))


def drawn_outputs(layer: NoisyLinear, x: Tensor, draws: int) -> Tensor:
    """Outputs [draws, out] with fresh noise each."""
    generator = torch.Generator().manual_seed(5)
    noise = [draw_noise(layer, generator) for _ in range(draws)]
    stacked = {name: torch.stack([one[name] for one in noise]) for name in noise[0]}
    params = dict(layer.named_parameters())
    return vmap(lambda buffers: functional_call(layer, {**params, **buffers}, (x,)))(stacked).detach()


def test_the_variance_is_that_of_factorised_noise() -> None:
    """Var y = sigma^2 ((E|z|)^2 |x|^2 + E|z|) with E|z| = sqrt(2/pi): 2/pi of what independent noise gives."""
    layer, x = NoisyLinear(6, 4), torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, 1.5])
    outputs = drawn_outputs(layer, x, 20_000)
    variance = outputs.var(0).mean().item()
    mean_abs = math.sqrt(2 / math.pi)
    sigma2, norm2 = 0.25 / 6, float(x @ x)
    assert math.isclose(variance, sigma2 * (mean_abs**2 * norm2 + mean_abs), rel_tol=0.06)
    assert not math.isclose(variance, sigma2 * (norm2 + 1), rel_tol=0.3)  # independent Gaussians
    torch.testing.assert_close(outputs.mean(0), layer(x).detach(), atol=0.03, rtol=0)


def test_the_noise_of_a_weight_has_rank_one() -> None:
    layer = NoisyLinear(12, 9)
    apply_noise_(layer, draw_noise(layer, torch.Generator().manual_seed(0)))
    eye, zero = torch.eye(12), torch.zeros(1, 12)
    noisy = (layer(eye) - layer(zero)).detach().T - layer.weight.detach()
    assert torch.linalg.matrix_rank(noisy, rtol=1e-4) == 1
    independent = torch.randn(9, 12, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(independent, rtol=1e-4) == 9


@pytest.fixture
def network(vector: spaces.Box) -> torch.nn.Module:
    torso = build_torso(NetworkSpec(mlp_width=8, mlp_type="multiskip_residual"), vector, linear=NoisyLinear)
    return torch.nn.Sequential(
        torso,
        Dueling(linear_head(512, 3, linear=NoisyLinear), linear_head(512, 6, linear=NoisyLinear), n_actions=2, atoms=3),
    )


def test_every_noisy_layer_is_drawn_and_nothing_else(network: torch.nn.Module) -> None:
    before = torch.get_rng_state()
    noise = draw_noise(network, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(noise) == 2 * (4 + 2)
    assert noise.keys() <= dict(network.named_buffers()).keys()
    assert all((value == 0).all() for value in dict(network.named_buffers()).values() if value.ndim)
    assert draw_noise(torch.nn.Linear(2, 2), torch.Generator()) == {}


def test_a_pure_loss_hands_its_noise_in(network: torch.nn.Module) -> None:
    obs = torch.randn(4, 5)
    params = dict(network.named_parameters())

    def outputs(seed: int) -> Tensor:
        noise = draw_noise(network, torch.Generator().manual_seed(seed))
        return functional_call(network, {**params, **noise}, (obs,))

    mean = network(obs)
    assert torch.equal(outputs(1), outputs(1))
    assert not torch.allclose(outputs(1), outputs(2))
    assert torch.equal(network(obs), mean)  # nothing was stored
    outputs(1).sum().backward()
    assert network[1].value.weight_sigma.grad.abs().sum() > 0


def test_acting_stores_noise_and_evaluation_takes_it_away(network: torch.nn.Module) -> None:
    obs = torch.randn(4, 5)
    mean = network(obs)
    apply_noise_(network, draw_noise(network, torch.Generator().manual_seed(3)))
    noisy = network(obs)
    assert not torch.allclose(noisy, mean)
    assert torch.equal(network.eval()(obs), noisy)  # the mode has no say
    assert torch.equal(functional_call(network, zero_noise(network), (obs,)), mean)
    assert torch.equal(network(obs), noisy)
    apply_noise_(network, zero_noise(network))
    assert torch.equal(network(obs), mean)


def test_stored_noise_is_part_of_the_state() -> None:
    one, two = NoisyLinear(3, 2), NoisyLinear(3, 2)
    apply_noise_(one, draw_noise(one, torch.Generator().manual_seed(3)))
    two.load_state_dict(one.state_dict())
    x = torch.randn(1, 3)
    assert torch.equal(one(x), two(x))


def test_the_factors_are_signed_roots_of_normals() -> None:
    noise = draw_noise(NoisyLinear(100_000, 1), torch.Generator().manual_seed(0))["noise_in"]
    normal = (noise.sign() * noise.square()).numpy()
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs(np.mean(np.abs(normal) < 1) - 0.6827) < 0.01
