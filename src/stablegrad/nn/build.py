"""From a spec and an observation space to a network: encoder -> trunk (512 features) -> one linear head."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.errors import UserError
from stablegrad.nn.encoders import VECTOR_FEATURES, ImpalaCNN, NatureCNN
from stablegrad.nn.heads import linear_head
from stablegrad.nn.init import drawing_from, initialise_
from stablegrad.nn.layers import LinearFactory, SpectralLinear, stage
from stablegrad.nn.parts import PartsBox
from stablegrad.nn.spec import AUTO, ENCODERS, FEATURES, TRUNKS, NetworkSpec
from stablegrad.registry import in_words


class Encoder(nn.Module):
    """Observations [B, *shape], bytes, booleans or floats, to `out_features` flat features.

    Observations are cast to the module's own float type. Where the space is bounded by 0 and 255 they are
    divided by 255, whatever type they arrive in, and where `symmetric` they then lie between -1 and 1.

    On a CPU, images that big convolutions read are laid out channels last: oneDNN's updates are half again as fast
    (Nature network, batch 256, one core: 126 ms for 185), and nothing changes but rounding.
    """

    scale: Tensor

    def __init__(self, net: nn.Module, *, scale: float, out_features: int, symmetric: bool = False) -> None:
        super().__init__()
        self.net = net
        self.out_features = out_features
        self.symmetric = symmetric
        # A buffer, so that it follows the module's device and float type; a constant, so it is not saved.
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        if isinstance(self.net, (NatureCNN, ImpalaCNN)) and obs.ndim == 4 and obs.device.type == "cpu":
            obs = obs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # spelled so, vmap takes it
        x = obs.to(self.scale.dtype) * self.scale
        return self.net(2 * x - 1 if self.symmetric else x)


class PartsEncoder(nn.Module):
    """Rows [B, N] of the bytes of several parts to flat features [B, D]: each part through its encoder, then joined.

    The encoder of a part is the submodule `of_<its name>`.
    """

    def __init__(self, space: PartsBox, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self._space, self._module_of = space, dict[str, str]()
        for number, (name, encoder) in enumerate(encoders.items()):
            plain = f"of_{re.sub(r'[^0-9a-zA-Z_]', '_', name)}"
            self._module_of[name] = f"{plain}_{number}" if hasattr(self, plain) else plain
            self.add_module(self._module_of[name], encoder)
        self.out_features = sum(encoder.out_features for encoder in encoders.values())

    def forward(self, rows: Tensor) -> Tensor:
        features = []
        for name, space, start, stop in self._space.parts:
            part = rows[..., start:stop]
            if space.dtype == np.float32:
                part = part.view(torch.float32)
            features.append(self.get_submodule(self._module_of[name])(part.unflatten(-1, space.shape)))
        return torch.cat(features, dim=-1)


class Torso(nn.Module):
    """Encoder and trunk: observations [B, *] to the features [B, 512] that feed a head."""

    def __init__(self, encoder: Encoder | PartsEncoder, trunk: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.trunk = trunk

    def features(self, obs: Tensor) -> Tensor:
        """What feeds the head, [B, 512], the last activation included."""
        return self.trunk(self.encoder(obs))

    def forward(self, obs: Tensor) -> Tensor:
        return self.features(obs)


class Network(Torso):
    """A torso and a head: observations [B, *] to [B, n_outputs].

    A pure loss that also needs the features asks for them:
    `functional_call(network, params, (obs,), {"with_features": True})`.
    """

    def __init__(self, encoder: Encoder | PartsEncoder, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__(encoder, trunk)
        self.head = head

    def forward(self, obs: Tensor, *, with_features: bool = False) -> Any:
        """Outputs [B, n_outputs], or the pair of outputs and features [B, 512]."""
        features = self.features(obs)
        outputs = self.head(features)
        return (outputs, features) if with_features else outputs


def build_network(
    spec: NetworkSpec,
    observation_space: spaces.Space[Any],
    n_outputs: int,
    *,
    generator: torch.Generator | None = None,
) -> Network:
    """Encoder, trunk and a linear head as one module from [B, *] to [B, n_outputs], on the CPU.

    The head is orthogonal with gain .01, unless the spec has torch's own. `generator` is the only source of randomness;
    None stands for torch's global generator. Raises UserError when the spec does not fit the observation space.
    """
    if n_outputs < 1:
        raise UserError(f"a network needs at least one output, not {n_outputs}")
    torso = build_torso(spec, observation_space, generator=generator)
    head = linear_head(FEATURES, n_outputs, init=spec.head_init, generator=generator)
    return Network(torso.encoder, torso.trunk, head)


def build_torso(
    spec: NetworkSpec,
    observation_space: spaces.Space[Any],
    *,
    linear: LinearFactory = nn.Linear,
    generator: torch.Generator | None = None,
) -> Torso:
    """Encoder and trunk without a head, for agents that have their own. `linear` makes the trunk's layers."""
    encoder = build_encoder(spec, observation_space, generator=generator)
    return Torso(encoder, build_trunk(spec, encoder.out_features, linear=linear, generator=generator))


def build_encoder(
    spec: NetworkSpec, observation_space: spaces.Space[Any], *, generator: torch.Generator | None = None
) -> Encoder | PartsEncoder:
    """The spec's encoder for these observations; `auto` is resolved by `encoder_for`. Raises UserError.

    Of observations of several parts each has its own: the spec's for images, a layer for vectors.
    """
    if isinstance(observation_space, PartsBox):
        found = {part.name: _part_encoder(spec, part.space, generator) for part in observation_space.parts}
        return PartsEncoder(observation_space, found)
    return _encoder(spec, observation_space, generator)


def _part_encoder(spec: NetworkSpec, space: spaces.Box, generator: torch.Generator | None) -> Encoder:
    if len(space.shape) == 3:
        return _encoder(spec, space, generator)
    with drawing_from(generator):
        layer = stage("linear", nn.Linear(space.shape[0], VECTOR_FEATURES), (VECTOR_FEATURES,), spec=spec)
    initialise_(layer, generator=generator)
    return Encoder(layer, scale=1 / 255 if are_bytes(space) else 1.0, out_features=VECTOR_FEATURES)


def _encoder(spec: NetworkSpec, space: spaces.Space[Any], generator: torch.Generator | None) -> Encoder:
    shape = _observation_shape(space)
    cnn_type = encoder_for(space) if spec.cnn_type == AUTO else spec.cnn_type
    if cnn_type == "none" and (spec.use_impoola or spec.cnn_size != "medium"):
        raise UserError(
            f"observations of shape {list(shape)} have no convolutional encoder:"
            " leave use_impoola and cnn_size out, or name a cnn_type"
        )
    what = f"the encoder '{cnn_type}'"
    with drawing_from(generator), _building(what, own=cnn_type not in ENCODERS):
        net = ENCODERS[cnn_type](shape, spec=spec)
    if cnn_type in ENCODERS and spec.conv_init == "orthogonal":
        initialise_(net, generator=generator)
    symmetric, scale = spec.pixel_range == "symmetric", 1 / 255 if are_bytes(space) else 1.0
    if symmetric and scale == 1.0:
        raise UserError("pixel_range is for images of bytes (0 to 255), and these observations are none: leave it out")
    return Encoder(net, scale=scale, out_features=_width_of(net, shape, what), symmetric=symmetric)


def build_trunk(
    spec: NetworkSpec,
    in_features: int,
    *,
    linear: LinearFactory = nn.Linear,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """The spec's trunk, [B, in_features] -> [B, 512]; `linear` makes its layers. Raises UserError."""
    if spec.use_spectral_norm:
        if linear is not nn.Linear:
            raise UserError("use_spectral_norm divides plain weights: it cannot be used with a noisy trunk")
        linear = SpectralLinear
    what = f"the trunk '{spec.mlp_type}'"
    with drawing_from(generator), _building(what, own=spec.mlp_type not in TRUNKS):
        trunk = TRUNKS[spec.mlp_type](in_features, FEATURES, spec=spec, linear=linear)
    if spec.mlp_type in TRUNKS:
        initialise_(trunk, generator=generator)
    width = _width_of(trunk, (in_features,), what)
    if width != FEATURES:
        raise UserError(f"{what} gives {width} features, but was asked for {FEATURES}")
    return trunk


def encoder_for(observation_space: spaces.Space[Any]) -> str:
    """What `auto` stands for: `atari` for images, `minatar` for small ones, `none` for the rest."""
    shape = _observation_shape(observation_space)
    if len(shape) != 3:
        return "none"
    return "atari" if min(shape[1:]) >= NatureCNN.SMALLEST else "minatar"


def are_bytes(observation_space: spaces.Space[Any]) -> bool:
    """Whether observations are bounded by 0 and 255: encoders then divide them by 255."""
    if not isinstance(observation_space, spaces.Box):
        return False
    return bool(np.all(observation_space.low == 0) and np.all(observation_space.high == 255))


def _observation_shape(observation_space: spaces.Space[Any]) -> tuple[int, ...]:
    if isinstance(observation_space, spaces.Box | spaces.MultiBinary):
        return tuple(observation_space.shape)
    raise UserError(
        f"networks read arrays of numbers (a Box space), not {type(observation_space).__name__}:"
        " flatten the observations first (gymnasium.wrappers.FlattenObservation)"
    )


def _width_of(module: nn.Module, shape: tuple[int, ...], what: str) -> int:
    """D, found by passing one zero observation [1, *shape] through `module`, which must give [1, D]."""
    if not isinstance(module, nn.Module):
        raise UserError(f"{what} is a {type(module).__name__}, not an nn.Module")
    given = f"[{', '.join(str(size) for size in ('B', *shape))}]"
    training = module.training
    try:
        with torch.no_grad():
            output = module.eval()(torch.zeros(1, *shape))
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} cannot read {given}: {in_words(error)}") from error
    module.train(training)
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != 1:
        came = f"{list(output.shape)} for one input" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(f"{what} must map {given} to [B, D], but gives {came}")
    return output.shape[1]


@contextmanager
def _building(what: str, *, own: bool) -> Iterator[None]:
    """Whatever the constructor of a user's `own` module raises is the user's mistake."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if not own or isinstance(error, UserError):
            raise
        raise UserError(f"{what} cannot be built: {in_words(error)}") from error
