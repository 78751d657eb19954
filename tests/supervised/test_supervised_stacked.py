"""A stack of networks computes, and learns, what each of them does alone."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stablegrad.nn import NetworkSpec, build_network, draw_masks
from stablegrad.supervised.stacked import NotStackable, StackedLayerNorm, stack_networks

SEEDS, ROWS, CLASSES = 3, 6, 10

SHAPES = {"none": (1, 8, 8), "cifar": (3, 16, 16), "impala": (3, 16, 16), "minatar": (4, 10, 10), "atari": (2, 40, 40)}


def _networks(cnn_type: str, mlp_type: str, *, use_ln: bool, same: bool = False) -> list[nn.Module]:
    size = {} if cnn_type == "none" else {"cnn_size": 4}
    spec = NetworkSpec(cnn_type=cnn_type, mlp_type=mlp_type, use_ln=use_ln, mlp_width=24, mlp_depth=2, **size)
    space = spaces.Box(0, 255, SHAPES[cnn_type], np.uint8)
    seeds = [0] * SEEDS if same else range(SEEDS)
    return [build_network(spec, space, CLASSES, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def _batch(cnn_type: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images [S, B, *] and labels [S, B]."""
    shape = (SEEDS, ROWS, *SHAPES[cnn_type])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, CLASSES, (SEEDS, ROWS), generator=generator)


def _losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of each seed [S]."""
    rows = functional.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none")
    return rows.view(labels.shape).mean(dim=1)


@pytest.mark.parametrize("use_ln", [False, True])
@pytest.mark.parametrize("mlp_type", ["default", "residual", "multiskip_residual", "densenet"])
@pytest.mark.parametrize("cnn_type", SHAPES)
def test_outputs_and_gradients_are_those_of_each_seed(cnn_type: str, mlp_type: str, use_ln: bool) -> None:
    networks = _networks(cnn_type, mlp_type, use_ln=use_ln)
    images, labels = _batch(cnn_type, torch.Generator().manual_seed(9))
    stacked = stack_networks(networks, images[0])
    _losses(stacked(images), labels).sum().backward()
    parameters = dict(stacked.named_parameters())
    for seed, network in enumerate(networks):
        functional.cross_entropy(network(images[seed]), labels[seed]).backward()
        own = dict(network.named_parameters())
        assert own.keys() == parameters.keys()
        for name, parameter in own.items():
            assert torch.allclose(parameters[name].grad[seed], parameter.grad, atol=1e-5), name


@pytest.mark.parametrize("cnn_type", ["none", "cifar"])
def test_fifty_updates_are_those_of_each_seeds_own_run(cnn_type: str) -> None:
    """In float64: Adam divides by the gradient's own size, which turns float32's rounding into visible steps."""
    networks = [network.double() for network in _networks(cnn_type, "multiskip_residual", use_ln=True)]
    generator = torch.Generator().manual_seed(9)
    batches = [_batch(cnn_type, generator) for _ in range(50)]
    masks = [[draw_masks(network, ROWS, generator) for network in networks] for _ in batches]

    stacked = stack_networks(networks, batches[0][0][0])
    optimizer = torch.optim.Adam(stacked.parameters(), lr=1e-3)
    for (images, labels), of_seeds in zip(batches, masks, strict=True):
        together = {name: torch.stack([mask[name] for mask in of_seeds]) for name in of_seeds[0]}
        optimizer.zero_grad()
        _losses(functional_call(stacked, together, (images,)), labels).sum().backward()
        optimizer.step()

    for seed, network in enumerate(networks):
        alone = torch.optim.Adam(network.parameters(), lr=1e-3)
        for (images, labels), of_seeds in zip(batches, masks, strict=True):
            alone.zero_grad()
            functional.cross_entropy(functional_call(network, of_seeds[seed], (images[seed],)), labels[seed]).backward()
            alone.step()
        for (name, own), found in zip(network.named_parameters(), stacked.parameters(), strict=True):
            assert torch.allclose(found[seed], own, rtol=0, atol=1e-9), name


def test_seeds_do_not_touch_each_other() -> None:
    """The control: identical networks on different batches stay identical only if gradients are mixed up."""
    networks = _networks("none", "default", use_ln=False, same=True)
    images, labels = _batch("none", torch.Generator().manual_seed(9))
    stacked = stack_networks(networks, images[0])
    _losses(stacked(images), labels)[1].backward()
    for parameter in stacked.parameters():
        assert not parameter.grad[0].any()
        assert not parameter.grad[2].any()
    assert any(parameter.grad[1].any() for parameter in stacked.parameters())


def test_the_stack_holds_copies() -> None:
    networks = _networks("none", "default", use_ln=True)
    images, _ = _batch("none", torch.Generator().manual_seed(9))
    stacked = stack_networks(networks, images[0])
    before = networks[0](images[0])
    with torch.no_grad():
        for parameter in stacked.parameters():
            parameter.zero_()
    assert torch.equal(networks[0](images[0]), before)


class _MeanOverBatch(nn.Module):
    """A layer that looks at other rows: with a dimension of seeds in front, its dimension 0 means something else."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)


class _TwoMatrices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (_MeanOverBatch, "stacked, it does not compute what it computes alone"),
        (_TwoMatrices, r"its layer '1' \(_TwoMatrices\) is more than a weight and a bias"),
        (lambda: nn.Flatten(1, 2), "does not compute|does not take a dimension of seeds"),
    ],
)
def test_what_cannot_be_stacked_says_why(layer: type[nn.Module], reason: str) -> None:
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Linear(4, 8), layer()) for _ in range(2)]
    shape = (5, 3, 4) if layer not in (_MeanOverBatch, _TwoMatrices) else (5, 4)
    with pytest.raises(NotStackable, match=reason):
        stack_networks(networks, torch.randn(shape))


@pytest.mark.parametrize("rows", [4, 600], ids=["light", "heavy"])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norms_of_any_weight_are_those_of_each_seed(rows: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    norms = [nn.LayerNorm(64, bias=bias) for _ in range(2)]
    for norm in norms:
        for parameter in norm.parameters():
            nn.init.normal_(parameter, generator=generator)
    x = torch.randn(2, rows, 64, generator=generator)
    assert (x.numel() > StackedLayerNorm.LIGHT) == (rows == 600)
    expected = torch.stack([norm(of_seed) for norm, of_seed in zip(norms, x, strict=True)])
    assert torch.allclose(stack_networks(norms, x[0])(x), expected, atol=1e-6)


def test_a_users_own_weighted_layer_is_stacked() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(4, generator=generator))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    generator = torch.Generator().manual_seed(0)
    networks = [nn.Sequential(Scale()) for _ in range(2)]
    x = torch.randn(2, 3, 4, generator=generator)
    stacked = stack_networks(networks, x[0])
    assert torch.equal(stacked(x), torch.stack([network(x[seed]) for seed, network in enumerate(networks)]))
