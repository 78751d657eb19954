"""Shape and dtype checks whose messages name the argument at fault."""

import torch
from torch import Tensor


def require_same(rank: int, axes: str, **tensors: Tensor) -> None:
    """Every tensor is floating point, of this rank and of one shape, dtype and device.

    Raises TypeError for a dtype or device, ValueError for a shape; the message asks for `axes` ("[T, B]").
    """
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, not {tensor.dtype}")
        if tensor.dim() != rank:
            raise ValueError(f"{name} must be {axes}, not of shape {list(tensor.shape)}")
        if tensor.shape != first.shape:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, but {first_name} has {list(first.shape)}; both must be {axes}"
            )
        if tensor.dtype != first.dtype or tensor.device != first.device:
            raise TypeError(
                f"{name} is {tensor.dtype} on {tensor.device}, but {first_name} is {first.dtype} on {first.device}"
            )


def require_mask(name: str, mask: Tensor, like: Tensor) -> None:
    """`mask` is a bool tensor of `like`'s shape. Raises TypeError or ValueError."""
    if mask.dtype is not torch.bool:
        raise TypeError(f"{name} must be a bool tensor, not {mask.dtype}")
    if mask.shape != like.shape:
        raise ValueError(f"{name} has shape {list(mask.shape)}, but must have {list(like.shape)}")
