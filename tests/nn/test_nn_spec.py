"""What a network may be asked to be, and what is refused, all at once."""

import dataclasses
import subprocess
import sys

import pytest

from stablegrad.errors import UserError
from stablegrad.nn.spec import NetworkSpec


def problems_of(**fields: object) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        NetworkSpec(**fields)
    return caught.value.problems


@pytest.mark.parametrize(
    ("word", "width", "blocks", "channels", "minatar_channels"),
    [
        ("small", 512, 1, (16, 32, 32), 8),
        ("medium", 1536, 3, (32, 64, 64), 16),
        ("large", 2560, 5, (64, 128, 128), 32),
        ("xlarge", 5120, 10, (128, 256, 256), 64),
    ],
)
def test_words_are_the_published_sizes(
    word: str, width: int, blocks: int, channels: tuple[int, ...], minatar_channels: int
) -> None:
    spec = NetworkSpec(mlp_width=word, mlp_depth=word, cnn_size=word)
    assert (spec.width, spec.blocks, spec.channels) == (width, blocks, channels)
    assert spec.minatar_channels == minatar_channels


def test_integers_are_taken_as_they_are() -> None:
    spec = NetworkSpec(mlp_width=256, mlp_depth=5, cnn_size=8)
    assert (spec.width, spec.blocks, spec.layers) == (256, 5, 12)
    assert spec.channels == (8, 16, 16)
    assert spec.minatar_channels == 8


@pytest.mark.parametrize(
    ("depth", "layers"), [("published", 1), ("small", 4), ("medium", 8), ("large", 12), ("xlarge", 22)]
)
def test_layers_of_a_plain_trunk(depth: str, layers: int) -> None:
    assert NetworkSpec(mlp_depth=depth).layers == layers


def test_it_is_frozen_and_takes_keywords_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetworkSpec().mlp_width = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        NetworkSpec("atari")  # type: ignore[misc]


def test_every_field_has_a_help_text() -> None:
    assert all(len(field.metadata["help"]) > 10 for field in dataclasses.fields(NetworkSpec))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mlp_type": "residul"}, "did you mean 'residual'?"),
        ({"mlp_type": "multiskip"}, "did you mean 'multiskip_residual'?"),
        ({"cnn_type": "impla"}, "did you mean 'impala'?"),
        ({"cnn_type": "impla"}, "'auto'"),
        ({"activation_fn": "rleu"}, "did you mean 'relu'?"),
        ({"mlp_width": "smal"}, "did you mean 'small'?"),
        ({"mlp_depth": "publishd"}, "did you mean 'published'?"),
        ({"cnn_size": "huge"}, "known: small, medium, large, xlarge, or an integer"),
        ({"mlp_width": 0}, "mlp_width must be at least 1, not 0"),
        ({"mlp_depth": -1}, "mlp_depth must be at least 1, not -1"),
        ({"mlp_width": True}, "unknown mlp_width True"),
        ({"mlp_width": 1.5}, "unknown mlp_width 1.5"),
        ({"mlp_type": 3}, "mlp_type must be a name, not 3"),
        ({"cnn_type": None}, "cnn_type must be a name, not None"),
        ({"use_ln": "yes"}, "use_ln must be true or false, not 'yes'"),
        ({"mlp_depth": "published", "mlp_type": "residual"}, "needs mlp_type 'default'"),
        ({"mlp_depth": "published", "mlp_width": "large"}, "mlp_width 'large' cannot apply"),
        ({"skip_blocks": 1}, "skip_blocks needs mlp_type 'multiskip_residual'"),
        ({"skip_scale": 2.0, "mlp_type": "residual"}, "skip_scale needs mlp_type 'multiskip_residual'"),
        (
            {"mlp_type": "multiskip_residual", "skip_blocks": 2},
            "2, but mlp_depth gives the trunk only 1",
        ),
        ({"mlp_type": "multiskip_residual", "skip_blocks": -1}, "skip_blocks must be a whole number"),
        ({"mlp_type": "multiskip_residual", "skip_scale": 0.0}, "skip_scale must be a positive number"),
        ({"mlp_type": "multiskip_residual", "skip_scale": float("nan")}, "skip_scale must be a positive number"),
        ({"cnn_type": "none", "use_impoola": True}, "use_impoola"),
        ({"cnn_type": "none", "cnn_size": "large"}, "cnn_size has no meaning"),
        ({"mlp_type": "no/such/file.py:Mine"}, "no such file"),
        ({"cnn_type": "no/such/file.py:Mine"}, "no such file"),
    ],
)
def test_bad_specs_are_refused_in_words(fields: dict[str, object], said: str) -> None:
    (problem,) = problems_of(**fields)
    assert said in problem


def test_all_problems_are_told_at_once() -> None:
    assert len(problems_of(cnn_type="x", mlp_type="y", mlp_width="z", activation_fn="w", use_ln=2)) == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"mlp_depth": "published"},
        {"mlp_depth": "published", "mlp_width": 512},
        {"mlp_type": "multiskip_residual", "mlp_depth": "large", "skip_blocks": 5},
        {"mlp_type": "multiskip_residual", "skip_blocks": 0, "skip_scale": 2},
        {"cnn_type": "none"},
    ],
)
def test_good_specs_are_not_refused(fields: dict[str, object]) -> None:
    spec = NetworkSpec(**fields)
    assert dataclasses.replace(spec) == spec


def test_the_spec_needs_no_torch() -> None:
    """Listing trunks and checking a configuration must not cost the import of torch."""
    code = (
        "import sys; from stablegrad.nn.spec import NetworkSpec, TRUNKS, ENCODERS; NetworkSpec();"
        " print(sorted(TRUNKS), sorted(ENCODERS), 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split("]") == [
        "['default', 'densenet', 'multiskip_residual', 'residual'",
        " ['atari', 'cifar', 'impala', 'minatar', 'none'",
        " False\n",
    ]
