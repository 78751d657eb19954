"""Streams: what a network is asked to learn one after the other, and when that changes. Torch-free.

Two kinds of accuracy must not be confused. *Generalisation*: where a task is a rule (a permutation of classes
or of pixels, a set of classes, the true labels), the test images obey the same rule, and test accuracy says
whether it was learned. *Memorisation*: where every image has a random label of its own, nothing but the image
itself tells its label; training accuracy says how much the network can still fit, and there is no test
accuracy. (The published code shuffled the labels of the test images too, and so reported chance.)
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from stablegrad.errors import UserError

Stream = Literal[
    "stationary",
    "shuffled_labels",
    "permuted_classes",
    "permuted_pixels",
    "class_incremental",
    "noisy_labels",
]
"""
stationary: one task.
shuffled_labels: every task deals the training labels out anew, each class as often as before (the published
    non-stationarity). Memorisation: it has no test accuracy.
permuted_classes: every task renames the classes by a permutation, in training and test alike.
permuted_pixels: every task moves the pixels by a permutation of places, in training and test alike.
class_incremental: the classes come in groups, in random order, and stay once they have come.
noisy_labels: a share of the training labels is wrong at first, linearly less from task to task, and none in
    the last; what is wrong in a later task was wrong before, in the same way. The test labels are true.
"""

FirstTask = Literal["true", "shuffled"]

PUBLISHED_TASKS = 5
"""Published: 100 epochs with changes at epochs 20, 40, 60 and 80."""


def default_change_points(epochs: int) -> tuple[int, ...]:
    """The epochs at which tasks 2 to 5 begin, in five equal parts; fewer tasks where there are fewer epochs.

    >>> default_change_points(100)
    (20, 40, 60, 80)
    """
    points = {task * epochs // PUBLISHED_TASKS for task in range(1, PUBLISHED_TASKS)}
    return tuple(sorted(points - {0}))


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """Which stream, and the epochs at which its second and later tasks begin.

    first_task: "true" leaves the first task as the image set has it; "shuffled" draws it like the later ones,
        so that tasks differ in nothing but their order. Only streams whose tasks are drawn have the choice.
    label_noise: the share of wrong labels in the first task of `noisy_labels`.
    """

    stream: Stream = "stationary"
    change_points: tuple[int, ...] = ()
    first_task: FirstTask = "true"
    label_noise: float = 0.8

    def __post_init__(self) -> None:
        problems = []
        if any(point < 1 for point in self.change_points) or any(
            later <= earlier for earlier, later in pairwise(self.change_points)
        ):
            problems.append(f"change points {self.change_points} are not rising epochs after the first")
        if self.stream == "stationary" and self.change_points:
            problems.append("a stationary stream has no change points: leave them out, or choose a stream")
        if self.stream != "stationary" and not self.change_points:
            problems.append(f"the stream '{self.stream}' needs a change point: one epoch cannot be divided")
        if self.first_task == "shuffled" and self.stream in ("class_incremental", "noisy_labels"):
            problems.append(f"the tasks of '{self.stream}' are not drawn alike: first_task cannot be 'shuffled'")
        if not 0 < self.label_noise <= 1:
            problems.append(f"label_noise is a share between 0 and 1, not {self.label_noise}")
        if problems:
            raise UserError(problems)

    @property
    def tasks(self) -> int:
        return len(self.change_points) + 1

    def task_at(self, epoch: int) -> int:
        """The index of the task that epoch `epoch` (from 0) belongs to."""
        return sum(point <= epoch for point in self.change_points)
