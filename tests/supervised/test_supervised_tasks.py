"""What each stream asks for, task by task, on a set small enough to see."""

import itertools

import pytest
import torch
from torch import Tensor

from stablegrad.errors import UserError
from stablegrad.supervised.data import ImageSet, Split
from stablegrad.supervised.streams import FirstTask, Stream, StreamSpec
from stablegrad.supervised.tasks import Task, make_task

STREAMS: tuple[Stream, ...] = (
    "stationary",
    "shuffled_labels",
    "permuted_classes",
    "permuted_pixels",
    "class_incremental",
    "noisy_labels",
)
DRAWN: tuple[Stream, ...] = ("shuffled_labels", "permuted_classes", "permuted_pixels")


@pytest.fixture
def images() -> ImageSet:
    """1000 training and 100 test images of 10 classes; pixel p of image i is p + i (mod 256)."""

    def split(count: int) -> Split:
        pixels = (torch.arange(48) + torch.arange(count)[:, None]) % 256
        return Split(pixels.to(torch.uint8).view(count, 3, 4, 4), torch.arange(count) % 10)

    return ImageSet(name="tiny", source="counted", classes=10, train=split(1000), test=split(100))


def _spec(stream: Stream, *, tasks: int = 5, first_task: FirstTask = "true", noise: float = 0.8) -> StreamSpec:
    points = () if stream == "stationary" else tuple(range(1, tasks))
    return StreamSpec(stream=stream, change_points=points, first_task=first_task, label_noise=noise)


def _tensors(task: Task) -> list[Tensor | None]:
    return [task.train_labels, task.test_labels, task.train_index, task.test_index, task.places]


def _equal(left: Task, right: Task) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(_tensors(left), _tensors(right), strict=True)
    )


@pytest.mark.parametrize("stream", STREAMS)
def test_a_task_is_a_function_of_seed_and_index(images: ImageSet, stream: Stream) -> None:
    spec = _spec(stream)
    index = spec.tasks - 1
    alone = make_task(spec, images, seed=3, index=index)
    torch.manual_seed(99)
    for earlier in range(index):
        make_task(spec, images, seed=3, index=earlier)
    assert _equal(make_task(spec, images, seed=3, index=index), alone)


@pytest.mark.parametrize("stream", DRAWN)
def test_tasks_and_seeds_differ(images: ImageSet, stream: Stream) -> None:
    spec = _spec(stream, first_task="shuffled")
    drawn = [make_task(spec, images, seed=seed, index=index) for seed in (1, 2) for index in range(5)]
    for i, left in enumerate(drawn):
        assert not any(_equal(left, right) for right in drawn[i + 1 :])


@pytest.mark.parametrize("stream", ["stationary", *DRAWN])
def test_the_first_task_is_true_unless_it_is_shuffled(images: ImageSet, stream: Stream) -> None:
    true = make_task(_spec(stream), images, seed=1, index=0)
    assert torch.equal(true.train_labels, images.train.labels)
    assert true.test_labels is not None
    assert torch.equal(true.test_labels, images.test.labels)
    assert true.view(images.train.images) is images.train.images
    assert not _equal(make_task(_spec(stream, first_task="shuffled"), images, seed=1, index=0), true)


def test_shuffled_labels_keep_each_class_as_frequent_and_have_no_test(images: ImageSet) -> None:
    task = make_task(_spec("shuffled_labels"), images, seed=1, index=2)
    assert torch.bincount(task.train_labels).tolist() == [100] * 10
    agreement = (task.train_labels == images.train.labels).float().mean()
    assert 0.05 < agreement < 0.15  # chance is 1/10: no rule links the two
    assert task.test_labels is None


def test_permuted_classes_obey_one_rule_in_training_and_test(images: ImageSet) -> None:
    task = make_task(_spec("permuted_classes"), images, seed=1, index=1)
    rule = {int(old): int(new) for old, new in zip(images.train.labels, task.train_labels, strict=True)}
    assert sorted(rule.values()) == list(range(10))
    assert task.test_labels is not None
    assert task.test_labels.tolist() == [rule[label] for label in images.test.labels.tolist()]


def test_permuted_pixels_move_places_and_keep_channels_together(images: ImageSet) -> None:
    task = make_task(_spec("permuted_pixels"), images, seed=1, index=1)
    assert task.places is not None
    assert sorted(task.places.tolist()) == list(range(16))
    before, after = images.test.images, task.view(images.test.images)
    assert after.shape == before.shape
    for place, origin in enumerate(task.places.tolist()):
        assert torch.equal(after[:, :, place // 4, place % 4], before[:, :, origin // 4, origin % 4])
    assert torch.equal(task.train_labels, images.train.labels)


def test_classes_come_in_groups_and_stay(images: ImageSet) -> None:
    tasks = [make_task(_spec("class_incremental", tasks=4), images, seed=1, index=index) for index in range(4)]
    seen: list[set[int]] = []
    for task in tasks:
        come = set(task.train_labels[task.train_index].tolist())
        assert set(images.test.labels[task.test_index].tolist()) == come
        assert len(task.train_index) == 100 * len(come)
        seen.append(come)
    assert [len(come) for come in seen] == [2, 5, 7, 10]
    assert all(earlier < later for earlier, later in itertools.pairwise(seen))


def test_more_groups_than_classes_are_refused(images: ImageSet) -> None:
    with pytest.raises(UserError, match="10 classes cannot come in 11 groups"):
        make_task(_spec("class_incremental", tasks=11), images, seed=1, index=0)


def test_noise_falls_to_none_and_only_by_mending(images: ImageSet) -> None:
    tasks = [make_task(_spec("noisy_labels", noise=0.8), images, seed=1, index=index) for index in range(5)]
    true = images.train.labels
    wrong = [task.train_labels != true for task in tasks]
    assert [int(which.sum()) for which in wrong] == [800, 600, 400, 200, 0]
    for earlier, later in zip(range(4), range(1, 5), strict=True):
        assert bool((wrong[earlier] | ~wrong[later]).all())
        both = wrong[earlier] & wrong[later]
        assert torch.equal(tasks[earlier].train_labels[both], tasks[later].train_labels[both])
    assert all(task.test_labels is images.test.labels for task in tasks)


def test_there_is_no_task_behind_the_last(images: ImageSet) -> None:
    with pytest.raises(UserError, match="there is no task 1: the stream has 1"):
        make_task(_spec("stationary"), images, seed=1, index=1)
