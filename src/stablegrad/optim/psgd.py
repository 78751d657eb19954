"""The mathematics of PSGD with Kronecker factors: pure functions on one parameter, seen as a matrix.

The preconditioner of a gradient G [m, n] is P = (Q₁ᵀQ₁) ⊗ (Q₂ᵀQ₂), each Q upper triangular, or diagonal and
then stored as a vector. It is fitted so that the preconditioned gradient is white: P = (E[g gᵀ])^(-1/2). A
vector [n] is a matrix [n, 1] with the left factor only; so is a scalar.

Source: Li, "Preconditioned Stochastic Gradient Descent" (arXiv:1512.04202) and "Preconditioner on Matrix Lie
Group for SGD" (arXiv:1809.10232); constants as in kron_torch 0.3.3.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from stablegrad.optim.triangular import gram, subtract_upper_times_, transposed_times, upper_times

ConvView = Literal["out_in", "published"]

DAMPING = math.sqrt(torch.finfo(torch.float32).eps)
"""Noise added to the gradient that fits the factors, relative to its mean absolute entry, in every dtype."""


def update_probability(step: int) -> float:
    """The published schedule: 1 for the first 500 steps, then exp(-0.001 (step - 500)), never below 0.03."""
    return max(0.03, math.exp(min(0.0, -0.001 * (step - 500))))


def matrix_shape(shape: Sequence[int], conv_view: ConvView = "out_in") -> tuple[int, ...]:
    """The shape in which a parameter is preconditioned: at most two dimensions.

    "out_in" reads a convolution [out, in, kh, kw] as [out, in*kh*kw], what it multiplies patches with.
    "published" is the view of kron_torch 0.3.3, [out*in*kh, kw]: it wants the one whose two sizes differ
    less, but compares *signed* differences, and last - prod(front) is never the larger.
    """
    if len(shape) <= 2:
        return tuple(shape)
    if conv_view == "published":
        return (math.prod(shape[:-1]), shape[-1])
    return (shape[0], math.prod(shape[1:]))


def as_matrix(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` as [m, n] for its `matrix_shape`; a vector or scalar becomes one column."""
    return x.reshape(shape[0] if shape else 1, -1)


def power_of_two(x: Tensor) -> Tensor:
    """The largest power of two that no entry of X exceeds in magnitude by twice, as a 0-d tensor; `tiny` for X = 0.

    Dividing by it is exact, and leaves the largest magnitude in [1, 2): squares and sums of them stay in range.
    """
    low, high = torch.aminmax(x)
    largest = torch.maximum(-low, high).clamp_min(torch.finfo(x.dtype).tiny)
    mantissa, _ = torch.frexp(largest)  # in [1/2, 1)
    return largest / (2 * mantissa)


def identity_factors(
    shape: Sequence[int],
    *,
    max_size_triangular: int,
    min_ndim_triangular: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[Tensor]:
    """Q = I, one factor for each dimension of a `matrix_shape`; a scalar has one, of size 1.

    A dimension of size 1, one longer than `max_size_triangular`, and all those of a tensor with fewer than
    `min_ndim_triangular` dimensions get a diagonal factor.
    """
    return [
        torch.ones(size, dtype=dtype, device=device)
        if size == 1 or size > max_size_triangular or len(shape) < min_ndim_triangular
        else torch.eye(size, dtype=dtype, device=device)
        for size in (shape or (1,))
    ]


def _whiten(q: Tensor, x: Tensor) -> Tensor:
    """`Q X` along the rows of X [n, r]."""
    return q[:, None] * x if q.ndim == 1 else upper_times(q, x)


def _precondition(q: Tensor, x: Tensor) -> Tensor:
    """`Qᵀ Q X` along the rows of X [n, r]."""
    return q.square()[:, None] * x if q.ndim == 1 else transposed_times(q, upper_times(q, x))


def _unwhiten(q: Tensor, x: Tensor) -> Tensor:
    """`Q⁻ᵀ X` along the rows of X [n, r]."""
    if q.ndim == 1:
        return x / q[:, None]
    return torch.linalg.solve_triangular(q, x.mT, upper=True, left=False).mT


def precondition(factors: Sequence[Tensor], gradient: Tensor) -> Tensor:
    """`Q₁ᵀQ₁ G Q₂ᵀQ₂` for G [m, n]."""
    left = _precondition(factors[0], gradient)
    return left if len(factors) == 1 else _precondition(factors[1], left.mT).mT


def norm_lower_bound_(s: Tensor) -> Tensor:
    """A cheap lower bound of the largest eigenvalue of a positive semi-definite S [n, n]; rescales S.

    One and a half power iterations from the column of the largest norm; 0 for S = 0.
    """
    tiny = torch.finfo(s.dtype).tiny
    largest = s.diagonal().amax().clamp_min(tiny)  # no entry is larger in magnitude: S is semi-definite
    s.mul_(largest.reciprocal())
    row = torch.linalg.vector_norm(s, dim=1).argmax()
    direction = s @ s.index_select(0, row.view(1)).view(-1)
    return (s @ (direction / direction.norm().clamp_min(tiny))).norm() * largest


def update_factors_(
    factors: Sequence[Tensor],
    gradient: Tensor,
    noise: Tensor,
    *,
    scale: float | Tensor = 1.0,
    precond_lr: float | Tensor,
) -> None:
    """One step of every factor, in place, towards the one that whitens G = `gradient` * `scale` [m, n].

    With V = `noise` ~ N(0, 1) and G' = G + DAMPING mean|G| V:
        A = Q₁ G' Q₂ᵀ,  B = Q₁⁻ᵀ V Q₂⁻¹,  Q₁ ← Q₁ - precond_lr / |AAᵀ + BBᵀ| triu(AAᵀ - BBᵀ) Q₁,
    the same with Aᵀ, Bᵀ for Q₂, and with the diagonals of these matrices for a diagonal factor. All factors
    move from the same A and B. |·| is `norm_lower_bound_`, and the largest entry for a diagonal factor.

    The step depends on A and B only up to a common factor. So both are divided by `scale`, and then by a power of two
    near the largest of their entries: no size of G overflows.
    """
    a = gradient + (DAMPING * gradient.abs().mean()) * noise
    b = noise
    a, b = _whiten(factors[0], a), _unwhiten(factors[0], b)
    if len(factors) == 2:
        a, b = _whiten(factors[1], a.mT).mT, _unwhiten(factors[1], b.mT).mT
    b = b / scale
    size = torch.maximum(power_of_two(a), power_of_two(b))
    a, b = a / size, b / size
    for q, x, y in zip(factors, (a, a.mT), (b, b.mT), strict=False):
        tiny = torch.finfo(q.dtype).tiny
        if q.ndim == 1:
            xx, yy = x.square().sum(1), y.square().sum(1)
            size = (xx + yy).amax()
            q.sub_((xx - yy) * q * (precond_lr / size.clamp_min(tiny)))
        else:
            xx, yy = gram(x), gram(y)
            difference = xx.sub_(yy)
            size = norm_lower_bound_(torch.add(difference, yy, alpha=2, out=yy))
            subtract_upper_times_(q, difference, precond_lr / size.clamp_min(tiny))


def balance_(factors: Sequence[Tensor]) -> None:
    """Give the factors one common largest entry, their product unchanged: they drift apart otherwise."""
    largest = torch.stack([q.abs().amax() for q in factors])
    common = largest.log().mean().exp()
    for q, ratio in zip(factors, (common / largest).unbind(), strict=True):
        q.mul_(ratio)
