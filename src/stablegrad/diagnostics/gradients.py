"""What the gradients of a network look like, layer by layer, at a stated measuring point.

Functions take `name -> tensor` dicts (gradients, updates or weights, whatever the caller measured) and return
one stacked tensor `[L]` in the order of the dict, on the device of its tensors: the caller decides when to
fetch it, once for all layers (`.tolist()`), so that no layer costs a host synchronisation.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


def norms(tensors: Tensors) -> Tensor:
    """L2 norm of each tensor, `[L]`."""
    return torch.stack(torch._foreach_norm(list(tensors.values())))


def total_norm(layer_norms: Tensor) -> Tensor:
    """L2 norm of all layers together, from their norms `[L]`."""
    return torch.linalg.vector_norm(layer_norms)


def cosines(first: Tensors, second: Tensors) -> Tensor:
    """Cosine of the angle between two gradients of each layer, `[L]` in [-1, 1].

    Used for successive updates and for the two halves of a batch. NaN where either gradient is zero: an
    undefined angle is not a right angle.
    """
    left, right = list(first.values()), [second[name] for name in first]
    products = torch.stack([product.sum() for product in torch._foreach_mul(left, right)])
    lengths = torch.stack(torch._foreach_norm(left)) * torch.stack(torch._foreach_norm(right))
    return (products / lengths).clamp(-1.0, 1.0)


def update_to_weight(updates: Tensors, weights: Tensors) -> Tensor:
    """||change of the weights|| / ||weights|| of each layer, `[L]`; infinite where zero weights moved."""
    return norms(updates) / norms({name: weights[name] for name in updates})


def below_median_share(layer_norms: Tensor, *, fraction: float = 0.1) -> Tensor:
    """Share of layers whose norm is below `fraction` of the median layer's norm, from norms `[L]`.

    The median of an even number of layers is the mean of the middle two. 0 for a network whose layers learn
    alike; a vanishing gradient shows first as layers that fall an order of magnitude behind (fraction = 0.1).
    """
    median = layer_norms.quantile(0.5)
    share = (layer_norms < fraction * median).to(layer_norms.dtype).mean()
    return torch.where(median.isnan(), torch.nan, share)


class NoiseScale(NamedTuple):
    """`scale` = `noise` / `signal`, in inputs; `signal` estimates |G|^2, `noise` the trace of the gradient's
    covariance.

    `signal` and `noise` are unbiased, their ratio is not: to average over updates, average the two and
    divide.
    """

    scale: Tensor
    signal: Tensor
    noise: Tensor


def noise_scale(small_squared_norm: Tensor, big_squared_norm: Tensor, *, small: int, big: int) -> NoiseScale:
    """The simple gradient noise scale B = tr(Sigma) / |G|^2 from squared gradient norms on two batch sizes.

    signal = (big |G_big|^2 - small |G_small|^2) / (big - small)
    noise  = (|G_small|^2 - |G_big|^2) / (1/small - 1/big)

    Below B inputs a larger batch buys a proportionally better step, above it little. Infinite where the
    estimate of the signal is not positive: the noise hides the gradient at these sizes. Source: McCandlish et
    al., 2018, appendix A.1.
    """
    signal = (big * big_squared_norm - small * small_squared_norm) / (big - small)
    noise = (small_squared_norm - big_squared_norm) / (1.0 / small - 1.0 / big)
    return NoiseScale(torch.where(signal > 0, noise / signal, torch.inf), signal, noise)


def noise_scale_of_halves(first: Tensors, second: Tensors, *, batch_size: int) -> NoiseScale:
    """`noise_scale` from the gradients of a mean loss on the two halves of a batch of `batch_size` inputs."""
    left, right = list(first.values()), [second[name] for name in first]
    whole = torch._foreach_mul(torch._foreach_add(left, right), 0.5)
    small = (_squared_norm(left) + _squared_norm(right)) / 2
    return noise_scale(small, _squared_norm(whole), small=batch_size // 2, big=batch_size)


def _squared_norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(tensors))).square().sum()
