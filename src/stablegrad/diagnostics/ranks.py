"""How many directions the features use: six published definitions on the singular values of `features [N,
D]`.

All of them look at the uncentred matrix unless said otherwise, so that a bias shared by every input counts as
one direction. None can exceed min(N, D): record N beside them (`ranks/batch_size`), since a rank of 128
measured on 128 inputs only says that the batch was too small to tell.

Behaviour at the edges, the same for all six: a zero matrix has rank 0, a matrix with a NaN or an infinity has
rank NaN, one that is not two-dimensional or has no entry is refused.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from stablegrad.errors import UserError


def singular_values(features: Tensor) -> Tensor:
    """Singular values of `features [N, D]` in falling order, `[min(N, D)]` float64; all NaN if any entry is
    not finite.

    Raises UserError when `features` is not a matrix or has no entry.
    """
    if features.ndim != 2 or features.numel() == 0:
        raise UserError(f"a rank needs features [N, D], got {list(features.shape)}: flatten each input's features")
    # Rounding noise in float32 would add up to whole phantom directions of a rank-one matrix. MPS has no
    # float64.
    matrix = features.detach()
    matrix = (matrix.cpu() if matrix.device.type == "mps" else matrix).to(torch.float64)
    finite = matrix.isfinite().all()
    sigma: Tensor = torch.linalg.svdvals(torch.where(finite, matrix, 0.0))
    return torch.where(finite, sigma, torch.nan)


def effective_rank(features: Tensor) -> float:
    """exp(H(p)) with p_i = sigma_i / sum(sigma), H the Shannon entropy in nats (Roy & Vetterli, 2007)."""
    return effective_rank_of(singular_values(features)).item()


def pca_rank(features: Tensor, *, variance: float = 0.99, centered: bool = False) -> float:
    """Fewest principal directions that hold `variance` of sum(sigma^2).

    Uncentred by default, as in published deep-RL figures; `centered=True` subtracts the mean feature first,
    which makes it the share of variance of an ordinary PCA. Source: Yang et al., 2020 (99 % of the variance).
    """
    if centered:
        features = features - features.mean(dim=0, keepdim=True)
    return pca_rank_of(singular_values(features), variance=variance).item()


def srank(features: Tensor, *, delta: float = 0.01) -> float:
    """Fewest singular values whose sum reaches (1 - delta) * sum(sigma) (Kumar et al., 2021)."""
    return srank_of(singular_values(features), delta=delta).item()


def feature_rank(features: Tensor, *, epsilon: float = 0.01) -> float:
    """Number of singular values of `features / sqrt(N)` above `epsilon` (Lyle et al., 2022, epsilon = 0.01).

    The only one of the six that depends on the scale of the features.
    """
    return feature_rank_of(singular_values(features), rows=len(features), epsilon=epsilon).item()


def stable_rank(features: Tensor) -> float:
    """sum(sigma^2) / max(sigma)^2: Frobenius over spectral norm, squared (Rudelson & Vershynin, 2007)."""
    return stable_rank_of(singular_values(features)).item()


def rankme(features: Tensor, *, epsilon: float = 1e-7) -> float:
    """exp(-sum p_i log p_i) with p_i = sigma_i / sum(sigma) + epsilon, on singular values (Garrido et al.,
    2023).

    Published deep-RL code takes eigenvalues of the covariance instead, which squares the spectrum and gives a
    smaller number.
    """
    return rankme_of(singular_values(features), epsilon=epsilon).item()


def effective_rank_of(sigma: Tensor) -> Tensor:
    return _zero_if_empty(sigma, torch.special.entr(sigma / sigma.sum()).sum().exp())


def pca_rank_of(sigma: Tensor, *, variance: float = 0.99) -> Tensor:
    return _count_until(sigma.square(), variance)


def srank_of(sigma: Tensor, *, delta: float = 0.01) -> Tensor:
    return _count_until(sigma, 1.0 - delta)


def feature_rank_of(sigma: Tensor, *, rows: int, epsilon: float = 0.01) -> Tensor:
    above = (sigma / rows**0.5 > epsilon).sum().to(sigma.dtype)
    return torch.where(sigma.isnan().any(), torch.nan, above)


def stable_rank_of(sigma: Tensor) -> Tensor:
    return _zero_if_empty(sigma, sigma.square().sum() / sigma.max().square())


def rankme_of(sigma: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    return _zero_if_empty(sigma, torch.special.entr(sigma / sigma.sum() + epsilon).sum().exp())


class _OfSpectrum(Protocol):
    def __call__(self, sigma: Tensor, /) -> Tensor: ...


_SCALE_FREE: Mapping[str, _OfSpectrum] = MappingProxyType(
    {
        "effective_rank": effective_rank_of,
        "pca_rank": pca_rank_of,
        "srank": srank_of,
        "stable_rank": stable_rank_of,
        "rankme": rankme_of,
    }
)


def all_ranks_of(sigma: Tensor, *, rows: int) -> dict[str, Tensor]:
    """The six ranks with their published settings from one decomposition of `features [rows, D]`, as 0-d
    tensors, with `batch_size` (N) and `ceiling` (min(N, D)), which bound them."""
    ranks = {name: rank(sigma) for name, rank in _SCALE_FREE.items()}
    ranks["feature_rank"] = feature_rank_of(sigma, rows=rows)
    ranks["batch_size"] = sigma.new_tensor(rows)
    ranks["ceiling"] = sigma.new_tensor(len(sigma))
    return ranks


def spectrum_of(sigma: Tensor) -> dict[int, Tensor]:
    """sigma_k / sigma_1 at k = 1, 2, 4, 8, … and at the last: enough points to draw the decay."""
    relative = sigma / sigma[0]
    powers = {2**exponent for exponent in range(len(sigma).bit_length())}
    return {k: relative[k - 1] for k in sorted({*powers, len(sigma)})}


def _count_until(amounts: Tensor, share: float) -> Tensor:
    """Fewest of the falling `amounts` that reach `share` of their sum; 0 where all are zero."""
    total = amounts.sum()
    # Rounding in the running sum must not ask for one value more than exact arithmetic would.
    short = (amounts.cumsum(0) < share * total * (1.0 - 1e-12)).sum() + 1
    return torch.where(total.isnan(), torch.nan, torch.where(total > 0, short.to(amounts.dtype), 0.0))


def _zero_if_empty(sigma: Tensor, rank: Tensor) -> Tensor:
    """`rank`, or 0 where every singular value is 0; NaN is kept for input that is not finite."""
    return torch.where(sigma.sum() == 0, 0.0, rank)
