"""The tasks of a stream over an image set.

Each task is a pure function of the image set, the `StreamSpec`, the seed and the task's index: nothing
carries over from one task to the next but the network that learns them.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stablegrad.errors import UserError
from stablegrad.supervised.data import ImageSet
from stablegrad.supervised.seeding import generator_for
from stablegrad.supervised.streams import StreamSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is to be learned now.

    train_labels [N] int64: the label of every training image under this task.
    test_labels [M] int64: the labels by the task's rule; None where it has no rule (memorisation).
    train_index, test_index int64: the images of this task, rising.
    places [H*W] int64: output place p shows what the image has at `places[p]`; None leaves it as it is.
    """

    index: int
    train_labels: Tensor
    test_labels: Tensor | None
    train_index: Tensor
    test_index: Tensor
    places: Tensor | None = None

    def view(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] as this task shows them."""
        if self.places is None:
            return images
        return images.flatten(2).index_select(2, self.places).view(images.shape)


def make_task(spec: StreamSpec, images: ImageSet, *, seed: int, index: int) -> Task:
    """Task `index` (from 0) of the stream `spec` over `images`: a pure function of its arguments."""
    if not 0 <= index < spec.tasks:
        raise UserError(f"there is no task {index}: the stream has {spec.tasks}")
    train, test = images.train.labels, images.test.labels
    plain = Task(
        index=index,
        train_labels=train,
        test_labels=test,
        train_index=torch.arange(len(train), device=train.device),
        test_index=torch.arange(len(test), device=test.device),
    )
    untouched = index == 0 and spec.first_task == "true"
    match spec.stream:
        case "class_incremental":
            return _class_incremental(plain, spec, images, seed)
        case "noisy_labels":
            return _noisy(plain, spec, images, seed)
        case _ if untouched:
            return plain
        case "permuted_classes":
            return _permuted_classes(plain, images, seed)
        case "permuted_pixels":
            return _permuted_pixels(plain, images, seed)
        case "stationary" | "shuffled_labels":
            return _shuffled_labels(plain, seed)


def _permutation(count: int, device: torch.device, *purpose: str | int, seed: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, *purpose)).to(device)


def _shuffled_labels(plain: Task, seed: int) -> Task:
    labels = plain.train_labels
    order = _permutation(len(labels), labels.device, "shuffled_labels", plain.index, seed=seed)
    return replace(plain, train_labels=labels[order], test_labels=None)


def _permuted_classes(plain: Task, images: ImageSet, seed: int) -> Task:
    new_name = _permutation(images.classes, plain.train_labels.device, "classes", plain.index, seed=seed)
    return replace(plain, train_labels=new_name[images.train.labels], test_labels=new_name[images.test.labels])


def _permuted_pixels(plain: Task, images: ImageSet, seed: int) -> Task:
    _, height, width = images.shape
    places = _permutation(height * width, plain.train_labels.device, "pixels", plain.index, seed=seed)
    return replace(plain, places=places)


def _class_incremental(plain: Task, spec: StreamSpec, images: ImageSet, seed: int) -> Task:
    if spec.tasks > images.classes:
        raise UserError(f"{images.classes} classes cannot come in {spec.tasks} groups: fewer change points")
    train, test = images.train.labels, images.test.labels
    order = _permutation(images.classes, train.device, "class_order", seed=seed)
    come = torch.zeros(images.classes, dtype=torch.bool, device=train.device)
    come[order[: images.classes * (plain.index + 1) // spec.tasks]] = True
    train_index, test_index = (come[labels].nonzero()[:, 0] for labels in (train, test))
    for split, index, labels in (("training", train_index, train), ("test", test_index, test)):
        if not len(index):
            raise UserError(
                f"with seed {seed}, none of the {len(labels)} {split} images is of the classes of task"
                f" {plain.index + 1}: take a larger --subset, fewer --change_points, or another --seed"
            )
    return replace(plain, train_index=train_index, test_index=test_index)


def _noisy(plain: Task, spec: StreamSpec, images: ImageSet, seed: int) -> Task:
    true = plain.train_labels
    generator = generator_for(seed, "noise")
    rank = torch.randperm(len(true), generator=generator).to(true.device)
    step = torch.randint(1, images.classes, (len(true),), generator=generator).to(true.device)
    share = spec.label_noise * (1 - plain.index / (spec.tasks - 1))
    wrong = rank < round(share * len(true))
    return replace(plain, train_labels=torch.where(wrong, (true + step) % images.classes, true))
