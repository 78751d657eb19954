"""Which images an update learns from, under which task: a pure function of the number of updates before it."""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from stablegrad.supervised.data import ImageSet, epoch_batches
from stablegrad.supervised.streams import StreamSpec
from stablegrad.supervised.tasks import Task, make_task


class Place(NamedTuple):
    """Where an update stands: its epoch and its task, both from 0, and its batch within the epoch."""

    epoch: int
    task: int
    batch: int


class Curriculum:
    """All epochs of a run over its tasks. Holds no state but what it has computed already."""

    def __init__(self, images: ImageSet, spec: StreamSpec, *, epochs: int, batch_size: int, seed: int) -> None:
        self.images, self.spec, self.epochs, self.batch_size, self.seed = images, spec, epochs, batch_size, seed
        self._task = make_task(spec, images, seed=seed, index=0)
        self.sizes = tuple(len(self.task(index).train_index) for index in range(spec.tasks))
        """The number of training images of each task."""
        batches = [-(-self.sizes[spec.task_at(epoch)] // batch_size) for epoch in range(epochs)]
        self.epoch_ends = tuple(accumulate(batches))
        """The number of updates after each epoch."""
        self._epoch = -1
        self._batches: tuple[Tensor, ...] = ()

    @property
    def updates(self) -> int:
        """The updates of the whole run."""
        return self.epoch_ends[-1]

    @property
    def task_starts(self) -> tuple[int, ...]:
        """The number of updates before each task."""
        return (0, *(self.epoch_ends[point - 1] for point in self.spec.change_points))

    def place(self, update: int) -> Place:
        """Where update number `update` (from 0) stands."""
        epoch = bisect_right(self.epoch_ends, update)
        start = self.epoch_ends[epoch - 1] if epoch else 0
        return Place(epoch, self.spec.task_at(epoch), update - start)

    def epochs_ending_at(self, updates: int) -> int | None:
        """How many epochs are over after so many updates; None in the middle of one."""
        epoch = bisect_left(self.epoch_ends, updates)
        return epoch + 1 if epoch < self.epochs and self.epoch_ends[epoch] == updates else None

    def task(self, index: int) -> Task:
        """Task `index`, made when it is first asked for."""
        if self._task.index != index:
            self._task = make_task(self.spec, self.images, seed=self.seed, index=index)
        return self._task

    def batch(self, update: int) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] uint8 and labels [B] that update number `update` learns from."""
        place = self.place(update)
        task = self.task(place.task)
        if place.epoch != self._epoch:
            index = task.train_index
            order = epoch_batches(len(index), batch_size=self.batch_size, seed=self.seed, epoch=place.epoch)
            self._batches = tuple(index[rows.to(index.device)] for rows in order)
            self._epoch = place.epoch
        chosen = self._batches[place.batch]
        # Not images[chosen], which copies byte by byte: 15 times slower on the CPU.
        return task.view(self.images.train.images.index_select(0, chosen)), task.train_labels[chosen]
