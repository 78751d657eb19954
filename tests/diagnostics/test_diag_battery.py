"""The sets of probes that training takes: what they name, that names are in the catalogue, and what is left out."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from stablegrad.agents.ppo import ActorCritic
from stablegrad.agents.rainbow_network import RainbowNetwork
from stablegrad.diagnostics import battery, catalogue, churn, ranks, units
from stablegrad.nn import NetworkSpec, build_network

PLANES = spaces.Box(0, 1, (4, 10, 10), np.float32)
VECTORS = spaces.Box(-np.inf, np.inf, (5,), np.float32)
SPEC = NetworkSpec(mlp_type="multiskip_residual", mlp_width=16, mlp_depth=2)


def moved(network: nn.Module) -> nn.Module:
    """The network of a moment ago."""
    before = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.mul_(0.9)
    return before


@pytest.fixture
def obs() -> Tensor:
    return (torch.rand(40, 4, 10, 10, generator=torch.Generator().manual_seed(0)) < 0.2).float()


@pytest.fixture
def network() -> nn.Module:
    return build_network(SPEC, PLANES, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def found(network: nn.Module, obs: Tensor) -> dict[str, float]:
    loss = lambda: network(obs).square().mean()  # noqa: E731
    halves = (lambda: network(obs[:20]).square().mean(), lambda: network(obs[20:]).square().mean())
    return battery.full(network, obs, loss, network, moved(network), None, halves=halves)


def test_every_name_is_in_the_catalogue(found: dict[str, float]) -> None:
    for name, value in found.items():
        catalogue.entry(name)
        assert isinstance(value, float)


def test_light_is_part_of_full_and_the_same(network: nn.Module, obs: Tensor, found: dict[str, float]) -> None:
    light = battery.light(network, obs)
    assert light == {name: found[name] for name in light}
    assert {"units/dead/total", "units/dormant/trunk.stem.linear", "ranks/srank", "features/norm"} <= set(light)
    assert {"weights/norm/head", "weights/norm/total", "features/spectrum/1", "units/batch_size"} <= set(light)


def test_full_adds_what_needs_a_loss_or_a_past(network: nn.Module, obs: Tensor, found: dict[str, float]) -> None:
    added = set(found) - set(battery.light(network, obs))
    assert {
        "units/grama/total",
        "gradients/noise_scale",
        "gradients/cosine_halves/head",
        "curvature/hessian_trace",
        "curvature/hessian_trace_standard_error",
        "curvature/hessian_top_eigenvalue",
        "features/ntk_effective_rank",
        "features/target_drift",
        "churn/policy",
        "churn/value",
        "churn/representation",
        "churn/head",
        "churn/representation_cosine",
        "churn/representation_distance",
    } <= added
    # The learner logs these as means over updates: a probe must not write over them.
    from_updates = ("gradients/raw", "gradients/clipped", "gradients/update", "gradients/below_median_share")
    assert not any(name.startswith(from_updates) for name in added)


def test_a_loss_that_does_not_reach_the_parameters_is_told(network: nn.Module, obs: Tensor) -> None:
    other = nn.Linear(2, 1)
    assert battery.depends(lambda: network(obs).sum() + other.weight.sum(), other)
    assert not battery.depends(lambda: network(obs).sum(), other)
    assert not battery.depends(lambda: obs.sum(), other)


def test_numbers_are_those_of_the_single_probes(network: nn.Module, obs: Tensor, found: dict[str, float]) -> None:
    fed = network.features(obs).detach()
    assert found["ranks/srank"] == ranks.srank(fed)
    assert found["ranks/batch_size"] == 40
    assert found["ranks/ceiling"] == 40
    assert found["features/norm"] == pytest.approx(fed.norm(dim=1).mean().item(), rel=1e-6)
    assert found["units/dormant/total"] == pytest.approx(units.dormant_fraction(network, obs).total)
    before = moved(network)
    for name in ("policy", "value", "representation", "head"):
        single = getattr(churn, f"{name}_churn")(before, network, obs)
        assert found[f"churn/{name}"] == pytest.approx(single, rel=1e-5)


def test_an_actor_critic_has_the_kl_of_its_policy_and_the_churn_of_its_values() -> None:
    obs = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    for gaussian in (False, True):
        network = ActorCritic(
            SPEC, VECTORS, 3, shared=True, gaussian=gaussian, generator=torch.Generator().manual_seed(1)
        )
        before = moved(network)
        changed = battery.fetch(battery.of_change(before, network, obs))
        values = network(obs)[1] - before(obs)[1]
        assert changed["churn/value"] == pytest.approx(values.abs().mean().item(), rel=1e-5)
        assert changed["features/target_drift"] == pytest.approx(values.mean().item(), rel=1e-5)
        assert changed["churn/policy_kl"] > 0
        assert ("churn/policy" in changed) is not gaussian


@pytest.mark.parametrize("dueling", [True, False])
def test_a_distributional_network_is_judged_by_its_means(dueling: bool) -> None:
    network = RainbowNetwork(
        SPEC,
        VECTORS,
        3,
        atoms=torch.linspace(-10, 10, 11),
        dueling=dueling,
        noisy="head",
        generator=torch.Generator().manual_seed(1),
    )
    obs = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    light = battery.light(network, obs)
    assert light["features/norm"] == pytest.approx(network(obs, whole=True)[1].norm(dim=1).mean().item(), rel=1e-5)
    changed = battery.fetch(battery.of_change(moved(network), network, obs))
    q = network(obs).amax(dim=1), moved(network)(obs).amax(dim=1)
    assert changed["churn/value"] == pytest.approx((q[0] - q[1]).abs().mean().item(), rel=1e-4)


def test_what_cannot_be_told_is_left_out() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * 2

    obs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    light = battery.light(Scaled(), obs)
    assert not any(name.startswith(("ranks", "features")) for name in light)
    assert "weights/norm/layer" in light
    changed = battery.of_change(Scaled(), Scaled(), obs)
    assert set(changed) == {"churn/value", "features/target_drift", "churn/batch_size"}


def test_of_update_by_hand() -> None:
    norms = {"raw": torch.tensor([0.01, 1.0, 2.0]), "update": torch.tensor([0.1, 0.2, 0.3])}
    share, steps = battery.of_update(norms, torch.tensor([1.0, 2.0, 1.0]))
    assert share.item() == pytest.approx(1 / 3)
    assert steps.tolist() == pytest.approx([0.1, 0.1, 0.3])
    # Of the first layer alone, which is its own median; of none, nothing can be said.
    assert battery.of_update(norms, torch.ones(3), part=torch.tensor([True, False, False])).below_median_share == 0
    assert battery.of_update(norms, torch.ones(3), part=torch.zeros(3, dtype=torch.bool)).below_median_share.isnan()


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device: single numbers that are read from tensors, and whole lists."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.count = 0
        read = Tensor.tolist
        monkeypatch.setattr(Tensor, "tolist", lambda tensor: (self.saw(), read(tensor))[1])

    def saw(self) -> None:
        self.count += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads_at(depth: int, level: str, obs: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    spec = NetworkSpec(mlp_width=8, mlp_depth=depth, use_ln=False)
    network = build_network(spec, PLANES, 3, generator=torch.Generator().manual_seed(1))
    before, loss = moved(network), lambda: network(obs).square().mean()
    with monkeypatch.context() as patch, Reads(patch) as reads:
        if level == "light":
            battery.light(network, obs)
        else:
            battery.full(network, obs, loss, network, before, None, halves=(loss, loss))
    return reads.count


@pytest.mark.parametrize("level", ["light", "full"])
def test_no_layer_costs_a_host_synchronisation(level: str, obs: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more reads from the device with 24 layers than with 4 (Lanczos may end sooner); `light` has a single one."""
    shallow, deep = (reads_at(depth, level, obs[:8], monkeypatch) for depth in (1, 11))
    assert 0 < deep <= shallow
    assert level == "full" or deep == 1


def test_a_read_a_layer_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with Reads(monkeypatch) as reads:
        [float(weight.norm()) for weight in (torch.ones(3), torch.ones(2))]
        torch.ones(2).tolist()
    assert reads.count == 3
