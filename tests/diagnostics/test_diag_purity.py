"""Every probe leaves parameters, gradients, buffers, modes and generators bit-identical; an impure one is caught."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stablegrad.diagnostics import battery, churn, curvature, diagnose, features, ntk, parts, units
from stablegrad.diagnostics.capacity import capacity
from stablegrad.diagnostics.purity import private_generator

OBS = torch.randn(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))


class Noisy(nn.Module):
    """Draws from a generator of its own, and counts its calls in a buffer, in whatever mode it is."""

    def __init__(self) -> None:
        super().__init__()
        self.own = torch.Generator().manual_seed(3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach().mean()
        return x + 1e-3 * torch.randn(x.shape[1:], generator=self.own) + 1e-3 * torch.rand(())


class Network(nn.Module):
    """Everything that a forward pass can change: batch norm, dropout, buffers, generators, mixed modes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Dropout(0.5),
            Noisy(),
            nn.Linear(64, 8),
            nn.Tanh(),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    network = Network().train()
    network.net[1].eval()
    (network(OBS) - TARGETS).square().mean().backward()
    return network


def loss_of(network: nn.Module) -> Callable[[], Tensor]:
    return lambda: (network(OBS) - TARGETS).square().mean()


Probe = Callable[[nn.Module, nn.Module, torch.Generator], Any]

PROBES: dict[str, Probe] = {
    "dead_fraction": lambda net, old, g: units.dead_fraction(net, OBS),
    "dormant_fraction": lambda net, old, g: units.dormant_fraction(net, OBS),
    "saturated_fraction": lambda net, old, g: units.saturated_fraction(net, OBS),
    "grama_fraction": lambda net, old, g: units.grama_fraction(net, OBS, loss_of(net)),
    "hessian_trace": lambda net, old, g: curvature.hessian_trace(loss_of(net), net, probes=2, generator=g),
    "hessian_top_eigenvalue": lambda net, old, g: curvature.hessian_top_eigenvalue(
        loss_of(net), net, iterations=3, generator=g
    ),
    "policy_churn": lambda net, old, g: churn.policy_churn(old, net, OBS),
    "value_churn": lambda net, old, g: churn.value_churn(old, net, OBS),
    "representation_churn": lambda net, old, g: churn.representation_churn(old, net, OBS),
    "head_churn": lambda net, old, g: churn.head_churn(old, net, OBS),
    "representation_cosine": lambda net, old, g: churn.representation_cosine(old, net, OBS),
    "representation_distance": lambda net, old, g: churn.representation_distance(old, net, OBS),
    "policy_kl": lambda net, old, g: churn.policy_kl(old, net, OBS),
    "target_drift": lambda net, old, g: features.target_drift(old, net, OBS),
    "features": lambda net, old, g: parts.features(net, OBS),
    "ntk": lambda net, old, g: ntk.ntk_effective_rank(net, OBS[:4]),
    "capacity": lambda net, old, g: capacity(net, OBS, budget=3, generator=g),
    "light": lambda net, old, g: battery.light(net, OBS),
    "full": lambda net, old, g: battery.full(net, OBS, loss_of(net), net, old, g, halves=(loss_of(net), loss_of(net))),
    "diagnose": lambda net, old, g: diagnose(
        net, OBS, loss_fn=loss_of(net), before=old, generator=g, capacity_budget=2
    ),
}


def state(*networks: nn.Module, generator: torch.Generator) -> list[Any]:
    """All that a probe must not change, as values that compare by bits."""
    found: list[Any] = [torch.get_rng_state(), generator.get_state(), random.getstate(), str(np.random.get_state())]
    for network in networks:
        found += [(name, tensor.clone()) for name, tensor in network.state_dict().items()]
        found += [None if p.grad is None else p.grad.clone() for p in network.parameters()]
        found += [(name, part.training) for name, part in network.named_modules()]
        found += [part.own.get_state() for part in network.modules() if isinstance(part, Noisy)]
        found += [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in network.modules()]
        found += [p.requires_grad for p in network.parameters()]
    return found


def same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and torch.equal(left, right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right


def leaves_no_trace(probe: Probe) -> bool:
    network = make_network()
    old, generator = copy.deepcopy(network), torch.Generator().manual_seed(9)
    before = state(network, old, generator=generator)
    probe(network, old, generator)
    return same(before, state(network, old, generator=generator))


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_leaves_no_trace(name: str) -> None:
    assert leaves_no_trace(PROBES[name])


def test_curvature_of_loose_tensors_leaves_gradients_and_the_global_generator_alone() -> None:
    network = make_network()
    before = torch.get_rng_state()
    gradients = [p.grad.clone() for p in network.parameters()]
    curvature.hessian_trace(loss_of(network), list(network.parameters()), probes=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p.grad, old) for p, old in zip(network.parameters(), gradients, strict=True))


@pytest.mark.parametrize(
    "impure",
    [
        lambda net, old, g: net(OBS),
        lambda net, old, g: net.eval(),
        lambda net, old, g: loss_of(net)().backward(),
        lambda net, old, g: torch.rand(1),
        lambda net, old, g: torch.rand(1, generator=g),
        lambda net, old, g: net.zero_grad(),
        lambda net, old, g: net.net[0].weight.data.add_(1e-7),
        lambda net, old, g: net.net[0].register_forward_hook(print),
    ],
)
def test_an_impure_probe_is_caught(impure: Probe) -> None:
    assert not leaves_no_trace(impure)


def test_a_graph_of_the_callers_survives_a_probe() -> None:
    network = make_network().eval()
    loss = loss_of(network)()
    diagnose(network, OBS, loss_fn=loss_of(network))
    loss.backward()


def test_an_error_inside_a_probe_leaves_no_trace_either() -> None:
    def failing(net: nn.Module, old: nn.Module, generator: torch.Generator) -> None:
        with pytest.raises(ZeroDivisionError):
            units.grama_fraction(net, OBS, lambda out: out.sum() / 0 * (1 // 0))

    assert leaves_no_trace(failing)


def test_a_private_generator_continues_a_copy_of_the_callers() -> None:
    generator = torch.Generator().manual_seed(4)
    own = private_generator(generator, torch.device("cpu"))
    drawn = torch.rand(3, generator=own)
    assert torch.equal(drawn, torch.rand(3, generator=generator))
