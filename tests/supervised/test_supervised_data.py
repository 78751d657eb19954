"""Image sets as tensors, subsets, fingerprints, and the order of batches."""

import pytest
import torch

from stablegrad.errors import UserError
from stablegrad.supervised.data import ImageSet, Split, epoch_batches, load_images


def _images(*, classes: int = 10, count: int = 6) -> ImageSet:
    pixels = torch.arange(count * 12, dtype=torch.uint8).view(count, 3, 2, 2)
    labels = torch.arange(count) % classes
    return ImageSet(
        name="tiny",
        source="counted",
        classes=classes,
        train=Split(pixels, labels),
        test=Split(pixels[:3], labels[:3]),
    )


def test_loaded_images_are_bytes_that_can_be_written() -> None:
    images = load_images("digits", subset=100)
    assert images.train.images.dtype == torch.uint8
    assert images.train.labels.dtype == torch.int64
    assert images.shape == (1, 8, 8)
    assert (len(images.train.labels), len(images.test.labels)) == (100, 100)
    images.train.images[0] = 7


def test_a_subset_is_the_first_images_and_says_so() -> None:
    subset = _images().first(4)
    assert subset.train.labels.tolist() == [0, 1, 2, 3]
    assert subset.test.labels.tolist() == [0, 1, 2]
    assert subset.source == "counted; first 4 of 6 training images"


@pytest.mark.parametrize("count", [0, 7])
def test_an_impossible_subset_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"{count} images cannot be taken from 6 training images"):
        _images().first(count)


def test_the_fingerprint_sees_every_pixel_and_label() -> None:
    plain, changed, relabelled = _images(), _images(), _images()
    changed.test.images[2, 1, 1, 1] += 1
    relabelled.train.labels[5] = 0
    prints = {images.fingerprint for images in (plain, _images(), changed, relabelled, _images(classes=11))}
    assert len(prints) == 4


def test_an_epoch_visits_every_image_once() -> None:
    batches = list(epoch_batches(10, batch_size=4, seed=1, epoch=0))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(list(epoch_batches(100, batch_size=100, seed=seed, epoch=epoch))).tolist()

    first = order(1, 0)
    torch.manual_seed(5)
    assert order(1, 0) == first
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(epoch_batches(10, batch_size=4, seed=1, epoch=0))
    assert torch.equal(torch.get_rng_state(), before)
