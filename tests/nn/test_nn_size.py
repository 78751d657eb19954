"""How large a network would be, beside the network."""

import itertools

import numpy as np
import pytest
from gymnasium import spaces

from stablegrad.nn import NetworkSpec, build_network
from stablegrad.nn.size import parameters
from stablegrad.nn.spec import ENCODERS, TRUNKS

VECTOR = spaces.Box(-1, 1, (5,), np.float32)
ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def built(spec: NetworkSpec, space: spaces.Box) -> int:
    return sum(p.numel() for p in build_network(spec, space, 6).parameters())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_trunk_is_counted_without_being_built(trunk):
    for depth, width, norm in itertools.product((1, 3), (8, 30), (True, False)):
        spec = NetworkSpec(mlp_type=trunk, mlp_depth=depth, mlp_width=width, use_ln=norm)
        assert parameters(spec, VECTOR, 6) == built(spec, VECTOR), spec


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "none"])
def test_an_encoder_is_counted_without_being_built(encoder, norm):
    for side, pool in itertools.product((36, 41), (True, False)):
        space = spaces.Box(0, 255, (2, side, side + 1), np.uint8)
        spec = NetworkSpec(cnn_type=encoder, cnn_size=3, mlp_width=8, use_ln=norm, use_impoola=pool)
        assert parameters(spec, space, 6) == built(spec, space), spec


def test_the_published_depth_is_one_layer():
    """5 inputs: 5 * 512 + 512 of the layer, 2 * 512 of its norm, 512 * 6 + 6 of the head."""
    spec = NetworkSpec(mlp_depth="published")
    assert parameters(spec, VECTOR, 6) == 2560 + 512 + 1024 + 3078


def test_sizes_that_no_machine_holds_are_counted_at_once():
    """A hundred million blocks of two layers (512 x 512 weights, 512 biases, 1,024 of the norm), and what is around."""
    deep = NetworkSpec(mlp_type="residual", mlp_depth=10**8)
    around = (5 * 512 + 512 + 1024) + (512 * 512 + 512 + 1024) + (512 * 6 + 6)
    assert parameters(deep, VECTOR, 6) == 2 * 10**8 * (512 * 512 + 512 + 1024) + around
    assert parameters(NetworkSpec(mlp_width=10**8), VECTOR, 6) > 2 * 10**16
    assert parameters(NetworkSpec(cnn_size=10**12), ATARI, 6) > 10**25
