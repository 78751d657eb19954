"""The mathematics of PSGD: schedule, views, triangular products, and that the fit whitens."""

import math

import pytest
import torch

from stablegrad.optim import psgd, triangular


@pytest.mark.parametrize(
    ("step", "probability"),
    [
        (0, 1.0),
        (500, 1.0),
        (501, 0.9990005),
        (1000, 0.60653066),
        (2000, 0.22313016),
        (4006, 0.03001674),
        (4007, 0.03),
        (10**6, 0.03),
    ],
)
def test_published_schedule(step, probability):
    assert psgd.update_probability(step) == pytest.approx(probability, rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "ours", "published"),
    [
        ((32, 4, 8, 8), (32, 256), (1024, 8)),
        ((64, 32, 4, 4), (64, 512), (8192, 4)),
        ((64, 64, 3, 3), (64, 576), (12288, 3)),
        ((2, 3, 40), (2, 120), (6, 40)),
        ((512, 3136), (512, 3136), (512, 3136)),
        ((7,), (7,), (7,)),
        ((), (), ()),
    ],
)
def test_views_of_a_parameter(shape, ours, published):
    assert psgd.matrix_shape(shape) == ours
    assert psgd.matrix_shape(shape, "published") == published


def test_factors_are_diagonal_where_they_must_be():
    def shapes(*shape, max_size_triangular=8192, min_ndim_triangular=2):
        factors = psgd.identity_factors(
            shape,
            max_size_triangular=max_size_triangular,
            min_ndim_triangular=min_ndim_triangular,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )
        return [tuple(q.shape) for q in factors]

    assert shapes(3, 4) == [(3, 3), (4, 4)]
    assert shapes(1, 4) == [(1,), (4, 4)]
    assert shapes(9) == [(9,)]
    assert shapes() == [(1,)]
    assert shapes(9, min_ndim_triangular=1) == [(9, 9)]
    assert shapes(3, 4, max_size_triangular=3) == [(3, 3), (4,)]
    assert shapes(3, 4, max_size_triangular=4) == [(3, 3), (4, 4)]


@pytest.mark.parametrize("n", [5, 128, 129, 300, 700])
def test_triangular_products_equal_the_dense_ones(n):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 17, dtype=torch.float64, generator=generator)
    t = torch.randn(n, n, dtype=torch.float64, generator=generator)
    q = torch.randn(n, n, dtype=torch.float64, generator=generator).triu()
    assert torch.allclose(triangular.upper_times(q, x), q @ x)
    assert torch.allclose(triangular.transposed_times(q, x), q.T @ x)
    assert torch.allclose(triangular.upper_times(q, x.T.contiguous().T), q @ x)
    assert torch.allclose(triangular.gram(x), x @ x.T)
    expected = q - 0.5 * t.triu() @ q
    triangular.subtract_upper_times_(q, t, torch.tensor(0.5, dtype=torch.float64))
    assert torch.allclose(q, expected)
    assert not q.tril(-1).any()


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18])
def test_norm_lower_bound_is_below_and_close(scale):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 30, generator=generator)
    s = x @ x.T * scale
    exact = torch.linalg.matrix_norm(s.double(), 2).item()
    assert 0.7 * exact < psgd.norm_lower_bound_(s.clone()).item() <= exact * (1 + 1e-6)
    assert psgd.norm_lower_bound_(torch.zeros(3, 3)).item() == 0


def test_balance_gives_one_common_peak_and_keeps_the_product():
    left, right = torch.tensor([[800.0, 1.0], [0.0, 2.0]]), torch.tensor([0.02, 0.01])
    product = torch.kron(left, right)
    psgd.balance_([left, right])
    assert left.abs().max().item() == pytest.approx(4.0)  # sqrt(800 * 0.02)
    assert right.abs().max().item() == pytest.approx(4.0)
    assert torch.allclose(torch.kron(left, right), product)


def power(covariance, exponent):
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values**exponent) @ vectors.T


def fit(shape, gradients, steps, generator):
    """Factors after `steps` updates with a step size that falls as 1 / t."""
    factors = psgd.identity_factors(
        shape,
        max_size_triangular=8192,
        min_ndim_triangular=1,
        dtype=torch.float64,
        device=torch.device("cpu"),
    )
    for t in range(steps):
        noise = torch.randn(*shape, dtype=torch.float64, generator=generator).reshape(shape[0], -1)
        psgd.update_factors_(factors, gradients(), noise, precond_lr=0.1 / (1 + t / 300))
    return factors


def relative_error(estimate, truth):
    return ((estimate - truth).norm() / truth.norm()).item()


def test_the_fit_of_a_vector_is_the_inverse_root_of_the_gradient_covariance():
    generator = torch.Generator().manual_seed(1)
    mixing = torch.tensor([[3.0, 0, 0], [2.0, 1.0, 0], [0.5, -0.3, 0.1]], dtype=torch.float64)

    def gradients():
        return mixing @ torch.randn(3, 1, dtype=torch.float64, generator=generator)

    (q,) = fit((3,), gradients, 6000, generator)
    covariance = mixing @ mixing.T
    whitening = power(covariance, -0.5)
    assert relative_error(q.T @ q, whitening) < 0.1
    # What a fit that does not whiten would have found: nothing, or the inverse, which is Newton's step.
    assert relative_error(torch.eye(3, dtype=torch.float64), whitening) > 0.5
    assert relative_error(power(covariance, -1.0), whitening) > 0.5


def test_the_fit_of_a_matrix_whitens_rows_and_columns():
    generator = torch.Generator().manual_seed(2)
    left = torch.tensor([[2.0, 0.0], [1.5, 0.2]], dtype=torch.float64)
    right = torch.tensor([[1.0, 0, 0], [0.5, 0.3, 0], [-2.0, 0.4, 5.0]], dtype=torch.float64)

    def gradients():
        return left @ torch.randn(2, 3, dtype=torch.float64, generator=generator) @ right.T

    factors = fit((2, 3), gradients, 6000, generator)
    fitted = torch.kron(factors[0].T @ factors[0], factors[1].T @ factors[1])
    covariance = torch.kron(left @ left.T, right @ right.T)
    assert relative_error(fitted, power(covariance, -0.5)) < 0.1
    assert relative_error(torch.eye(6, dtype=torch.float64), power(covariance, -0.5)) > 0.5

    whitened = torch.stack([psgd.precondition(factors, gradients()).flatten() for _ in range(4000)])
    assert relative_error(whitened.T.cov(), torch.eye(6, dtype=torch.float64)) < 0.15
    raw = torch.stack([gradients().flatten() for _ in range(4000)])
    assert relative_error(raw.T.cov(), torch.eye(6, dtype=torch.float64)) > 1.0


def test_a_diagonal_fit_is_the_inverse_root_of_the_mean_square():
    generator = torch.Generator().manual_seed(3)
    scale = torch.tensor([[0.1], [1.0], [10.0]], dtype=torch.float64)
    factors = [torch.ones(3, dtype=torch.float64)]
    for t in range(6000):
        gradient = scale * torch.randn(3, 1, dtype=torch.float64, generator=generator)
        noise = torch.randn(3, 1, dtype=torch.float64, generator=generator)
        psgd.update_factors_(factors, gradient, noise, precond_lr=0.1 / (1 + t / 300))
    assert (factors[0] ** 2).tolist() == pytest.approx([10.0, 1.0, 0.1], rel=0.15)


def test_damping_is_the_root_of_the_float32_epsilon():
    assert math.isclose(psgd.DAMPING, 3.4526698e-4, rel_tol=1e-7)


@pytest.mark.parametrize("largest", [1e-45, 1e-30, 0.9, 1.0, 1.5, 2.0, 3e38])
def test_dividing_by_a_power_of_two_is_exact_and_leaves_one_to_two(largest):
    x = torch.tensor([[0.0, -largest], [largest / 3, 0.0]])
    power = psgd.power_of_two(x)
    assert torch.frexp(power)[0] == 0.5
    assert torch.equal(x / power * power, x)
    if largest > 1e-38:  # below it float32 has fewer digits, and the smallest normal number stands in
        assert 1 <= (x / power).abs().max() < 2


@pytest.mark.parametrize("shape", [(4, 6), (6,), (3, 9)])
def test_the_scale_of_a_gradient_may_be_given_apart_and_changes_no_digit(shape):
    generator = torch.Generator().manual_seed(3)
    gradient, noise = (torch.randn(shape, generator=generator).reshape(shape[0], -1) for _ in range(2))

    def fitted(given, **scale):
        factors = psgd.identity_factors(
            shape, max_size_triangular=8, min_ndim_triangular=2, dtype=torch.float32, device=torch.device("cpu")
        )
        psgd.update_factors_(factors, given, noise, precond_lr=0.1, **scale)
        return factors

    for ours, apart in zip(fitted(gradient), fitted(gradient / 2**20, scale=2.0**20), strict=True):
        assert torch.equal(ours, apart)
    assert not torch.equal(fitted(gradient)[0], fitted(gradient / 2**20)[0])
