"""Where an update stands, and what it learns from."""

import torch

from stablegrad.supervised.curriculum import Curriculum, Place
from stablegrad.supervised.data import ImageSet, Split
from stablegrad.supervised.streams import StreamSpec


def _images() -> ImageSet:
    """10 images of 5 classes; every pixel of image i is i."""

    def split(count: int) -> Split:
        pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
        return Split(pixels, torch.arange(count) % 5)

    return ImageSet(name="tiny", source="counted", classes=5, train=split(10), test=split(5))


def _curriculum(spec: StreamSpec, *, epochs: int = 4, seed: int = 1) -> Curriculum:
    return Curriculum(_images(), spec, epochs=epochs, batch_size=4, seed=seed)


SHUFFLED = StreamSpec(stream="shuffled_labels", change_points=(1, 3))


def test_updates_epochs_and_tasks() -> None:
    curriculum = _curriculum(SHUFFLED)
    assert curriculum.epoch_ends == (3, 6, 9, 12)
    assert curriculum.updates == 12
    assert curriculum.task_starts == (0, 3, 9)
    assert [curriculum.epochs_ending_at(updates) for updates in (0, 1, 3, 4, 12, 13)] == [None, None, 1, None, 4, None]
    assert [curriculum.place(update) for update in (0, 2, 3, 8, 11)] == [
        Place(0, 0, 0),
        Place(0, 0, 2),
        Place(1, 1, 0),
        Place(2, 1, 2),
        Place(3, 2, 2),
    ]


def test_an_epoch_shows_every_image_with_the_labels_of_its_task() -> None:
    curriculum = _curriculum(SHUFFLED)
    for epoch in range(4):
        batches = [curriculum.batch(update) for update in range(3 * epoch, 3 * epoch + 3)]
        assert [len(labels) for _, labels in batches] == [4, 4, 2]
        shown = torch.cat([images[:, 0, 0, 0] for images, _ in batches]).long()
        labels = torch.cat([labels for _, labels in batches])
        assert sorted(shown.tolist()) == list(range(10))
        assert torch.equal(labels, curriculum.task(SHUFFLED.task_at(epoch)).train_labels[shown])


def test_a_batch_does_not_depend_on_what_was_asked_for_before() -> None:
    straight, jumping = _curriculum(SHUFFLED), _curriculum(SHUFFLED)
    expected = [straight.batch(update) for update in range(12)]
    for update in (11, 0, 7, 3, 7):
        for left, right in zip(jumping.batch(update), expected[update], strict=True):
            assert torch.equal(left, right)


def test_epochs_get_longer_as_classes_come() -> None:
    spec = StreamSpec(stream="class_incremental", change_points=(1, 2))
    curriculum = _curriculum(spec, epochs=3)
    assert curriculum.epoch_ends == (1, 3, 6)  # 2, 6 and 10 images in batches of 4
    assert len(set(curriculum.batch(0)[1].tolist())) == 1


def test_permuted_pixels_reach_the_batch() -> None:
    images = _images()
    images.train.images[:] = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    spec = StreamSpec(stream="permuted_pixels", change_points=(1,))
    curriculum = Curriculum(images, spec, epochs=2, batch_size=4, seed=0)
    assert curriculum.batch(0)[0][0].flatten().tolist() == [0, 1, 2, 3]
    places = curriculum.task(1).places
    assert places is not None
    assert curriculum.batch(3)[0][0].flatten().tolist() == places.tolist() != [0, 1, 2, 3]
