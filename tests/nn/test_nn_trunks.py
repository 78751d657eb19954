"""Trunks against the definitions: literal parameter counts, naive twins, initialisation."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stablegrad.nn import NoisyLinear, build_trunk
from stablegrad.nn.spec import TRUNKS, NetworkSpec

TRUE_COUNTS = {
    # depth: (width small, medium, large), from 3136 features, layer norm included
    "small": (2_398_208, 10_337_280, 22_470_656),
    "medium": (3_452_928, 19_792_896, 48_715_776),
    "large": (4_507_648, 29_248_512, 74_960_896),
}

PUBLISHED_TABLE = {
    # Table 1 of the paper, millions: it counts the last layer as width x width and adds a one-unit output
    "small": (2.39, 11.90, 27.70),
    "medium": (3.45, 21.35, 53.93),
    "large": (4.50, 30.79, 80.15),
}

GRID = [
    (depth, width, TRUE_COUNTS[depth][column], PUBLISHED_TABLE[depth][column])
    for depth in TRUE_COUNTS
    for column, width in enumerate(("small", "medium", "large"))
]


def count(spec: NetworkSpec, in_features: int = 3136) -> int:
    with torch.device("meta"):
        trunk = TRUNKS[spec.mlp_type](in_features, 512, spec=spec, linear=nn.Linear)
    return sum(parameter.numel() for parameter in trunk.parameters())


@pytest.mark.parametrize("mlp_type", ["default", "residual", "multiskip_residual"])
@pytest.mark.parametrize(("depth", "width", "true", "published"), GRID)
def test_parameter_counts_of_the_papers_grid(
    mlp_type: str, depth: str, width: str, true: int, published: float
) -> None:
    counted = count(NetworkSpec(mlp_type=mlp_type, mlp_depth=depth, mlp_width=width))
    assert counted == true
    if width != "small":  # where the last layer is not square, the published table overcounts
        assert abs(counted / 1e6 - published) > 1


@pytest.mark.parametrize(("depth", "true"), [("published", 1_607_168), ("small", 2_398_208), ("large", 4_507_648)])
def test_without_layer_norm_two_numbers_a_unit_go(depth: str, true: int) -> None:
    units = {"published": 512, "small": 4 * 512, "large": 12 * 512}[depth]
    assert count(NetworkSpec(mlp_depth=depth)) == true
    assert count(NetworkSpec(mlp_depth=depth, use_ln=False)) == true - 2 * units


@pytest.mark.parametrize(
    ("depth", "true"),
    [
        # stem 3136 x 512, n = 4 or 12 blocks of 512 // n features, out (512 + n (512 // n)) x 512
        ("small", 2_494_976),
        ("large", 2_504_880),
    ],
)
def test_parameter_count_of_densenet(depth: str, true: int) -> None:
    assert count(NetworkSpec(mlp_type="densenet", mlp_depth=depth)) == true


def test_a_dense_block_adds_at_least_one_feature() -> None:
    trunk = build_trunk(NetworkSpec(mlp_type="densenet", mlp_width=3, mlp_depth=1), 7)
    assert trunk.out.linear.in_features == 3 + 4 * 1


def test_the_published_head_is_one_layer_of_512() -> None:
    trunk = build_trunk(NetworkSpec(mlp_depth="published"), 7)
    linears = [module for module in trunk.modules() if isinstance(module, nn.Linear)]
    assert [(linear.in_features, linear.out_features) for linear in linears] == [(7, 512)]


RESIDUAL: dict[str, object] = {"mlp_type": "residual", "mlp_depth": 3, "mlp_width": 16}
MULTISKIP: dict[str, object] = {"mlp_type": "multiskip_residual", "mlp_depth": 3, "mlp_width": 16}


# Naive twins: the equations once more, on numpy arrays, from the trunk's parameters by name.


def affine(p: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    if f"{name}.weight" not in p:
        return x
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0)


def stage(p: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return norm(p, f"{name}.norm", affine(p, f"{name}.linear", x))


def branch(p: dict[str, np.ndarray], block: int, h: np.ndarray) -> np.ndarray:
    name = f"blocks.{block}"
    inner = norm(p, f"{name}.norm0", affine(p, f"{name}.linear0", relu(h)))
    return norm(p, f"{name}.norm1", affine(p, f"{name}.linear1", relu(inner)))


def naive_default(p: dict[str, np.ndarray], x: np.ndarray, *, layers: int) -> np.ndarray:
    for layer in range(layers):
        x = relu(stage(p, str(layer), x))
    return x


def naive_skip(p: dict[str, np.ndarray], x: np.ndarray, *, blocks: int, k: int, scale: float = 1.0) -> np.ndarray:
    g = h = stage(p, "stem", x)
    for block in range(blocks):
        h = h + branch(p, block, h) + (g / scale if block < k else 0)
    return relu(stage(p, "out", h))


def naive_dense(p: dict[str, np.ndarray], x: np.ndarray, *, blocks: int) -> np.ndarray:
    """As the released code does it: every block activates all that came before, the stem's features again."""
    raw = relu(stage(p, "stem", x))
    for block in range(blocks):
        raw = np.concatenate([raw, stage(p, f"blocks.{block}", relu(raw))], axis=1)
    return relu(stage(p, "out", raw))


def run_both(
    spec: NetworkSpec, naive: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(1)
    trunk = build_trunk(spec, 7, generator=generator).double()
    with torch.no_grad():  # norms and biases too must do what they should
        for parameter in trunk.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    parameters = {name: parameter.detach().numpy() for name, parameter in trunk.named_parameters()}
    return trunk(x).detach().numpy(), naive(parameters, x.numpy())


@pytest.mark.parametrize("use_ln", [True, False])
@pytest.mark.parametrize(
    ("fields", "naive"),
    [
        ({"mlp_depth": "published"}, lambda p, x: naive_default(p, x, layers=1)),
        ({"mlp_depth": 2, "mlp_width": 16}, lambda p, x: naive_default(p, x, layers=6)),
        (RESIDUAL, lambda p, x: naive_skip(p, x, blocks=3, k=0)),
        (MULTISKIP, lambda p, x: naive_skip(p, x, blocks=3, k=3)),
        (MULTISKIP | {"skip_blocks": 2}, lambda p, x: naive_skip(p, x, blocks=3, k=2)),
        (MULTISKIP | {"skip_scale": 4.0}, lambda p, x: naive_skip(p, x, blocks=3, k=3, scale=4.0)),
        ({"mlp_type": "densenet", "mlp_depth": 1, "mlp_width": 16}, lambda p, x: naive_dense(p, x, blocks=4)),
    ],
)
def test_trunks_equal_their_naive_twins(fields: dict[str, object], naive: Callable, use_ln: bool) -> None:
    ours, theirs = run_both(NetworkSpec(**fields, use_ln=use_ln), naive)
    assert ours.shape == (6, 512)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert np.abs(ours).max() > 0.1


@pytest.mark.parametrize(("k", "same"), [(3, True), (2, False), (0, False)])
def test_the_twin_tells_the_number_of_skips(k: int, same: bool) -> None:
    ours, theirs = run_both(NetworkSpec(**MULTISKIP), lambda p, x: naive_skip(p, x, blocks=3, k=k))
    assert np.allclose(ours, theirs) is same


def test_no_skip_is_the_residual_trunk() -> None:
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(2))
    outputs = [
        build_trunk(NetworkSpec(mlp_width=16, **fields), 7, generator=torch.Generator().manual_seed(1))(x)
        for fields in (
            {"mlp_type": "residual"},
            {"mlp_type": "multiskip_residual", "skip_blocks": 0},
            {"mlp_type": "multiskip_residual"},
        )
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
@pytest.mark.parametrize("width", [64, 700])
def test_every_trunk_ends_in_512_activated_features(mlp_type: str, width: int) -> None:
    features = build_trunk(NetworkSpec(mlp_type=mlp_type, mlp_width=width), 9)(torch.randn(3, 9))
    assert features.shape == (3, 512)
    assert (features >= 0).all()
    assert (features == 0).any()


@pytest.mark.parametrize("mlp_type", list(TRUNKS))
def test_weights_are_orthogonal_with_gain_sqrt_two_and_biases_zero(mlp_type: str) -> None:
    trunk = build_trunk(NetworkSpec(mlp_type=mlp_type, mlp_width=48, mlp_depth=2), 30)
    linears = [module for module in trunk.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == (8 if mlp_type == "densenet" else 6)
    for linear in linears:
        weight = linear.weight.detach()
        rows, columns = weight.shape
        gram = weight @ weight.T if rows <= columns else weight.T @ weight
        torch.testing.assert_close(gram, 2 * torch.eye(len(gram)), atol=1e-4, rtol=0)
        assert (linear.bias == 0).all()


@pytest.mark.parametrize("activation_fn", ["tanh", "elu", "selu", "leaky_relu", "sigmoid", "silu", "gelu"])
def test_the_activation_is_used_everywhere(activation_fn: str) -> None:
    """Outputs differ from ReLU's, and no ReLU is left in the trunk."""
    spec = {"mlp_type": "multiskip_residual", "mlp_width": 16}
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(2))

    def trunk(**fields: object) -> nn.Module:
        return build_trunk(NetworkSpec(**spec, **fields), 7, generator=torch.Generator().manual_seed(1))

    other = trunk(activation_fn=activation_fn)
    assert not any(isinstance(module, nn.ReLU) for module in other.modules())
    assert not torch.allclose(other(x), trunk()(x))


def test_a_noisy_trunk_has_noisy_layers_only() -> None:
    trunk = build_trunk(NetworkSpec(mlp_type="densenet", mlp_width=32), 7, linear=NoisyLinear)
    assert sum(isinstance(module, NoisyLinear) for module in trunk.modules()) == 6
    assert not any(isinstance(module, nn.Linear) for module in trunk.modules())


def test_a_block_is_pre_activated() -> None:
    """Nothing is applied to the sum: a residual stream may be negative, and negative values pass the block."""
    trunk = build_trunk(NetworkSpec(mlp_type="residual", mlp_width=16, use_ln=False), 7)
    with torch.no_grad():
        for parameter in trunk.blocks.parameters():
            parameter.zero_()
    seen: list[Tensor] = []
    handle = trunk.out.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(4, 7)
    trunk(x)
    handle.remove()
    assert torch.equal(seen[0], trunk.stem(x))
    assert (seen[0] < 0).any()
