"""Encoders: float observations [B, *shape] to flat features [B, D]. Convolutional ones end in an activation.

Called as `Encoder(shape, *, spec)`; initialisation and the scaling of bytes are the builder's business.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from stablegrad.errors import UserError
from stablegrad.nn.dropout import ChannelDropout
from stablegrad.nn.layers import activation, residual_branch, stage
from stablegrad.nn.spec import NetworkSpec

VECTOR_FEATURES = 128
"""What a vector beside an image becomes, by one linear layer."""


class Flat(nn.Module):
    """No encoder: the observation as one vector."""

    def __init__(self, shape: Sequence[int], *, spec: NetworkSpec) -> None:
        super().__init__()
        self.dimensions = len(shape)

    @staticmethod
    def size_of(shape: Sequence[int], spec: NetworkSpec) -> tuple[int, int]:
        """How many parameters and features it has, without building it."""
        return 0, math.prod(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(-self.dimensions) if self.dimensions else x.unsqueeze(-1)


class NatureCNN(nn.Sequential):
    """Convolutions 8x8/4, 4x4/2, 3x3/1, each -> [LN over C, H, W] -> activation (Mnih et al. 2015).

    At medium, 32-64-64 channels (the published ones), 84x84 pixels give 64 * 7 * 7 = 3136 features.
    """

    SMALLEST = 36

    def __init__(self, shape: Sequence[int], *, spec: NetworkSpec) -> None:
        in_channels, *size = image_shape(shape, encoder="atari", smallest=self.SMALLEST)
        stages = []
        for channels, kernel, stride in zip(spec.channels, (8, 4, 3), (4, 2, 1), strict=True):
            size = [(pixels - kernel) // stride + 1 for pixels in size]
            conv = nn.Conv2d(in_channels, channels, kernel, stride)
            stages.append(stage("conv", conv, (channels, *size), spec=spec))
            in_channels = channels
        super().__init__(*stages, *_flatten(spec))

    @staticmethod
    def size_of(shape: Sequence[int], spec: NetworkSpec) -> tuple[int, int]:
        """How many parameters and features it has, without building it."""
        before, *size = image_shape(shape, encoder="atari", smallest=NatureCNN.SMALLEST)
        parameters = 0
        for channels, kernel, stride in zip(spec.channels, (8, 4, 3), (4, 2, 1), strict=True):
            size = [(pixels - kernel) // stride + 1 for pixels in size]
            parameters += _conv(before, channels, kernel) + _norm(channels, size, spec)
            before = channels
        return parameters, _features(before, size, spec)


class MinAtarCNN(nn.Sequential):
    """One convolution 3x3/1 -> [LN over C, H, W] -> activation, for 10x10 planes (Young & Tian 2019)."""

    SMALLEST = 3

    def __init__(self, shape: Sequence[int], *, spec: NetworkSpec) -> None:
        in_channels, height, width = image_shape(shape, encoder="minatar", smallest=self.SMALLEST)
        channels = spec.minatar_channels
        conv = nn.Conv2d(in_channels, channels, 3)
        super().__init__(stage("conv", conv, (channels, height - 2, width - 2), spec=spec), *_flatten(spec))

    @staticmethod
    def size_of(shape: Sequence[int], spec: NetworkSpec) -> tuple[int, int]:
        """How many parameters and features it has, without building it."""
        before, height, width = image_shape(shape, encoder="minatar", smallest=MinAtarCNN.SMALLEST)
        channels, size = spec.minatar_channels, (height - 2, width - 2)
        return _conv(before, channels, 3) + _norm(channels, size, spec), _features(channels, size, spec)


class ImpalaCNN(nn.Sequential):
    """Three stages of convolution, max pooling and two residual blocks, then an activation.

    Espeholt et al. 2018 (arXiv 1802.01561). Each stage halves the image. The blocks are pre-activated; what a
    stage gives goes into the next stage's convolution as it is, without an activation.
    """

    def __init__(self, shape: Sequence[int], *, spec: NetworkSpec) -> None:
        in_channels, *size = image_shape(shape, encoder="impala", smallest=1)
        stages = []
        for channels in spec.channels:
            stages.append(_ImpalaStage(in_channels, channels, size, spec=spec))
            in_channels, size = channels, [(pixels + 1) // 2 for pixels in size]
        super().__init__(*stages, activation(spec), *_flatten(spec))

    @staticmethod
    def size_of(shape: Sequence[int], spec: NetworkSpec) -> tuple[int, int]:
        """How many parameters and features it has, without building it."""
        before, *size = image_shape(shape, encoder="impala", smallest=1)
        parameters = 0
        for channels in spec.channels:
            parameters += _conv(before, channels, 3) + _norm(channels, size, spec)
            before, size = channels, [(pixels + 1) // 2 for pixels in size]
            parameters += 4 * (_conv(channels, channels, 3) + _norm(channels, size, spec))
        return parameters, _features(before, size, spec)


class _ImpalaStage(nn.Module):
    """conv 3x3/1 -> [LN] -> max pool 3x3/2 -> two residual blocks of two convolutions 3x3/1."""

    def __init__(self, in_channels: int, channels: int, size: Sequence[int], *, spec: NetworkSpec) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.stem = stage("conv", conv, (channels, *size), spec=spec, activated=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        pooled = (channels, *((pixels + 1) // 2 for pixels in size))
        self.blocks = nn.ModuleList(
            residual_branch("conv", lambda: nn.Conv2d(channels, channels, 3, padding=1), pooled, spec=spec)
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.stem(x))
        for block in self.blocks:
            h = h + block(h)
        return h


class CifarCNN(nn.Sequential):
    """Three stages of two convolutions 3x3/1, pooling 2x2/2 and channel dropout .2 (Castanyer et al. 2025, C.2).

    Each convolution has an activation behind it; with `use_ln`, a group norm (8 channels a group) stands before
    the pooling. At medium the channels are the published 32-64, 64-128, 128-128, and 32x32 pixels give 2048
    features. Nothing is dropped but by the masks of `stablegrad.nn.dropout`.
    """

    SMALLEST = 8
    GROUP = 8
    SHARE_DROPPED = 0.2

    def __init__(self, shape: Sequence[int], *, spec: NetworkSpec) -> None:
        in_channels, *_ = image_shape(shape, encoder="cifar", smallest=self.SMALLEST)
        n = spec.channels[0]
        stages = []
        for first, second in ((n, 2 * n), (2 * n, 4 * n), (4 * n, 4 * n)):
            stages.append(self._stage(in_channels, first, second, spec))
            in_channels = second
        super().__init__(*stages, *_flatten(spec))

    @staticmethod
    def size_of(shape: Sequence[int], spec: NetworkSpec) -> tuple[int, int]:
        """How many parameters and features it has, without building it."""
        before, *size = image_shape(shape, encoder="cifar", smallest=CifarCNN.SMALLEST)
        n, parameters = spec.channels[0], 0
        for first, second in ((n, 2 * n), (2 * n, 4 * n), (4 * n, 4 * n)):
            parameters += _conv(before, first, 3) + _conv(first, second, 3) + _norm(second, (), spec)
            before, size = second, [pixels // 2 for pixels in size]
        return parameters, _features(before, size, spec)

    def _stage(self, in_channels: int, first: int, second: int, spec: NetworkSpec) -> nn.Sequential:
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(in_channels, first, 3, padding=1),
            activation0=activation(spec),
            conv1=nn.Conv2d(first, second, 3, padding=1),
            activation1=activation(spec),
        )
        if spec.use_ln:
            parts["norm"] = nn.GroupNorm(second // math.gcd(self.GROUP, second), second)
        parts["pool"] = nn.MaxPool2d(2)
        parts["dropout"] = ChannelDropout(second, share=self.SHARE_DROPPED)
        return nn.Sequential(parts)


def image_shape(shape: Sequence[int], *, encoder: str, smallest: int) -> tuple[int, int, int]:
    """`shape` as (C, H, W). Raises UserError when it is not that of an image, or the image is too small."""
    if len(shape) != 3:
        raise UserError(
            f"cnn_type '{encoder}' needs images [C, H, W], but an observation has shape {list(shape)}:"
            " use cnn_type 'none' or 'auto'"
        )
    channels, height, width = shape
    if shape[2] in (1, 3, 4) and shape[0] == shape[1] > 4:
        raise UserError(f"an observation has shape {list(shape)}, which looks like [H, W, C]: images come as [C, H, W]")
    if min(height, width) < smallest:
        fitting = "minatar" if min(height, width) >= MinAtarCNN.SMALLEST else "none"
        raise UserError(
            f"cnn_type '{encoder}' needs images of at least {smallest}x{smallest} pixels,"
            f" not {height}x{width}: use cnn_type '{fitting}'"
        )
    return channels, height, width


def _flatten(spec: NetworkSpec) -> list[nn.Module]:
    """[B, C, H, W] to [B, C H W], or to [B, C] by global average pooling ("Impoola")."""
    pool = [nn.AdaptiveAvgPool2d(1)] if spec.use_impoola else []
    return [*pool, nn.Flatten(-3)]


def _conv(before: int, channels: int, kernel: int) -> int:
    """Parameters of a convolution."""
    return before * channels * kernel**2 + channels


def _norm(channels: int, size: Sequence[int], spec: NetworkSpec) -> int:
    """Parameters of the norm of so many channels of this size, with `use_ln`."""
    return 2 * channels * math.prod(size) if spec.use_ln else 0


def _features(channels: int, size: Sequence[int], spec: NetworkSpec) -> int:
    """Features that `_flatten` gives."""
    return channels if spec.use_impoola else channels * math.prod(size)
