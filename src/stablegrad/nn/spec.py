"""What a network is, as one frozen record under the published flag names. Torch-free.

Sizes are the published ones (Castanyer et al. 2025, arXiv 2506.15544): a word or an integer. The command line
and the docs are generated from the fields, so each carries its help text.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from stablegrad.errors import UserError, nearest
from stablegrad.registry import Registry, is_user_file
from stablegrad.settings import setting

FEATURES = 512
"""Every trunk ends in this many features, whatever its width."""

WIDTHS = {"small": 512, "medium": 1536, "large": 2560, "xlarge": 5120}
"""Hidden units of a trunk layer."""

DEPTHS = {"small": 1, "medium": 3, "large": 5, "xlarge": 10}
"""Blocks B of a trunk; a plain trunk of the same size has 2B + 2 linear layers."""

CHANNELS = {"small": 16, "medium": 32, "large": 64, "xlarge": 128}
"""Channels of an encoder's first stage; the second and third have twice as many."""

MINATAR_CHANNELS = {"small": 8, "medium": 16, "large": 32, "xlarge": 64}
"""Channels of the one convolution of the MinAtar encoder."""

PUBLISHED_DEPTH = "published"
"""The depth of the original DQN, PPO and PQN networks: one layer of 512 units."""

AUTO = "auto"
"""The `cnn_type` that lets the observation space choose the encoder."""

Activation = Literal["relu", "tanh", "elu", "selu", "leaky_relu", "sigmoid", "silu", "gelu"]

ACTIVATIONS: tuple[str, ...] = get_args(Activation)

Init = Literal["orthogonal", "torch"]
"""Orthogonal weights and zero biases, or what torch's layers begin with: both uniform up to 1 / sqrt(inputs)."""

ENCODERS = Registry(
    "cnn_type",
    {
        "atari": "stablegrad.nn.encoders:NatureCNN",
        "impala": "stablegrad.nn.encoders:ImpalaCNN",
        "minatar": "stablegrad.nn.encoders:MinAtarCNN",
        "cifar": "stablegrad.nn.encoders:CifarCNN",
        "none": "stablegrad.nn.encoders:Flat",
    },
)
"""Encoders by `cnn_type`.

An entry, ours or the user's, is called as `Encoder(shape, *, spec)` with the shape of one observation
([C, H, W] for images). It returns an `nn.Module` from float observations [B, *shape], bytes already divided
by 255, to [B, D].
"""

TRUNKS = Registry(
    "mlp_type",
    {
        "default": "stablegrad.nn.trunks:PlainTrunk",
        "residual": "stablegrad.nn.trunks:ResidualTrunk",
        "multiskip_residual": "stablegrad.nn.trunks:MultiSkipTrunk",
        "densenet": "stablegrad.nn.trunks:DenseTrunk",
    },
)
"""Trunks by `mlp_type`.

An entry, ours or the user's, is called as `Trunk(in_features, out_features, *, spec, linear)`, where
`linear(in_features, out_features)` makes a linear layer. It returns an `nn.Module` from [B, in_features] to
[B, out_features]: the features that feed the head, the last activation included.
"""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """An encoder and a trunk. Raises UserError, with every problem at once, where the fields do not fit."""

    cnn_type: str = field(
        default=AUTO,
        metadata={
            "help": "encoder: auto (chosen from the observation space), atari (Nature CNN), impala, minatar, cifar,"
            " none (flat observations), or your own as path/to/file.py:Name"
        },
    )
    cnn_size: str | int = field(
        default="medium",
        metadata={
            "help": "channels of the encoder: small (16-32-32), medium (32-64-64), large (64-128-128),"
            " xlarge (128-256-256), or an integer n (n-2n-2n); the minatar encoder has one stage:"
            " 8, 16, 32, 64 or n"
        },
    )
    mlp_type: str = field(
        default="default",
        metadata={
            "help": "trunk: default (plain layers), residual, multiskip_residual, densenet, or your own as"
            " path/to/file.py:Name"
        },
    )
    mlp_width: str | int = field(
        default="small",
        metadata={
            "help": "units of a trunk layer: small (512), medium (1536), large (2560), xlarge (5120), or an"
            " integer; every trunk ends in 512 features"
        },
    )
    mlp_depth: str | int = field(
        default="small",
        metadata={
            "help": "blocks B of the trunk: small (1), medium (3), large (5), xlarge (10), or an integer;"
            " a plain trunk has 2B+2 linear layers, a densenet 2B+2 dense blocks; 'published' is the one"
            " 512-unit layer of the original DQN, PPO and PQN (default trunk only)"
        },
    )
    use_ln: bool = field(
        default=True,
        metadata={"help": "layer normalisation after every convolution and every linear layer before the head"},
    )
    activation_fn: Activation = field(default="relu", metadata={"help": "activation after every layer before the head"})
    skip_blocks: int | None = field(
        default=None,
        metadata={"help": "send the global skip to the first k blocks only (multiskip_residual trunk only)"},
    )
    skip_scale: float = field(
        default=1.0,
        metadata={"help": "divide the global skip by this number (multiskip_residual trunk only)"},
    )
    use_spectral_norm: bool = field(
        default=False,
        metadata={"help": "divide the weight of every linear layer of the trunk by its spectral norm"},
    )
    use_impoola: bool = field(
        default=False,
        metadata={"help": "global average pooling over positions behind a convolutional encoder"},
    )
    pixel_range: Literal["unit", "symmetric"] = setting(
        "unit", "what bytes are scaled to: unit (0 to 1) or symmetric (-1 to 1: published for cifar)", since=2
    )
    conv_init: Init = setting(  # noqa: RUF009 - a word
        "orthogonal",
        "initialisation of our convolutions: orthogonal (gain sqrt 2, bias 0) or torch's own (published for cifar)",
        since=2,
    )
    head_init: Init = setting(  # noqa: RUF009 - a word
        "orthogonal",
        "initialisation of the last layers: orthogonal (small, bias 0) or torch's own (published for cifar and dqn)",
        since=2,
    )

    def __post_init__(self) -> None:
        problems = [*self._encoder_problems(), *self._trunk_problems(), *self._skip_problems()]
        for name in ("use_ln", "use_spectral_norm", "use_impoola"):
            if not isinstance(getattr(self, name), bool):
                problems.append(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.activation_fn not in ACTIVATIONS:
            hint = nearest(str(self.activation_fn), ACTIVATIONS)
            problems.append(f"unknown activation_fn {self.activation_fn!r}{hint}; known: {', '.join(ACTIVATIONS)}")
        if problems:
            raise UserError(problems)

    @property
    def width(self) -> int:
        """Units of a hidden layer of the trunk."""
        return _resolve(self.mlp_width, WIDTHS)

    @property
    def published(self) -> bool:
        """Whether the trunk is the one 512-unit layer of the original networks."""
        return self.mlp_depth == PUBLISHED_DEPTH

    @property
    def blocks(self) -> int:
        """Blocks B of the trunk; 0 for the published depth, which has none."""
        return 0 if self.published else _resolve(self.mlp_depth, DEPTHS)

    @property
    def layers(self) -> int:
        """Linear layers of a plain trunk, or dense blocks of a densenet: 2B + 2, or 1 if published."""
        return 1 if self.published else 2 * self.blocks + 2

    @property
    def channels(self) -> tuple[int, int, int]:
        """Channels of the three stages of the Nature and IMPALA encoders."""
        first = _resolve(self.cnn_size, CHANNELS)
        return first, 2 * first, 2 * first

    @property
    def minatar_channels(self) -> int:
        """Channels of the one convolution of the MinAtar encoder: 16 at medium, as in Young & Tian 2019."""
        return _resolve(self.cnn_size, MINATAR_CHANNELS)

    def _encoder_problems(self) -> list[str]:
        problems = _size_problems("cnn_size", self.cnn_size, CHANNELS)
        unknown = None if self.cnn_type == AUTO else _name_problem(ENCODERS, self.cnn_type)
        if unknown:
            problems.append(f"{unknown}, or '{AUTO}'" if not is_user_file(str(self.cnn_type)) else unknown)
        if self.cnn_type == "none":
            if self.use_impoola:
                problems.append("use_impoola pools what convolutions give: it cannot be used with cnn_type 'none'")
            if self.cnn_size != "medium":
                problems.append("cnn_size has no meaning with cnn_type 'none': leave it out")
        if self.conv_init != "orthogonal" and not initialises_convolutions(self.cnn_type):
            problems.append(f"conv_init is for our convolutions: it cannot be used with cnn_type {self.cnn_type!r}")
        return problems

    def _trunk_problems(self) -> list[str]:
        problems = _size_problems("mlp_width", self.mlp_width, WIDTHS)
        unknown = _name_problem(TRUNKS, self.mlp_type)
        if unknown:
            problems.append(unknown)
        if not self.published:
            return problems + _size_problems("mlp_depth", self.mlp_depth, DEPTHS, PUBLISHED_DEPTH)
        if self.mlp_type != "default":
            problems.append(
                f"mlp_depth '{PUBLISHED_DEPTH}' is one layer: it needs mlp_type 'default', not {self.mlp_type!r}"
            )
        if not problems and self.width != FEATURES:
            problems.append(
                f"mlp_depth '{PUBLISHED_DEPTH}' is one layer of {FEATURES} units:"
                f" mlp_width {self.mlp_width!r} cannot apply"
            )
        return problems

    def _skip_problems(self) -> list[str]:
        problems = []
        if self.mlp_type != "multiskip_residual":
            for name, given in (
                ("skip_blocks", self.skip_blocks is not None),
                ("skip_scale", self.skip_scale != 1.0),
            ):
                if given:
                    problems.append(f"{name} needs mlp_type 'multiskip_residual', not {self.mlp_type!r}")
            return problems
        if self.skip_blocks is not None:
            if not _is_integer(self.skip_blocks) or self.skip_blocks < 0:
                problems.append(f"skip_blocks must be a whole number of blocks, not {self.skip_blocks!r}")
            elif not _size_problems("mlp_depth", self.mlp_depth, DEPTHS) and self.skip_blocks > self.blocks:
                problems.append(f"skip_blocks is {self.skip_blocks}, but mlp_depth gives the trunk only {self.blocks}")
        number = isinstance(self.skip_scale, int | float) and not isinstance(self.skip_scale, bool)
        if not number or not math.isfinite(self.skip_scale) or self.skip_scale <= 0:
            problems.append(f"skip_scale must be a positive number, not {self.skip_scale!r}")
        return problems


def initialises_convolutions(cnn_type: Any) -> bool:
    """Whether the encoder of this name has convolutions that we initialise: a user's own does that itself."""
    return cnn_type != "none" and (cnn_type == AUTO or cnn_type in ENCODERS)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _resolve(size: str | int, words: dict[str, int]) -> int:
    return words[size] if isinstance(size, str) else size


def _size_problems(name: str, size: Any, words: dict[str, int], *more: str) -> list[str]:
    if _is_integer(size):
        return [] if size >= 1 else [f"{name} must be at least 1, not {size}"]
    if isinstance(size, str) and size in words:
        return []
    known = [*words, *more]
    return [f"unknown {name} {size!r}{nearest(str(size), known)}; known: {', '.join(known)}, or an integer"]


def _name_problem(registry: Registry, name: Any) -> str | None:
    return registry.problem(name) if isinstance(name, str) else f"{registry.what} must be a name, not {name!r}"
