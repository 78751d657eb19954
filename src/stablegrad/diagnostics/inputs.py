"""A network of several inputs, seen as one of a single tensor, so that every probe can cut and slice its batch."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from stablegrad.errors import UserError


class Spread(nn.Module):
    """`inner` behind one float tensor `[N, D]` that holds all its inputs side by side.

    Each input gets its own shape and type back. Inputs are positional where they came as a tuple or list; a dict is
    one input.
    """

    def __init__(self, inner: nn.Module, like: tuple[Tensor, ...] | list[Tensor] | Mapping[str, Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.training = inner.training
        tensors = like if isinstance(like, tuple | list) else like.values()
        self._names = list(like) if isinstance(like, Mapping) else None
        self._forms = [(tensor.shape[1:], tensor.dtype) for tensor in tensors]

    def forward(self, joined: Tensor) -> Any:
        pieces = joined.split([prod(shape) for shape, _ in self._forms], dim=1)
        inputs = [
            piece.unflatten(1, shape).to(dtype) if shape else piece.squeeze(1).to(dtype)
            for piece, (shape, dtype) in zip(pieces, self._forms, strict=True)
        ]
        return self.inner(*inputs) if self._names is None else self.inner(dict(zip(self._names, inputs, strict=True)))


def as_one(module: nn.Module, batch: Any) -> tuple[nn.Module, Tensor]:
    """`module` and `batch` where that is one tensor `[N, *]`, else both made so.

    Raises UserError when `batch` is not a tensor, or a tuple, list or dict of tensors, of two inputs or more.
    """
    if isinstance(batch, Tensor):
        tensors = [batch]
    elif isinstance(batch, tuple | list):
        tensors = list(batch)
    else:
        tensors = list(batch.values()) if isinstance(batch, Mapping) else []
    if not tensors or not all(isinstance(one, Tensor) and one.ndim and len(one) >= 2 for one in tensors):
        raise UserError("a batch is a tensor [N, *], or a tuple or dict of them, of at least two inputs")
    if isinstance(batch, Tensor):
        return module, batch
    if len({len(one) for one in tensors}) > 1:
        raise UserError(f"the inputs of one batch have different lengths: {[len(one) for one in tensors]}")
    joined = torch.cat([one.reshape(len(one), -1).float() for one in tensors], dim=1)
    return Spread(module, batch), joined
