"""Curvature against the explicit Hessian of small networks, and where it is zero or negative."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian

from stablegrad.diagnostics.curvature import hessian_top_eigenvalue, hessian_trace
from stablegrad.errors import UserError


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


@pytest.fixture
def loss_fn(network: nn.Sequential):
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(16, 3, generator=generator), torch.randn(16, 2, generator=generator)
    return lambda: (network(inputs) - targets).square().mean()


def explicit(network: nn.Module, loss_of) -> Tensor:
    """The Hessian over all parameters, entry by entry, from torch.func."""
    params = {name: p.detach() for name, p in network.named_parameters()}
    blocks = hessian(lambda given: loss_of(lambda x: functional_call(network, given, x)))(params)
    sizes = {name: p.numel() for name, p in params.items()}
    rows = [[blocks[a][b].reshape(sizes[a], sizes[b]) for b in params] for a in params]
    return torch.cat([torch.cat(row, dim=1) for row in rows])


@pytest.fixture
def matrix(network: nn.Sequential) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(16, 3, generator=generator), torch.randn(16, 2, generator=generator)
    return explicit(network, lambda f: (f(inputs) - targets).square().mean())


def quadratic(matrix: Tensor) -> tuple[Tensor, object]:
    """Parameters w and the loss w^T H w / 2, whose Hessian is `matrix`."""
    w = torch.ones(len(matrix), requires_grad=True)
    return w, lambda: w @ matrix @ w / 2


def test_the_trace_is_the_explicit_one_within_its_error(network, loss_fn, matrix) -> None:
    found = hessian_trace(loss_fn, network, probes=400)
    assert found.standard_error < 0.05 * abs(matrix.trace().item())
    assert abs(found.value - matrix.trace().item()) < 3 * found.standard_error


def test_the_standard_error_is_that_of_independent_estimates(network, loss_fn) -> None:
    estimates = [
        hessian_trace(loss_fn, network, probes=20, generator=torch.Generator().manual_seed(seed)) for seed in range(60)
    ]
    spread = torch.tensor([one.value for one in estimates]).std().item()
    claimed = torch.tensor([one.standard_error for one in estimates]).mean().item()
    assert claimed == pytest.approx(spread, rel=0.3)


def test_the_top_eigenvalue_is_the_explicit_one(network, loss_fn, matrix) -> None:
    found = hessian_top_eigenvalue(loss_fn, network)
    values = torch.linalg.eigvalsh(matrix)
    assert found.value == pytest.approx(values[values.abs().argmax()].item(), rel=1e-4)
    assert found.standard_error < 1e-3 * abs(found.value)


def test_a_named_group_is_that_block_of_the_hessian(network, loss_fn, matrix) -> None:
    block = matrix[-12:, -12:]
    for params, group in ((network, "2"), (dict(network.named_parameters()), "2"), (network[2], None)):
        found = hessian_top_eigenvalue(loss_fn, params, group=group)
        assert found.value == pytest.approx(torch.linalg.eigvalsh(block).max().item(), rel=1e-4)
    assert hessian_trace(loss_fn, list(network[2].parameters()), probes=300).value == pytest.approx(
        block.trace().item(), rel=0.05
    )


def test_a_diagonal_hessian_has_an_exact_trace() -> None:
    w, loss = quadratic(torch.diag(torch.tensor([1.0, -2.0, 4.0])))
    assert hessian_trace(loss, [w], probes=5) == (3.0, 0.0)


def test_largest_in_magnitude_keeps_its_sign() -> None:
    w, loss = quadratic(torch.diag(torch.tensor([3.0, 1.0, -5.0])))
    assert hessian_top_eigenvalue(loss, [w]).value == pytest.approx(-5.0, rel=1e-5)
    w, loss = quadratic(torch.diag(torch.tensor([-1.0, -2.0, -3.0])))
    assert hessian_top_eigenvalue(loss, [w]).value == pytest.approx(-3.0, rel=1e-5)


def test_a_zero_hessian_has_trace_and_eigenvalue_zero() -> None:
    w = torch.ones(4, requires_grad=True)
    for flat in (lambda: 3 * w.sum(), lambda: (w * 0).square().sum(), lambda: (-w.relu() * 0).sum()):
        assert hessian_trace(flat, [w], probes=3) == (0.0, 0.0)
        assert hessian_top_eigenvalue(flat, [w]) == (0.0, 0.0)
    # The published power iteration divides by the length of H v.
    vector = torch.ones(4)
    for _ in range(2):
        image = torch.zeros(4, 4) @ vector
        vector = image / image.norm()
    assert vector.isnan().all()


def test_collapsed_network_is_flat_not_nan() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        network[0].bias.fill_(-100.0)
    found = hessian_top_eigenvalue(lambda: network(torch.ones(2, 3)).square().mean(), network)
    assert found == (0.0, 0.0)


def test_a_non_finite_hessian_is_nan() -> None:
    w = torch.zeros(2, requires_grad=True)
    assert math.isnan(hessian_top_eigenvalue(lambda: w.abs().pow(1.5).sum() / w.sum(), [w]).value)


def test_repeated_eigenvalues_exhaust_the_krylov_space() -> None:
    w, loss = quadratic(torch.eye(50) * 7)
    assert hessian_top_eigenvalue(loss, [w]).value == pytest.approx(7.0)


def test_one_probe_has_no_error_estimate(network, loss_fn) -> None:
    assert math.isnan(hessian_trace(loss_fn, network, probes=1).standard_error)


def test_generator_is_read_and_not_advanced(network, loss_fn) -> None:
    generator = torch.Generator().manual_seed(7)
    before = generator.get_state()
    first = hessian_trace(loss_fn, network, probes=3, generator=generator)
    assert torch.equal(generator.get_state(), before)
    assert hessian_trace(loss_fn, network, probes=3, generator=generator) == first
    assert hessian_trace(loss_fn, network, probes=3) != first


def test_mistakes_are_named(network, loss_fn) -> None:
    with pytest.raises(UserError, match="no gradient"):
        hessian_trace(lambda: torch.zeros(()), network)
    with pytest.raises(UserError, match="did you mean '2'"):
        hessian_trace(loss_fn, network, group="22")
    with pytest.raises(UserError, match="named parameters"):
        hessian_trace(loss_fn, list(network.parameters()), group="2")
    with pytest.raises(UserError, match="at least one"):
        hessian_trace(loss_fn, network, probes=0)
    with pytest.raises(UserError, match="none of the given parameters"):
        hessian_trace(loss_fn, [])
