"""Trunks: encoder features [B, in] to the features [B, out] that feed the head.

phi are the encoder's features, a the activation, LN a layer norm (left out without `use_ln`), w the width, B
the number of blocks. Every trunk ends in a(LN(W_out h)): the activation between trunk and head belongs to the
trunk. Called as `Trunk(in_features, out_features, *, spec, linear)`. Definitions: Castanyer et al. 2025
(arXiv 2506.15544) and the behaviour of its released code.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from stablegrad.nn.layers import LinearFactory, activation, residual_branch, stage
from stablegrad.nn.spec import NetworkSpec


class PlainTrunk(nn.Sequential):
    """2B + 2 times linear -> [LN] -> a; at the published depth one single such layer."""

    def __init__(self, in_features: int, out_features: int, *, spec: NetworkSpec, linear: LinearFactory) -> None:
        sizes = [in_features, *[spec.width] * (spec.layers - 1), out_features]
        super().__init__(
            *(stage("linear", linear(before, after), (after,), spec=spec) for before, after in pairwise(sizes))
        )

    @staticmethod
    def parameters_of(in_features: int, out_features: int, spec: NetworkSpec) -> int:
        """How many parameters it has, without building it."""
        if spec.layers == 1:
            return _linear(in_features, out_features, spec)
        ends = _linear(in_features, spec.width, spec) + _linear(spec.width, out_features, spec)
        return ends + (spec.layers - 2) * _linear(spec.width, spec.width, spec)


class ResidualTrunk(nn.Module):
    """h_0 = LN(W_in phi); h_i = h_{i-1} + F_i(h_{i-1}); out = a(LN(W_out h_B)).

    F_i(h) = LN(W_i1 a(LN(W_i0 a(h)))) is pre-activated; nothing is applied to the sum before W_out.
    """

    def __init__(self, in_features: int, out_features: int, *, spec: NetworkSpec, linear: LinearFactory) -> None:
        super().__init__()
        width = spec.width
        self.stem = stage("linear", linear(in_features, width), (width,), spec=spec, activated=False)
        self.blocks = nn.ModuleList(
            residual_branch("linear", lambda: linear(width, width), (width,), spec=spec) for _ in range(spec.blocks)
        )
        self.out = stage("linear", linear(width, out_features), (out_features,), spec=spec)

    @staticmethod
    def parameters_of(in_features: int, out_features: int, spec: NetworkSpec) -> int:
        """How many parameters it has, without building it."""
        ends = _linear(in_features, spec.width, spec) + _linear(spec.width, out_features, spec)
        return ends + 2 * spec.blocks * _linear(spec.width, spec.width, spec)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(h)
        return self.out(h)


class MultiSkipTrunk(ResidualTrunk):
    """The residual trunk with a global skip: h_i = h_{i-1} + F_i(h_{i-1}) + g / s in the first k blocks.

    g = h_0 = LN(W_in phi) is the projected feature. k is the spec's `skip_blocks` (all blocks unless given),
    s its `skip_scale`. With k = B and s = 1, h_B = (B + 1) g + sum_i F_i.
    """

    def __init__(self, in_features: int, out_features: int, *, spec: NetworkSpec, linear: LinearFactory) -> None:
        super().__init__(in_features, out_features, spec=spec, linear=linear)
        self.skip_blocks = spec.blocks if spec.skip_blocks is None else spec.skip_blocks
        self.skip_scale = spec.skip_scale

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        skip = h / self.skip_scale
        for index, block in enumerate(self.blocks):
            h = h + block(h)
            if index < self.skip_blocks:
                h = h + skip
        return self.out(h)


class DenseTrunk(nn.Module):
    """n = 2B + 2 dense blocks that each add w // n features to all earlier ones.

    f_0 = a(LN(W_in phi)); f_j = LN(W_j [f_0, a(f_1), ..., a(f_{j-1})]); out = a(LN(W_out [f_0, ..., f_n])).
    The released code applies a to f_0 again inside the blocks, which is the same for ReLU. Here every
    feature is activated once, for all later blocks. As there, W_out reads the f_j as they are.
    """

    def __init__(self, in_features: int, out_features: int, *, spec: NetworkSpec, linear: LinearFactory) -> None:
        super().__init__()
        blocks, width = spec.layers, spec.width
        growth = max(1, width // blocks)
        self.stem = stage("linear", linear(in_features, width), (width,), spec=spec)
        self.blocks = nn.ModuleList(
            stage("linear", linear(width + index * growth, growth), (growth,), spec=spec, activated=False)
            for index in range(blocks)
        )
        self.activations = nn.ModuleList(activation(spec) for _ in range(blocks - 1))
        self.out = stage("linear", linear(width + blocks * growth, out_features), (out_features,), spec=spec)

    @staticmethod
    def parameters_of(in_features: int, out_features: int, spec: NetworkSpec) -> int:
        """How many parameters it has, without building it."""
        n, width = spec.layers, spec.width
        growth = max(1, width // n)
        ends = _linear(in_features, width, spec) + _linear(width + n * growth, out_features, spec)
        weights = (n * width + growth * n * (n - 1) // 2) * growth  # of blocks that read w, w + g, w + 2g, …
        return ends + weights + n * _linear(0, growth, spec)

    def forward(self, x: Tensor) -> Tensor:
        raw = [self.stem(x)]
        active = list(raw)
        for index, block in enumerate(self.blocks):
            raw.append(block(torch.cat(active, dim=-1)))
            if index < len(self.activations):
                active.append(self.activations[index](raw[-1]))
        return self.out(torch.cat(raw, dim=-1))


def _linear(before: int, after: int, spec: NetworkSpec) -> int:
    """Parameters of a linear layer and, with `use_ln`, the norm behind it."""
    return before * after + after + (2 * after if spec.use_ln else 0)
