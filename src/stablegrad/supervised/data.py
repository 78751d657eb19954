"""Image sets by name, as uint8 tensors that live on the device once."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stablegrad.errors import UserError
from stablegrad.supervised.datasets import load_arrays
from stablegrad.supervised.formats import Labelled
from stablegrad.supervised.seeding import generator_for


class Split(NamedTuple):
    """images [N, C, H, W] uint8 and their true labels [N] int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """A training and a test split. `source` says in words which images these are and where they came from."""

    name: str
    source: str
    classes: int
    train: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> "ImageSet":
        """These images on `device`: themselves where they are there already."""
        if self.train.images.device == device:
            return self
        return replace(
            self,
            train=Split(*(values.to(device) for values in self.train)),
            test=Split(*(values.to(device) for values in self.test)),
        )

    def first(self, count: int) -> "ImageSet":
        """The first `count` images of either split, in file order (all of a test split that is smaller)."""
        if not 1 <= count <= len(self.train.labels):
            raise UserError(f"a subset of {count} images cannot be taken from {len(self.train.labels)} training images")
        return replace(
            self,
            source=f"{self.source}; first {count} of {len(self.train.labels)} training images",
            train=Split(*(values[:count] for values in self.train)),
            test=Split(*(values[:count] for values in self.test)),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every image and label: a resumed run checks that it goes on with the same data."""
        digest = hashlib.sha256(repr((self.classes, self.shape)).encode())
        for values in (*self.train, *self.test):
            digest.update(np.ascontiguousarray(values.cpu().numpy()).data)
        return digest.hexdigest()


def load_images(
    name: str, *, data_dir: Path | None = None, subset: int | None = None, download: bool = False
) -> ImageSet:
    """The image set `name` on the CPU, as `datasets.load_arrays` finds it, or its first `subset` images."""
    arrays = load_arrays(name, data_dir=data_dir, download=download)
    images = ImageSet(
        name=arrays.name,
        source=arrays.source,
        classes=arrays.classes,
        train=_split(arrays.train),
        test=_split(arrays.test),
    )
    return images if subset is None else images.first(subset)


def epoch_batches(count: int, *, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Indices [batch_size] (the last batch may be smaller) that visit 0..count-1 once, in random order.

    A pure function of its arguments: an interrupted epoch is taken up again by drawing the same order.
    """
    order = torch.randperm(count, generator=generator_for(seed, "order", epoch))
    yield from order.split(batch_size)


def _split(split: Labelled) -> Split:
    # A copy: the arrays of a file cannot be written to, and those of a generated set may be views.
    return Split(torch.tensor(split.images), torch.tensor(split.labels))
