"""Ranks of features: literal numbers on known spectra, and what happens at the edges."""

import math

import pytest
import torch

from stablegrad.diagnostics import ranks
from stablegrad.errors import UserError

ALL = (
    ranks.effective_rank,
    ranks.pca_rank,
    ranks.srank,
    ranks.feature_rank,
    ranks.stable_rank,
    ranks.rankme,
)


def matrix(*sigma: float, rows: int = 6) -> torch.Tensor:
    """[rows, len(sigma)] with these singular values, rotated so that no axis is special."""
    generator = torch.Generator().manual_seed(3)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(len(sigma), len(sigma), generator=generator, dtype=torch.float64))
    return left[:, : len(sigma)] @ torch.diag(torch.tensor(sigma, dtype=torch.float64)) @ right.T


def test_effective_rank_is_the_exponential_of_the_entropy() -> None:
    # p = (1/2, 1/4, 1/4): H = 1.5 ln 2, exp(H) = 2 ** 1.5
    assert ranks.effective_rank(matrix(2.0, 1.0, 1.0)) == pytest.approx(2**1.5)


def test_stable_rank_is_the_ratio_of_squared_norms() -> None:
    assert ranks.stable_rank(matrix(2.0, 1.0, 1.0)) == pytest.approx(6 / 4)


def test_srank_counts_singular_values_and_pca_rank_their_squares() -> None:
    # Sums: 10, 10.5, 10.6 of 10.6 (94.3 %, 99.06 %); squares: 100 of 100.26 (99.7 %).
    features = matrix(10.0, 0.5, 0.1)
    assert ranks.srank(features) == 2
    assert ranks.pca_rank(features) == 1


def test_shares_that_are_reached_exactly_need_no_further_direction() -> None:
    assert ranks.srank(matrix(3.0, 1.0), delta=0.25) == 1
    assert ranks.pca_rank(matrix(1.0, 1.0, 1.0, 1.0), variance=0.5) == 2


def test_pca_rank_is_uncentred_unless_asked() -> None:
    # One bias of 100 shared by every row, and variance along two axes.
    features = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]) + 100
    assert ranks.pca_rank(features) == 1
    assert ranks.pca_rank(features, centered=True) == 2


def test_feature_rank_depends_on_the_scale() -> None:
    # sigma / sqrt(4) = 1, 0.02, 0.005 against 0.01
    features = matrix(2.0, 0.04, 0.01, rows=4)
    assert ranks.feature_rank(features) == 2
    assert ranks.feature_rank(features * 10) == 3
    assert ranks.effective_rank(features * 10) == pytest.approx(ranks.effective_rank(features))


def test_rankme_looks_at_singular_values_not_at_the_covariance() -> None:
    features = matrix(2.0, 1.0, 1.0)
    assert ranks.rankme(features) == pytest.approx(2**1.5, rel=1e-5)
    eigenvalues = torch.linalg.eigvalsh(features.T @ features)
    shares = eigenvalues / eigenvalues.sum()
    published = torch.exp(-(shares * shares.log()).sum()).item()
    assert published == pytest.approx(2.381, abs=1e-3)


@pytest.mark.parametrize("rank", ALL)
def test_a_rank_one_matrix_in_float32_has_rank_one(rank) -> None:
    features = torch.linspace(1, 2, 256).outer(torch.linspace(-1, 1, 512))
    assert rank(features) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("rank", ALL)
def test_the_batch_bounds_the_rank(rank) -> None:
    identity = torch.eye(8, 32)
    assert rank(identity) == pytest.approx(8.0, rel=1e-4)


@pytest.mark.parametrize("rank", ALL)
def test_zero_has_rank_zero_and_nan_is_not_hidden(rank) -> None:
    assert rank(torch.zeros(4, 3)) == 0.0
    assert math.isnan(rank(torch.tensor([[1.0, math.nan], [0, 1]])))
    assert math.isnan(rank(torch.tensor([[1.0, math.inf], [0, 1]])))


@pytest.mark.parametrize("rank", ALL)
def test_what_is_not_a_matrix_is_refused(rank) -> None:
    for wrong in (torch.zeros(3), torch.zeros(2, 3, 4), torch.zeros(0, 4)):
        with pytest.raises(UserError, match=r"\[N, D\]"):
            rank(wrong)


def test_all_ranks_of_one_decomposition_agree_with_the_single_functions() -> None:
    features = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    together = ranks.all_ranks_of(ranks.singular_values(features), rows=20)
    for rank in ALL:
        assert together[rank.__name__].item() == rank(features)
    assert together["batch_size"] == 20
    assert together["ceiling"] == 12


def test_the_spectrum_is_relative_and_sampled_at_powers_of_two() -> None:
    spectrum = ranks.spectrum_of(ranks.singular_values(matrix(8.0, 4.0, 2.0, 1.0, 0.5)))
    assert {k: round(v.item(), 6) for k, v in spectrum.items()} == {1: 1.0, 2: 0.5, 4: 0.125, 5: 0.0625}
