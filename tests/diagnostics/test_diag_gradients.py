"""Gradient summaries: hand-worked numbers, and the estimator of the noise scale against a known answer."""

import math

import pytest
import torch

from stablegrad.diagnostics import gradients

FIRST = {"a": torch.tensor([[3.0, 4.0]]), "b": torch.tensor([1.0, 0.0]), "c": torch.zeros(2)}
SECOND = {"c": torch.ones(2), "a": torch.tensor([[-3.0, -4.0]]), "b": torch.tensor([1.0, 1.0])}


def test_norms_keep_the_order_of_the_dict() -> None:
    assert gradients.norms(FIRST).tolist() == [5.0, 1.0, 0.0]
    assert gradients.total_norm(gradients.norms(FIRST)).item() == pytest.approx(26**0.5)


def test_cosines_go_by_name_and_an_undefined_angle_is_nan_not_zero() -> None:
    opposite, diagonal, undefined = gradients.cosines(FIRST, SECOND).tolist()
    assert opposite == -1.0
    assert diagonal == pytest.approx(0.5**0.5)
    assert math.isnan(undefined)


def test_update_to_weight_is_a_ratio_of_norms() -> None:
    weights = {"b": torch.tensor([0.0, 4.0]), "a": torch.tensor([[0.0, 50.0]]), "c": torch.ones(2)}
    assert gradients.update_to_weight(FIRST, weights).tolist() == pytest.approx([0.1, 0.25, 0.0])


def test_moving_zero_weights_is_infinite() -> None:
    moved = gradients.update_to_weight({"w": torch.ones(1)}, {"w": torch.zeros(1)})
    assert moved.item() == math.inf


def test_share_below_a_tenth_of_the_median_layer() -> None:
    # median (1 + 2) / 2 = 1.5: only 0.1 is below 0.15
    assert gradients.below_median_share(torch.tensor([0.1, 1.0, 2.0, 30.0])).item() == 0.25
    assert gradients.below_median_share(torch.tensor([1.0, 2.0, 3.0])).item() == 0.0
    assert math.isnan(gradients.below_median_share(torch.tensor([1.0, math.nan])).item())


def test_noise_scale_solves_the_two_batch_equations() -> None:
    # |G|^2 = 2 and tr(Sigma) = 12: E|G_B|^2 = 2 + 12 / B is 5 at B = 4 and 3.5 at B = 8.
    found = gradients.noise_scale(torch.tensor(5.0), torch.tensor(3.5), small=4, big=8)
    assert [part.item() for part in found] == pytest.approx([6.0, 2.0, 12.0])


def test_without_a_signal_the_noise_scale_is_infinite() -> None:
    found = gradients.noise_scale(torch.tensor(4.0), torch.tensor(1.0), small=1, big=2)
    assert found.scale.item() == math.inf
    assert found.signal.item() == -2.0


def test_halves_estimate_signal_and_noise_without_bias() -> None:
    """Gradients of single inputs drawn around G = (1, 1) with covariance diag(4, 9): |G|^2 = 2, tr = 13."""
    generator = torch.Generator().manual_seed(0)
    repeats, batch = 4000, 8
    singles = torch.randn(repeats, batch, 2, generator=generator) * torch.tensor([2.0, 3.0]) + 1.0
    signals, noises, naive = [], [], []
    for one in singles:
        first, second = one[: batch // 2].mean(dim=0), one[batch // 2 :].mean(dim=0)
        found = gradients.noise_scale_of_halves({"w": first}, {"w": second}, batch_size=batch)
        signals.append(found.signal)
        noises.append(found.noise)
        naive.append(((first + second) / 2).square().sum())
    assert torch.stack(signals).mean().item() == pytest.approx(2.0, abs=0.15)
    assert torch.stack(noises).mean().item() == pytest.approx(13.0, abs=0.6)
    # The squared norm of the batch gradient itself is too large by tr / batch.
    assert torch.stack(naive).mean().item() == pytest.approx(2 + 13 / 8, abs=0.15)
