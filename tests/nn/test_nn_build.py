"""Networks from a spec and a space: shapes, scaling, one source of randomness, functional use, the user's own."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from stablegrad.errors import UserError
from stablegrad.nn import NetworkSpec, NoisyLinear, build_encoder, build_network, build_torso, build_trunk
from stablegrad.nn.build import encoder_for
from stablegrad.nn.encoders import Flat, MinAtarCNN, NatureCNN
from stablegrad.nn.spec import TRUNKS

SMALL = {"mlp_width": 16, "cnn_size": 2}


@pytest.mark.parametrize(
    ("shape", "dtype", "high", "encoder"),
    [
        ((4, 84, 84), np.uint8, 255, NatureCNN),
        ((1, 64, 64), np.uint8, 255, NatureCNN),
        ((3, 36, 50), np.float32, 1, NatureCNN),
        ((4, 10, 10), np.bool_, 1, MinAtarCNN),
        ((7, 10, 10), np.uint8, 1, MinAtarCNN),
        ((10, 10, 10), np.float32, 1, MinAtarCNN),
        ((5,), np.float32, 1, Flat),
        ((3, 5), np.float32, 1, Flat),
        ((), np.float32, 1, Flat),
    ],
)
def test_auto_chooses_the_encoder_from_the_space(shape: tuple[int, ...], dtype: type, high: int, encoder: type) -> None:
    space = spaces.Box(0, high, shape, dtype)
    network = build_network(NetworkSpec(mlp_width=16), space, 3)
    assert isinstance(network.encoder.net, encoder)
    batch = np.stack([space.sample() for _ in range(2)])
    assert network(torch.from_numpy(batch)).shape == (2, 3)


def test_multibinary_observations_are_vectors() -> None:
    space = spaces.MultiBinary(6)
    assert encoder_for(space) == "none"
    assert build_network(NetworkSpec(), space, 2)(torch.ones(3, 6, dtype=torch.int8)).shape == (3, 2)


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({"cnn_type": "atari"}, 64 * 7 * 7),
        ({"cnn_type": "atari", "cnn_size": "small"}, 32 * 7 * 7),
        ({"cnn_type": "impala"}, 64 * 11 * 11),
        ({"cnn_type": "minatar", "cnn_size": 1}, 82 * 82),
        ({"cnn_type": "none"}, 4 * 84 * 84),
        ({"cnn_type": "atari", "use_impoola": True}, 64),
        ({"cnn_type": "impala", "use_impoola": True}, 64),
    ],
)
def test_features_of_the_encoders(atari: spaces.Box, fields: dict[str, object], features: int) -> None:
    assert build_encoder(NetworkSpec(**fields), atari).out_features == features


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        # 8*8*4*32 + 4*4*32*64 + 3*3*64*64 = 77,824, biases 160, norms 2 * (32*20*20 + 64*9*9 + 64*7*7)
        ({"cnn_type": "atari", "use_ln": False}, 77_984),
        ({"cnn_type": "atari", "use_ln": True}, 77_984 + 42_240),
        # convs 4->32, 4 of 32->32; 32->64, 4 of 64->64; 64->64, 4 of 64->64, each 3x3 with a bias
        ({"cnn_type": "impala", "use_ln": False}, 38_176 + 166_208 + 184_640),
    ],
)
def test_parameter_counts_of_the_encoders(atari: spaces.Box, fields: dict[str, object], weights: int) -> None:
    encoder = build_encoder(NetworkSpec(**fields), atari)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == weights


def test_layer_norm_is_over_channels_and_positions(atari: spaces.Box) -> None:
    norms = [
        tuple(module.normalized_shape)
        for module in build_encoder(NetworkSpec(), atari).modules()
        if isinstance(module, nn.LayerNorm)
    ]
    assert norms == [(32, 20, 20), (64, 9, 9), (64, 7, 7)]


@pytest.mark.parametrize("cnn_type", ["atari", "impala"])
def test_convolutions_are_orthogonal_as_matrices(cnn_type: str, atari: spaces.Box) -> None:
    for module in build_encoder(NetworkSpec(cnn_type=cnn_type), atari).modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().flatten(1)
            gram = weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight
            torch.testing.assert_close(gram, 2 * torch.eye(len(gram)), atol=1e-4, rtol=0)
            assert (module.bias == 0).all()


def test_pooling_comes_after_the_last_activation(atari: spaces.Box, generator: torch.Generator) -> None:
    """A mean of rectified values is not negative, and is not the rectified mean."""
    obs = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8, generator=generator)
    for cnn_type in ("atari", "impala"):
        pooled, whole = (
            build_encoder(
                NetworkSpec(cnn_type=cnn_type, cnn_size=2, use_impoola=use_impoola),
                atari,
                generator=torch.Generator().manual_seed(1),
            )(obs)
            for use_impoola in (True, False)
        )
        torch.testing.assert_close(pooled, whole.view(3, 4, -1).mean(2))


def test_images_are_scaled_by_the_range_of_the_space(atari: spaces.Box, generator: torch.Generator) -> None:
    # Without layer norm, which would hide a wrong scale.
    network = build_network(NetworkSpec(**SMALL, use_ln=False), atari, 3, generator=generator)
    obs = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8, generator=generator)
    as_bytes = network(obs)
    assert torch.equal(as_bytes, network(obs.float()))
    scaled = obs.float() / 255
    torch.testing.assert_close(as_bytes, network.head(network.trunk(network.encoder.net(scaled))))
    assert not torch.allclose(as_bytes, network.head(network.trunk(network.encoder.net(obs.float()))))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_planes_of_zeros_and_ones_are_not_scaled(minatar: spaces.Box, dtype: torch.dtype) -> None:
    network = build_network(NetworkSpec(**SMALL), minatar, 3)
    obs = torch.rand(2, 4, 10, 10, generator=torch.Generator().manual_seed(0)) < 0.3
    assert torch.equal(network(obs.to(dtype)), network.head(network.trunk(network.encoder.net(obs.float()))))


def test_a_network_is_encoder_trunk_and_head(minatar: spaces.Box, generator: torch.Generator) -> None:
    network = build_network(NetworkSpec(**SMALL), minatar, 3, generator=generator)
    obs = torch.rand(5, 4, 10, 10, generator=generator)
    features = network.features(obs)
    assert features.shape == (5, 512)
    assert torch.equal(network(obs), network.head(features))
    outputs, with_them = network(obs, with_features=True)
    assert torch.equal(outputs, network(obs))
    assert torch.equal(with_them, features)
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "trunk", "head"}


def test_the_head_starts_small(vector: spaces.Box, generator: torch.Generator) -> None:
    head = build_network(NetworkSpec(**SMALL | {"cnn_size": "medium"}), vector, 3, generator=generator).head
    singular = torch.linalg.svdvals(head.weight.detach())
    torch.testing.assert_close(singular, torch.full((3,), 0.01))
    assert (head.bias == 0).all()


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
@pytest.mark.parametrize("extra", [{}, {"use_spectral_norm": True}])
def test_only_the_given_generator_is_drawn_from(minatar: spaces.Box, mlp_type: str, extra: dict[str, object]) -> None:
    spec = NetworkSpec(mlp_type=mlp_type, **SMALL, **extra)
    before = torch.get_rng_state()
    one, two = (build_network(spec, minatar, 3, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    other = build_network(spec, minatar, 3, generator=torch.Generator().manual_seed(8))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    for part in ("encoder", "trunk", "head"):
        mine, theirs = (next(network.get_submodule(part).parameters()) for network in (one, other))
        assert not torch.equal(mine, theirs)


def test_without_a_generator_torchs_own_is_used(vector: spaces.Box) -> None:
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(build_network(NetworkSpec(mlp_width=16), vector, 2).head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("extra", [{}, {"use_spectral_norm": True}])
def test_the_state_dict_goes_round(minatar: spaces.Box, extra: dict[str, object]) -> None:
    spec = NetworkSpec(**SMALL, **extra)
    one, two = (build_network(spec, minatar, 3, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    obs = torch.rand(4, 4, 10, 10)
    assert not torch.equal(one(obs), two(obs))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one(obs), two(obs))


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
@pytest.mark.parametrize("extra", [{}, {"use_spectral_norm": True}])
def test_seeds_can_be_stacked(minatar: spaces.Box, mlp_type: str, extra: dict[str, object]) -> None:
    spec = NetworkSpec(mlp_type=mlp_type, **SMALL, **extra)
    networks = [build_network(spec, minatar, 3, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    obs = torch.rand(3, 5, 4, 10, 10) < 0.2
    params, buffers = stack_module_state(networks)
    stacked = vmap(lambda p, b, x: functional_call(networks[0], (p, b), (x,)))(params, buffers, obs)
    for network, ours, theirs in zip(networks, stacked, obs, strict=True):
        torch.testing.assert_close(ours, network(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cnn_type", ["atari", "impala"])
def test_the_layout_of_images_changes_rounding_only(atari: spaces.Box, cnn_type: str) -> None:
    network = build_network(NetworkSpec(cnn_type=cnn_type, **SMALL), atari, 3)
    obs = torch.randint(256, (5, 4, 84, 84), dtype=torch.uint8)
    plain = network.head(network.trunk(network.encoder.net(obs / 255)))
    torch.testing.assert_close(network(obs), plain)
    network(obs).sum().backward()
    assert all(p.is_contiguous() and p.grad.stride() == p.stride() for p in network.parameters())
    params, buffers = stack_module_state([network, copy.deepcopy(network)])
    stacked = vmap(lambda p, b: functional_call(network, (p, b), (obs,)))(params, buffers)
    torch.testing.assert_close(stacked[1], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cnn_type", "mlp_type"),
    [("minatar", "default"), ("impala", "residual"), ("none", "multiskip_residual"), ("minatar", "densenet")],
)
@pytest.mark.parametrize("extra", [{}, {"use_spectral_norm": True}])
def test_it_compiles_to_one_graph(minatar: spaces.Box, cnn_type: str, mlp_type: str, extra: dict[str, object]) -> None:
    network = build_network(NetworkSpec(mlp_type=mlp_type, cnn_type=cnn_type, mlp_width=8, **extra), minatar, 3)
    obs = torch.rand(2, 4, 10, 10) < 0.2
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(compiled(obs), network(obs))


def test_it_follows_the_type_and_device_of_its_parameters(minatar: spaces.Box) -> None:
    network = build_network(NetworkSpec(**SMALL), minatar, 3).double()
    assert network(torch.ones(2, 4, 10, 10, dtype=torch.bool)).dtype == torch.float64
    assert network.to("meta")(torch.ones(2, 4, 10, 10, device="meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("space", "fields", "said"),
    [
        (spaces.Box(-1, 1, (5,)), {"cnn_type": "atari"}, "needs images [C, H, W], but an observation has shape [5]"),
        (spaces.Box(-1, 1, (4, 10, 10)), {"cnn_type": "atari"}, "36x36 pixels, not 10x10: use cnn_type 'minatar'"),
        (spaces.Box(-1, 1, (4, 2, 2)), {}, "at least 3x3 pixels, not 2x2: use cnn_type 'none'"),
        (spaces.Box(0, 255, (84, 84, 3), np.uint8), {}, "looks like [H, W, C]"),
        (spaces.Box(0, 255, (84, 84, 1), np.uint8), {"cnn_type": "impala"}, "looks like [H, W, C]"),
        (spaces.Box(-1, 1, (5,)), {"use_impoola": True}, "leave use_impoola and cnn_size out"),
        (spaces.Box(-1, 1, (5,)), {"cnn_size": "large"}, "leave use_impoola and cnn_size out"),
        (spaces.Discrete(4), {}, "FlattenObservation"),
        (spaces.Dict({"a": spaces.Box(-1, 1, (5,))}), {}, "not Dict"),
    ],
)
def test_what_does_not_fit_is_said(space: spaces.Space, fields: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        build_network(NetworkSpec(**fields), space, 3)
    assert said in str(caught.value)


def test_a_network_has_outputs(vector: spaces.Box) -> None:
    with pytest.raises(UserError, match="at least one output"):
        build_network(NetworkSpec(), vector, 0)


def test_spectral_and_noisy_layers_exclude_each_other(vector: spaces.Box) -> None:
    with pytest.raises(UserError, match="noisy trunk"):
        build_torso(NetworkSpec(use_spectral_norm=True), vector, linear=NoisyLinear)


USER_FILE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, shape, *, spec):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(shape[0], spec.width))

    def forward(self, x):
        return torch.relu(x @ self.mix)

class Trunk(nn.Sequential):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(linear(in_features, out_features), nn.ReLU())

class Narrow(nn.Linear):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(in_features, 10)

class Square(nn.Module):
    def __init__(self, shape, *, spec):
        super().__init__()

    def forward(self, x):
        return x.unsqueeze(-1)
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return path


def test_encoders_and_trunks_of_the_user(user_file: Path, vector: spaces.Box) -> None:
    spec = NetworkSpec(cnn_type=f"{user_file}:Mine", mlp_type=f"{user_file}:Trunk", mlp_width=11)
    before = torch.get_rng_state()
    one, two, other = (
        build_network(spec, vector, 2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert one.encoder.out_features == 11
    assert one(torch.rand(3, 5)).shape == (3, 2)
    assert torch.equal(one.encoder.net.mix, two.encoder.net.mix)
    assert not torch.equal(one.encoder.net.mix, other.encoder.net.mix)


def test_the_users_modules_keep_their_own_initialisation(user_file: Path) -> None:
    trunk = build_trunk(NetworkSpec(mlp_type=f"{user_file}:Trunk"), 5)
    assert not (trunk[0].bias == 0).any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mlp_type": "Narrow"}, "gives 10 features, but was asked for 512"),
        ({"cnn_type": "Square"}, "must map [B, 5] to [B, D], but gives [1, 5, 1] for one input"),
    ],
)
def test_the_users_modules_must_fit(user_file: Path, vector: spaces.Box, fields: dict[str, str], said: str) -> None:
    spec = NetworkSpec(**{name: f"{user_file}:{attribute}" for name, attribute in fields.items()})
    with pytest.raises(UserError) as caught:
        build_network(spec, vector, 2)
    assert said in str(caught.value)


def test_a_name_that_the_users_file_lacks(user_file: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'Trunk'"):
        NetworkSpec(mlp_type=f"{user_file}:Trnk")
