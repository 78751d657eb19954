"""Image sets that need no files."""

import numpy as np
import pytest

from stablegrad.supervised.generated import digits, textures


def test_digits_are_split_one_to_four_and_scaled_to_bytes() -> None:
    train, test = digits()
    assert train.images.shape == (1438, 1, 8, 8)
    assert test.images.shape == (359, 1, 8, 8)
    # The first digit of the file is a zero; its first row is 0 0 5 13 9 1 0 0 of 16 grey levels.
    assert train.labels[0] == 0
    assert train.images[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert train.images.max() == 255
    assert test.labels[0] == 4  # the fifth image
    assert np.bincount(test.labels).min() >= 21


def test_upsampled_digits_repeat_every_pixel() -> None:
    (small, _), (large, _) = digits()[0], digits(scale=4)[0]
    assert large.shape[1:] == (1, 32, 32)
    assert np.array_equal(large[:, :, ::4, ::4], small)
    assert np.array_equal(large[:, :, 3::4, 3::4], small)


def test_textures_are_a_function_of_the_seed() -> None:
    first, _ = textures(train=20, test=10, seed=3)
    again, _ = textures(train=20, test=10, seed=3)
    other, _ = textures(train=20, test=10, seed=4)
    assert first.images.tobytes() == again.images.tobytes()
    assert first.images.tobytes() != other.images.tobytes()
    assert first.images.shape == (20, 3, 32, 32)
    assert first.labels.tolist() == [*range(10), *range(10)]


@pytest.mark.parametrize("control", [False, True])
def test_textures_can_be_told_apart_wherever_they_lie(control: bool) -> None:
    """The spectrum of an image does not depend on its place, so the nearest mean spectrum names the class;
    with the labels dealt out anew (the control) it does not."""

    def spectrum(images: np.ndarray) -> np.ndarray:
        grey = images / 255 - 0.5
        return np.abs(np.fft.rfft2(grey)).reshape(len(images), -1)

    train, test = textures(train=300, test=100)
    labels = np.random.default_rng(0).permutation(train.labels) if control else train.labels
    means = np.stack([spectrum(train.images[labels == label]).mean(axis=0) for label in range(10)])
    distance = ((spectrum(test.images)[:, None] - means) ** 2).sum(axis=2)
    accuracy = (distance.argmin(axis=1) == test.labels).mean()
    assert accuracy < 0.3 if control else accuracy > 0.95
