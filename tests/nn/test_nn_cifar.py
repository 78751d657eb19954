"""The published CIFAR encoder, and dropout whose masks are arguments."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stablegrad.errors import UserError
from stablegrad.nn import ChannelDropout, NetworkSpec, build_encoder, build_network, draw_masks

SPACE = spaces.Box(0, 255, (3, 32, 32), np.uint8)


def _network(**fields: object) -> nn.Module:
    spec = NetworkSpec(cnn_type="cifar", mlp_width=16, **fields)
    return build_network(spec, SPACE, 10, generator=torch.Generator().manual_seed(0))


def _pixels(rows: int) -> Tensor:
    return torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_medium_is_the_published_encoder() -> None:
    encoder = build_encoder(NetworkSpec(cnn_type="cifar", use_ln=True), SPACE)
    assert encoder.out_features == 2048
    convs = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in convs] == [
        (3, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 128),
    ]  # fmt: skip
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.GroupNorm)]
    assert [(layer.num_groups, layer.num_channels) for layer in norms] == [(8, 64), (16, 128), (16, 128)]
    drops = [layer for layer in encoder.modules() if isinstance(layer, ChannelDropout)]
    assert [(layer.channels, layer.share) for layer in drops] == [(64, 0.2), (128, 0.2), (128, 0.2)]


def test_the_encoder_is_what_its_definition_says() -> None:
    """A twin of functional calls, with the network's own parameters and masks drawn outside.

    In float64 (1 / 255 is the float32 number that the network holds): whatever the order of a processor's sums,
    outputs of about 1 that come from sums of up to 1,152 products agree to 1e-12, some 5,000 roundings.
    """
    network = _network(use_ln=True).double()
    masks = draw_masks(network, 4, torch.Generator().manual_seed(2))
    own = dict(network.named_parameters())
    h = _pixels(4) * torch.tensor(1 / 255).double()
    for stage, groups in enumerate((8, 16, 16)):
        path = f"encoder.net.{stage}"
        for conv in ("conv0", "conv1"):
            h = functional.conv2d(h, own[f"{path}.{conv}.weight"], own[f"{path}.{conv}.bias"], padding=1).relu()
        h = functional.group_norm(h, groups, own[f"{path}.norm.weight"], own[f"{path}.norm.bias"])
        h = functional.max_pool2d(h, 2) * masks[f"{path}.dropout.mask"]
    found = functional_call(network.encoder, {k.removeprefix("encoder."): v for k, v in masks.items()}, (_pixels(4),))
    torch.testing.assert_close(found, h.flatten(1), rtol=0, atol=1e-12)


def test_without_masks_nothing_is_dropped_in_any_mode() -> None:
    network = _network()
    trained = copy.deepcopy(network).train()(_pixels(3))
    assert torch.equal(trained, network.eval()(_pixels(3)))
    masks = draw_masks(network, 3, torch.Generator().manual_seed(2))
    assert not torch.equal(functional_call(network, masks, (_pixels(3),)), trained)


def test_masks_drop_a_fifth_and_keep_the_mean() -> None:
    masks = draw_masks(_network(), 200, torch.Generator().manual_seed(2))
    assert {name: mask.shape for name, mask in masks.items()} == {
        f"encoder.net.{stage}.dropout.mask": (200, channels, 1, 1) for stage, channels in enumerate((64, 128, 128))
    }
    every = torch.cat([mask.flatten() for mask in masks.values()])
    assert sorted(set(every.tolist())) == [0, 1.25]
    assert abs(float((every == 0).float().mean()) - 0.2) < 0.006  # 3 standard errors of 64,000 draws
    assert abs(float(every.mean()) - 1) < 0.0075


def test_masks_are_drawn_from_the_given_generator_alone() -> None:
    network = _network()
    before = torch.get_rng_state()
    left, right = (draw_masks(network, 5, torch.Generator().manual_seed(2)) for _ in range(2))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_holds_no_masks() -> None:
    assert not [name for name in _network().state_dict() if "mask" in name]


@pytest.mark.parametrize(("size", "features"), [(8, 128), (28, 1152)])
def test_other_sizes(size: int, features: int) -> None:
    space = spaces.Box(0, 255, (1, size, size), np.uint8)
    assert build_encoder(NetworkSpec(cnn_type="cifar"), space).out_features == features


def test_an_image_too_small_to_be_halved_three_times_is_refused() -> None:
    with pytest.raises(UserError, match="cnn_type 'cifar' needs images of at least 8x8 pixels, not 7x9"):
        build_encoder(NetworkSpec(cnn_type="cifar"), spaces.Box(0, 255, (1, 7, 9), np.uint8))
