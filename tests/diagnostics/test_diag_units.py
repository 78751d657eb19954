"""Planted dead, dormant, unreached and saturated units are found, where they are, once each; inside blocks too."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from stablegrad.diagnostics import units
from stablegrad.errors import UserError
from stablegrad.nn import NetworkSpec, build_network

WIDTH = 16
PLANTED = 4


def batch(*shape: int, rows: int = 300) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(0))


def house_network(mlp_type: str, *, use_ln: bool, shape: tuple[int, ...] = (5,), cnn_type: str = "auto") -> nn.Module:
    spec = NetworkSpec(
        mlp_type=mlp_type,
        mlp_width=WIDTH,
        mlp_depth=3,
        use_ln=use_ln,
        cnn_type=cnn_type,
        cnn_size=8 if len(shape) > 1 else "medium",
    )
    space = spaces.Box(-np.inf, np.inf, shape, np.float32)
    return build_network(spec, space, 3, generator=torch.Generator().manual_seed(1))


def kill(stage: nn.Module, name: str, *, count: int = PLANTED, by: float = -1e4) -> None:
    """Push the first `count` units of a layer far below zero, in the norm behind it where there is one."""
    norm = getattr(stage, "norm" + name.removeprefix("linear").removeprefix("conv"), None)
    with torch.no_grad():
        (getattr(stage, name) if norm is None else norm).bias[:count] = by


@pytest.fixture
def hand_made() -> nn.Sequential:
    """Units of layer 0 on inputs +-1: relu(x), relu(-x), relu(x - 1) = 0, relu(0.02 x)."""
    network = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0], [-1.0], [1.0], [0.02]]))
        network[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0, 0.0]))
        network[2].weight.copy_(torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    return network


SIGNS = torch.tensor([[1.0], [-1.0]])


class TestByHand:
    def test_dead_and_dormant(self, hand_made: nn.Sequential) -> None:
        # E|h| = 0.5, 0.5, 0, 0.01; their mean 0.2525; scores 1.98, 1.98, 0, 0.0396.
        assert units.dead_fraction(hand_made, SIGNS) == (0.25, {"0": 0.25})
        assert units.dormant_fraction(hand_made, SIGNS) == (0.25, {"0": 0.25})
        assert units.dormant_fraction(hand_made, SIGNS, tau=0.04).total == 0.5
        assert units.dormant_fraction(hand_made, SIGNS, tau=0.0).total == 0.25

    def test_a_unit_on_the_batch_is_dead_only_if_it_never_fires(self, hand_made: nn.Sequential) -> None:
        assert units.dead_fraction(hand_made, SIGNS[1:]).total == 0.75
        assert units.dead_fraction(hand_made, 2 * SIGNS).total == 0.0

    def test_grama_finds_dead_units_and_those_that_nothing_listens_to(self, hand_made: nn.Sequential) -> None:
        # dL/dz of sum(out): 1 where a unit fires and its outgoing weight is 1. E|.| = 0.5, 0, 0, 0.5.
        report = units.grama_fraction(hand_made, SIGNS, lambda out: out.sum())
        assert report == (0.5, {"0": 0.5})
        # Behind the activation the dead unit has the gradient 1: that count would miss it.
        behind = torch.autograd.functional.jacobian(lambda h: hand_made[2](h).sum(), hand_made[:2](SIGNS))
        assert (behind.abs().mean(dim=0) == 0).float().mean().item() == 0.25

    def test_grama_takes_both_forms_of_a_loss_and_has_a_default(self, hand_made: nn.Sequential) -> None:
        of_outputs = units.grama_fraction(hand_made, SIGNS, lambda out: out.sum())
        of_nothing = units.grama_fraction(hand_made, SIGNS, loss_fn=lambda: hand_made(SIGNS).sum())
        assert of_outputs == of_nothing
        assert units.grama_fraction(hand_made, SIGNS).total == 0.5
        with pytest.raises(UserError, match="loss_fn needs out, targets"):
            units.grama_fraction(hand_made, SIGNS, lambda out, targets: out.sum())

    @pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e-3, 1.0, 1e30])
    def test_grama_is_blind_to_the_scale_of_the_loss(self, hand_made: nn.Sequential, scale: float) -> None:
        assert units.grama_fraction(hand_made, SIGNS, lambda out: scale * out.sum()).total == 0.5

    @pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e-3, 1.0])
    def test_dormancy_is_blind_to_the_scale_of_the_activations(self, hand_made: nn.Sequential, scale: float) -> None:
        """E|h| = 0.5, 0.5, 0, 0.01 times the scale: scores 1.98, 1.98, 0, 0.0396, whatever it is."""
        assert units.dormant_fraction(hand_made, scale * SIGNS, tau=0.04).total == 0.5
        assert units.dormant_fraction(hand_made, scale * SIGNS).total == 0.25

    def test_a_constant_in_the_denominator_calls_a_whole_layer_inactive(self, hand_made: nn.Sequential) -> None:
        """The rule that was here, 1e-9 added to the mean: the same network at four scales of its loss."""
        found = []
        for scale in (1.0, 1e-6, 1e-10, 1e-12):
            (mean,) = units.gradient_means(hand_made, lambda: scale * hand_made(SIGNS).sum()).values()  # noqa: B023
            found.append(float((mean / (mean.mean() + 1e-9) <= units.GRAMA_TAU).float().mean()))
        assert found == [0.5, 0.5, 0.5, 1.0]

    def test_in_a_layer_of_zeros_every_unit_is_weak_and_one_that_is_infinite_has_no_share(self) -> None:
        assert units.weak_of(torch.zeros(3), tau=0.0).tolist() == [1, 1, 1]
        assert units.weak_of(torch.tensor([1e38, 1e38, 1e38, 1e38, 0.0]), tau=0.1).tolist() == [0, 0, 0, 0, 1]
        assert units.weak_of(torch.tensor([1.0, math.inf]), tau=0.1).isnan().all()

    def test_saturated_tanh_and_sigmoid(self) -> None:
        network = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 2), nn.Sigmoid(), nn.Linear(2, 1))
        with torch.no_grad():
            # tanh(+-3) = +-0.995, slope 0.0099; tanh(+-2) = +-0.964, slope 0.07; tanh(5 +- 1) > 0.999.
            network[0].weight.copy_(torch.tensor([[3.0], [2.0], [1.0]]))
            network[0].bias.copy_(torch.tensor([0.0, 0.0, 5.0]))
            # sigmoid(-10): slope 1.8e-4 of its maximum; sigmoid(0): 1.
            network[2].weight.zero_()
            network[2].bias.copy_(torch.tensor([-10.0, 0.0]))
        report = units.saturated_fraction(network, SIGNS)
        assert report.layers == {"0": 2 / 3, "2": 1 / 2}
        assert report.total == 3 / 5

    def test_a_convolution_counts_channels(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        with torch.no_grad():
            network[0].bias[0] = -100.0
        images = batch(1, 6, 6)
        images[:, :, :3] = -9.0
        assert units.dead_fraction(network, images) == (0.25, {"0": 0.25})

    def test_activations_below_zero_are_alive(self) -> None:
        for activation in (nn.Tanh(), nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.ELU()):
            network = nn.Sequential(nn.Linear(1, 8), activation, nn.Linear(8, 1))
            with torch.no_grad():
                network[0].weight.fill_(0.1)
                network[0].bias.fill_(-0.5)
            outputs = network[:2](SIGNS)
            assert (outputs.mean(dim=0) <= 0).all(), "the published count calls all of them dead"
            assert units.dead_fraction(network, SIGNS).total == 0.0
            assert units.dormant_fraction(network, SIGNS).total == 0.0


def twin(network: nn.Module, inputs: Tensor) -> list[tuple[int, int]]:
    """Independently, for our networks: (dead, units) behind every ReLU module, in the order of the forward pass."""
    counts = []

    def count(_: nn.Module, given: tuple[Tensor], outputs: Tensor) -> None:
        never = (outputs == 0).all(dim=0)
        never = never.flatten(1).all(dim=1) if never.ndim > 1 else never
        counts.append((int(never.sum()), len(never)))

    handles = [part.register_forward_hook(count) for part in network.modules() if isinstance(part, nn.ReLU)]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    return counts


def assert_found(network: nn.Module, inputs: Tensor, layer: str, count: int) -> None:
    """The planted units of `layer` are dead, and every unit of the network is counted once."""
    found = units.statistics(network, inputs)[layer]
    assert (units.dead_of(found)[:count] == 1).all()
    report, counts = units.dead_fraction(network, inputs), twin(network, inputs)
    assert list(report.layers.values()) == [dead / of for dead, of in counts]
    assert report.total == sum(dead for dead, _ in counts) / sum(of for _, of in counts)


@pytest.mark.parametrize("use_ln", [True, False])
class TestInsideBlocks:
    @pytest.mark.parametrize("mlp_type", ["residual", "multiskip_residual"])
    def test_residual_blocks(self, mlp_type: str, use_ln: bool) -> None:
        network, inputs = house_network(mlp_type, use_ln=use_ln), batch(5)
        kill(network.trunk.blocks[1], "linear0")
        assert_found(network, inputs, "trunk.blocks.1.linear0", PLANTED)
        # The stem, three inner layers and two outer ones (the third feeds W_out) of 16 units, and 512 features.
        assert [of for _, of in twin(network, inputs)] == [WIDTH] * 6 + [512]

    def test_the_published_count_does_not_look_inside(self, use_ln: bool) -> None:
        network, inputs = house_network("multiskip_residual", use_ln=use_ln), batch(5)
        before = published_count(network, inputs)
        for block in network.trunk.blocks:
            kill(block, "linear0", count=WIDTH)
        inner = units.dead_fraction(network, inputs, layers=[f"trunk.blocks.{i}.linear0" for i in range(3)])
        assert inner.total == 1.0
        assert published_count(network, inputs) <= before + 0.1

    def test_densenet(self, use_ln: bool) -> None:
        network, inputs = house_network("densenet", use_ln=use_ln), batch(5)
        # 8 blocks of 16 // 8 = 2 units; the last one feeds W_out and has none.
        kill(network.trunk.blocks[2], "linear", count=1)
        assert_found(network, inputs, "trunk.blocks.2.linear", 1)
        assert [of for _, of in twin(network, inputs)] == [WIDTH] + [2] * 7 + [512]

    def test_impala(self, use_ln: bool) -> None:
        network = house_network("residual", use_ln=use_ln, shape=(3, 12, 12), cnn_type="impala")
        inputs = batch(3, 12, 12, rows=20)
        kill(network.encoder.net[1].blocks[0], "conv0")
        assert_found(network, inputs, "encoder.net.1.blocks.0.conv0", PLANTED)
        convolutions = [name for name in units.dead_fraction(network, inputs).layers if name.startswith("encoder")]
        # Of the 15, the last of stages 1 and 2 feed the next stage without an activation.
        assert len(convolutions) == 13

    def test_grama_and_dormancy_see_them_too(self, use_ln: bool) -> None:
        network, inputs = house_network("multiskip_residual", use_ln=use_ln), batch(5)
        kill(network.trunk.blocks[1], "linear0", count=WIDTH // 2)
        for report in (units.dormant_fraction(network, inputs), units.grama_fraction(network, inputs)):
            assert report.layers["trunk.blocks.1.linear0"] >= 1 / 2
            assert report.layers["trunk.blocks.0.linear0"] <= 1 / 8


def published_count(network: nn.Module, inputs: Tensor) -> float:
    """The faulty control: each block's activated output, twice, for its two layers; dead where the mean is <= 0."""
    flags = []
    handles = [
        block.register_forward_hook(lambda _, given, out: flags.extend([(given[0] + out).relu().mean(dim=0) <= 0] * 2))
        for block in network.trunk.blocks
    ]
    network(inputs)
    for handle in handles:
        handle.remove()
    return torch.cat(flags).float().mean().item()


class TestAnybodysModule:
    class Functional(nn.Module):
        """No activation modules; one layer is used twice, and one activation works in place."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.twice, self.last = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = functional.relu(self.first(x), inplace=True)
            h = torch.relu(self.twice(h))
            return self.last(self.twice(h).relu_())

    def test_functional_and_in_place_activations(self) -> None:
        torch.manual_seed(0)
        network = self.Functional()
        with torch.no_grad():
            network.first.bias[:3] = -100.0
            network.twice.bias[:2] = -100.0
        report = units.dead_fraction(network, batch(2))
        assert report.layers["first"] == 0.5
        assert report.layers["twice"] >= 2 / 6
        assert set(report.layers) == {"first", "twice"}
        assert units.grama_fraction(network, batch(2)).layers["first"] >= 0.5

    def test_layers_can_be_chosen_and_mistakes_are_named(self) -> None:
        network, inputs = house_network("residual", use_ln=True), batch(5)
        report = units.dead_fraction(network, inputs, layers=["trunk.stem.linear"])
        assert list(report.layers) == ["trunk.stem.linear"]
        with pytest.raises(UserError, match=r"did you mean 'trunk\.stem\.linear'"):
            units.dormant_fraction(network, inputs, layers=["trunk.stem.liner"])

    def test_without_hidden_units_there_is_no_share(self) -> None:
        report = units.dead_fraction(nn.Linear(2, 2), batch(2))
        assert math.isnan(report.total)
        assert report.layers == {}
        assert math.isnan(units.saturated_fraction(house_network("default", use_ln=True), batch(5)).total)

    def test_not_a_number_is_not_called_alive(self, hand_made: nn.Sequential) -> None:
        with torch.no_grad():
            hand_made[0].weight[0] = math.nan
        for report in (units.dead_fraction(hand_made, SIGNS), units.dormant_fraction(hand_made, SIGNS)):
            assert math.isnan(report.total)

    def test_chunks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network, inputs = house_network("residual", use_ln=False), batch(5, rows=50)
        whole = units.statistics(network, inputs)["trunk.stem.linear"]
        monkeypatch.setattr("stablegrad.diagnostics.units._ROWS_AT_ONCE", 7)
        parts = units.statistics(network, inputs)["trunk.stem.linear"]
        assert parts.rows == whole.rows == 50
        torch.testing.assert_close(parts.largest, whole.largest)
        torch.testing.assert_close(parts.mean, whole.mean)
