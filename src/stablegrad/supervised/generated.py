"""Image sets that need no files: scikit-learn's digits, and textures that are drawn from a seed."""

import importlib.util

import numpy as np

from stablegrad.errors import UserError
from stablegrad.supervised.formats import Labelled

_DIGITS_TEST_EVERY = 5


def have_digits() -> bool:
    """Whether scikit-learn is installed."""
    return importlib.util.find_spec("sklearn") is not None


def digits(*, scale: int = 1) -> tuple[Labelled, Labelled]:
    """The 1,797 grey 8x8 digits that scikit-learn ships (UCI optical digits), train and test.

    Every fifth image, in file order, is a test image: 1,438 train, 359 test. Grey levels 0..16 become 0..255.
    `scale` repeats every pixel that many times in both directions: 4 gives 32x32.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("the digits come with scikit-learn: pip install 'stablegrad[digits]'") from error
    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    images = grey.repeat(scale, axis=2).repeat(scale, axis=3)
    labels = bunch.target.astype(np.int64)
    is_test = np.arange(len(labels)) % _DIGITS_TEST_EVERY == _DIGITS_TEST_EVERY - 1
    return Labelled(images[~is_test], labels[~is_test]), Labelled(images[is_test], labels[is_test])


def textures(
    *, train: int = 2000, test: int = 500, classes: int = 10, size: int = 32, channels: int = 3, seed: int = 0
) -> tuple[Labelled, Labelled]:
    """Images of `classes` random textures: a pure function of its arguments, train and test.

    A class is a sum of four plane waves per channel; an image of it is the texture at a random place, in
    contrast 0.5 to 1, with uniform noise of a tenth of the range. Classes take turns, so they are balanced.
    """
    rng = np.random.default_rng(seed)
    frequencies = rng.integers(-4, 5, size=(classes, channels, 4, 2))
    phases = rng.random((classes, channels, 4))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")) / size  # [2, H, W]
    turns = np.einsum("xhw,cdkx->cdkhw", grid, frequencies) + phases[..., None, None]
    texture = np.sin(2 * np.pi * turns).mean(axis=2)  # [classes, channels, H, W] in [-1, 1], periodic

    def draw(count: int) -> Labelled:
        labels = np.arange(count) % classes
        shift = rng.integers(0, size, size=(2, count, 1))
        rows, columns = (np.arange(size) + shift) % size  # [N, size] each
        wave = texture[labels[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
        contrast = rng.uniform(0.5, 1.0, size=(count, 1, 1, 1))
        noise = rng.uniform(-0.1, 0.1, size=wave.shape)
        grey = np.rint(127.5 + 127.5 * np.clip(contrast * wave + noise, -1, 1)).astype(np.uint8)
        return Labelled(np.ascontiguousarray(grey.transpose(0, 3, 1, 2)), labels)

    return draw(train), draw(test)
