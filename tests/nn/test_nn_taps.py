"""Taps: hand-counted lists of layers, every unit once and with its true value, and no trace left behind."""

import copy
from collections.abc import Callable

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stablegrad.nn import Dueling, NetworkSpec, NoisyLinear, build_network, build_torso, build_trunk, linear_head, taps

# Hand-counted: layer -> units, in the order of the forward pass, at mlp_width 24 and mlp_depth 2 (6 in densenet
# blocks: 24 // 6 = 4 features each). Layers whose output no activation reads are absent.
TRUNKS = {
    "default": {f"trunk.{layer}.linear": 24 for layer in range(5)} | {"trunk.5.linear": 512},
    "residual": {
        "trunk.stem.linear": 24,
        "trunk.blocks.0.linear0": 24,
        "trunk.blocks.0.linear1": 24,
        "trunk.blocks.1.linear0": 24,
        "trunk.out.linear": 512,
    },
    "densenet": {"trunk.stem.linear": 24}
    | {f"trunk.blocks.{block}.linear": 4 for block in range(5)}
    | {"trunk.out.linear": 512},
}
TRUNKS["multiskip_residual"] = TRUNKS["residual"]

WITHOUT_UNITS = {
    "default": [],
    "residual": ["trunk.blocks.1.linear1"],
    "multiskip_residual": ["trunk.blocks.1.linear1"],
    "densenet": ["trunk.blocks.5.linear"],
}

# cnn_size 2: channels 2-4-4, 2 for minatar, 2-4 4-8 8-8 for cifar. Impala: each stage's convolution is read by the
# first block's activation; the second block's last convolution goes into the next stage as it is, but in the last
# stage.
ENCODERS = {
    "atari": {"encoder.net.0.conv": 2, "encoder.net.1.conv": 4, "encoder.net.2.conv": 4},
    "minatar": {"encoder.net.0.conv": 2},
    "none": {},
    "cifar": {
        f"encoder.net.{stage}.conv{layer}": channels
        for stage, pair in enumerate(((2, 4), (4, 8), (8, 8)))
        for layer, channels in enumerate(pair)
    },
    "impala": {
        f"encoder.net.{stage}.{layer}": channels
        for stage, channels in enumerate((2, 4, 4))
        for layer in (
            "stem.conv",
            "blocks.0.conv0",
            "blocks.0.conv1",
            "blocks.1.conv0",
            *(["blocks.1.conv1"] if stage == 2 else []),
        )
    },
}


def network_of(cnn_type: str, mlp_type: str, **fields: object) -> tuple[nn.Module, Tensor]:
    space = spaces.Box(-1, 1, (2, 40, 40) if cnn_type != "none" else (7,))
    size = {} if cnn_type == "none" else {"cnn_size": 2}
    spec = NetworkSpec(cnn_type=cnn_type, mlp_type=mlp_type, mlp_width=24, mlp_depth=2, **size, **fields)
    generator = torch.Generator().manual_seed(0)
    network = build_network(spec, space, 3, generator=generator)
    return network, torch.randn(6, *space.shape, generator=generator)


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
@pytest.mark.parametrize("cnn_type", list(ENCODERS))
@pytest.mark.parametrize("use_ln", [True, False])
def test_every_layer_and_every_unit_by_name(cnn_type: str, mlp_type: str, use_ln: bool) -> None:
    network, obs = network_of(cnn_type, mlp_type, use_ln=use_ln)
    units = ENCODERS[cnn_type] | TRUNKS[mlp_type]
    recorded = taps.record(network, obs)
    assert {layer: outputs.shape[1] for layer, outputs in recorded.items()} == units
    assert list(recorded) == list(units)

    without = [*WITHOUT_UNITS[mlp_type], "head"]
    if cnn_type == "impala":
        without += ["encoder.net.0.blocks.1.conv1", "encoder.net.1.blocks.1.conv1"]
    layers = taps.layers(network)
    assert set(layers) == units.keys() | set(without)
    assert [layer for layer in layers if layer in units] == list(units)
    assert all(weight == f"{layer}.weight" for layer, weight in layers.items())

    gradients = taps.record_gradients(network, lambda: network(obs).square().sum())
    assert {name: gradient.shape for name, gradient in gradients.items()} == {
        name: outputs.shape for name, outputs in recorded.items()
    }
    # No tensor is counted twice under two names, as the published collector did.
    flat = list(recorded.values())
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(flat) for b in flat[:i])


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
def test_the_published_collector_misses_what_we_record(mlp_type: str) -> None:
    """The control: hooks on whole blocks see sums, so the units inside blocks differ from all they see."""
    network, obs = network_of("none", mlp_type)
    recorded = taps.record(network, obs)
    seen: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda module, inputs, output: seen.append(output.relu()))
        for block in getattr(network.trunk, "blocks", [])
    ]
    network(obs)
    for handle in handles:
        handle.remove()
    inner = [outputs for layer, outputs in recorded.items() if layer.endswith("linear0")]
    assert bool(inner) == (mlp_type in ("residual", "multiskip_residual"))
    assert not any(torch.equal(a, b) for a in inner for b in seen)


def test_values_in_a_multiskip_trunk_by_hand() -> None:
    spec = NetworkSpec(mlp_type="multiskip_residual", mlp_width=8, mlp_depth=2, use_ln=False)
    trunk = build_trunk(spec, 5, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    recorded = taps.record(trunk, x)
    with torch.no_grad():
        g = trunk.stem.linear(x)
        inner = trunk.blocks[0].linear0(g.relu()).relu()
        h = g + trunk.blocks[0].linear1(inner) + g
        last = trunk.blocks[1].linear0(h.relu()).relu()
        out = trunk.out.linear(h + trunk.blocks[1].linear1(last) + g).relu()
    expected = {
        "stem.linear": g.relu(),
        "blocks.0.linear0": inner,
        "blocks.0.linear1": h.relu(),
        "blocks.1.linear0": last,
        "out.linear": out,
    }
    assert list(recorded) == list(expected)
    for layer, outputs in expected.items():
        torch.testing.assert_close(recorded[layer], outputs)


@pytest.mark.parametrize("cnn_type", ["none", "impala"])
def test_a_unit_that_dies_inside_a_block_is_seen_there_and_only_there(cnn_type: str) -> None:
    network, obs = network_of(cnn_type, "multiskip_residual")
    block = network.trunk.blocks[1] if cnn_type == "none" else network.encoder.net[0].blocks[1]
    name = "trunk.blocks.1.linear0" if cnn_type == "none" else "encoder.net.0.blocks.1.conv0"

    def dead() -> set[tuple[str, int]]:
        return {
            (layer, unit)
            for layer, outputs in taps.record(network, obs).items()
            for unit in range(outputs.shape[1])
            if not outputs[:, unit].any()
        }

    before = dead()
    assert (name, 1) not in before
    with torch.no_grad():
        block.norm0.weight[1] = 0
        block.norm0.bias[1] = -1
    after = dead()
    assert (name, 1) in after
    assert {unit for layer, unit in after if layer == name} == {unit for layer, unit in before if layer == name} | {1}


def test_the_gradient_is_that_of_the_loss() -> None:
    """Moving one unit by h changes the loss by h times its gradient."""
    network, obs = network_of("none", "residual", activation_fn="tanh")
    network.double()
    obs = obs.double()
    gradients = taps.record_gradients(network, lambda: network(obs).square().sum())
    place = network.trunk.blocks[1].activation1

    def loss(h: float) -> float:
        def move(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            moved = output.clone()
            moved[2, 5] += h
            return moved

        handle = place.register_forward_hook(move)
        value = network(obs).square().sum().item()
        handle.remove()
        return value

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert abs(slope) > 1e-9
    assert gradients["trunk.blocks.1.linear0"][2, 5].item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
def test_before_a_relu_the_gradient_is_that_behind_it_where_it_fires(mlp_type: str) -> None:
    """Also in a residual stream, where the skip carries a gradient past a dead unit."""
    network, obs = network_of("minatar", mlp_type)
    outputs = taps.record(network, obs)
    behind, before = (
        taps.record_gradients(network, lambda: network(obs).square().sum(), at=at) for at in ("outputs", "inputs")
    )
    assert list(before) == list(outputs)
    for layer, gradient in before.items():
        torch.testing.assert_close(gradient, behind[layer] * (outputs[layer] > 0))
    assert any((gradient[outputs[layer] == 0] != 0).any() for layer, gradient in behind.items())


def test_before_a_relu_in_place_too() -> None:
    module, x = nn.Sequential(nn.Linear(3, 9), nn.ReLU(inplace=True), nn.Linear(9, 2)), torch.randn(4, 3)
    outputs = taps.record(module, x)["0"]
    (gradient,) = taps.record_gradients(module, lambda: module(x).sum(), at="inputs").values()
    torch.testing.assert_close(gradient, module[2].weight.sum(0).detach() * (outputs > 0))


def test_gradients_through_a_functional_loss_leave_grad_alone() -> None:
    network, obs = network_of("none", "default")
    params = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    target = copy.deepcopy(network)

    def loss() -> Tensor:
        with torch.no_grad():  # a second call of the same network, for a target
            best = network(obs + 1).max(1).values + target(obs).max(1).values
        return (functional_call(network, params, (obs,))[:, 0] - best).square().mean()

    gradients = taps.record_gradients(network, loss)
    assert {gradient.shape[0] for gradient in gradients.values()} == {6}
    assert list(gradients) == list(TRUNKS["default"])
    assert all(p.grad is None for p in [*network.parameters(), *params.values()])


def test_layers_that_the_loss_ignores_have_no_gradient() -> None:
    network, obs = network_of("none", "default")
    gradients = taps.record_gradients(network, lambda: network.trunk[0](obs).sum())
    assert list(gradients) == ["trunk.0.linear"]
    assert taps.record_gradients(network, lambda: torch.ones((), requires_grad=True) * 2) == {}


def test_reduction_is_applied_at_once() -> None:
    network, obs = network_of("atari", "default")
    whole = taps.record(network, obs)
    means = taps.record(network, obs, reduce=lambda outputs: outputs.mean(0, keepdim=True))
    for layer, outputs in whole.items():
        torch.testing.assert_close(means[layer], outputs.mean(0, keepdim=True))


class Functional(nn.Module):
    """As in scripts of one file: functional activations, one of them used twice, one in place, a parallel pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(27, 8)
        self.norm = nn.LayerNorm(8)
        self.left = nn.Linear(8, 5)
        self.right = nn.Linear(8, 6)
        self.act = nn.SiLU()
        self.q = nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv(x))).flatten(1)
        x = torch.relu_(self.norm(self.fc1(x)))
        left, right = self.left(x), self.right(x)  # both before either is activated
        return self.q(torch.cat([self.act(left), self.act(right)], dim=1))


def test_functional_activations_of_anybodys_module() -> None:
    torch.manual_seed(0)
    module, x = Functional(), torch.randn(4, 1, 8, 8)
    units = taps.record_units(module, x)
    assert {layer: (found.function, found.outputs.shape[1]) for layer, found in units.items()} == {
        "conv": ("relu", 3),
        "fc1": ("relu", 8),
        "left": ("silu", 5),
        "right": ("silu", 6),
    }
    assert units["conv"].outputs.shape == (4, 3, 6, 6)
    with torch.no_grad():
        hidden = module.norm(module.fc1(module.pool(functional.relu(module.conv(x))).flatten(1))).relu()
        torch.testing.assert_close(units["right"].outputs, functional.silu(module.right(hidden)))
    assert list(taps.layers(module)) == ["conv", "fc1", "left", "right", "q"]
    assert {taps.group(layer) for layer in taps.layers(module)} == {"other"}


def test_what_is_overwritten_later_is_recorded_as_it_was() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).relu_().add_(100)

    module, x = InPlace(), torch.randn(2, 3)
    torch.testing.assert_close(taps.record(module, x)["fc"], module.fc(x).relu().detach())


def test_a_layer_called_twice_gives_one_longer_batch() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).relu() - self.fc(-x).relu()

    module, x = Twice(), torch.randn(2, 3)
    torch.testing.assert_close(taps.record(module, x)["fc"], module.fc(torch.cat([x, -x])).relu().detach())


def test_parametrised_shared_and_noisy_weights_are_named_once() -> None:
    module = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 5)
    )
    module[4].weight = nn.Parameter(torch.zeros(5, 4))
    tied = nn.Linear(5, 4)
    tied.weight = module[2].weight
    module.append(tied)
    module.append(NoisyLinear(4, 2))
    layers = taps.layers(module)
    assert layers == {
        "0": "0.parametrizations.weight.original",
        "2": "2.weight",
        "4": "4.weight",
        "6": "6.weight",
    }
    assert set(layers.values()) <= dict(module.named_parameters()).keys()


def test_norms_and_embeddings_are_no_layers() -> None:
    module = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm([2, 4]), nn.Flatten(), nn.Linear(8, 2))
    assert taps.layers(module) == {"3": "3.weight"}


def test_a_module_that_is_one_layer() -> None:
    assert taps.layers(nn.Linear(2, 3)) == {"": "weight"}
    assert taps.record(nn.Linear(2, 3), torch.ones(1, 2)) == {}


def test_groups_are_the_innermost_part_of_the_name() -> None:
    assert taps.group("encoder.net.0.conv") == "encoder"
    assert taps.group("trunk.blocks.0.linear1") == "trunk"
    assert taps.group("head") == "head"
    assert taps.group("head.value.trunk.0.linear") == "trunk"
    assert taps.group("header.0") == "other"


def test_noisy_dueling_networks_too(vector: spaces.Box) -> None:
    torso = build_torso(NetworkSpec(mlp_depth="published"), vector, linear=NoisyLinear)
    head = Dueling(
        linear_head(512, 3, linear=NoisyLinear), linear_head(512, 6, linear=NoisyLinear), n_actions=2, atoms=3
    )
    module = nn.Sequential()
    module.add_module("torso", torso)
    module.add_module("head", head)
    assert list(taps.layers(module)) == ["torso.trunk.0.linear", "head.value", "head.advantage"]
    assert [(name, outputs.shape) for name, outputs in taps.record(module, torch.randn(3, 5)).items()] == [
        ("torso.trunk.0.linear", (3, 512))
    ]


class Stochastic(nn.Sequential):
    """Draws, and keeps running statistics: what a probe must not disturb."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 2))
        self[2].eval()


@pytest.mark.parametrize(
    "probe",
    [
        lambda module, x: taps.record(module, x),
        lambda module, x: taps.record_gradients(module, lambda: module(x).sum()),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_no_trace_is_left(probe: Callable[[nn.Module, Tensor], dict[str, Tensor]], fails: bool) -> None:
    torch.manual_seed(0)
    module = Stochastic()
    state = copy.deepcopy(module.state_dict())
    generator = torch.get_rng_state()
    x = torch.randn(3, 5 if fails else 4, generator=torch.Generator().manual_seed(1))
    if fails:
        with pytest.raises(RuntimeError):
            probe(module, x)
    else:
        assert list(probe(module, x)) == ["0"]
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert [part.training for part in module] == [True, True, False, True, True]
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.overrides._get_current_function_mode() is None
