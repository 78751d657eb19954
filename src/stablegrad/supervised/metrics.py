"""What a network made of each task: final accuracy, area under the curve, and the gap to a fresh network. Torch-free.

A curve is the accuracy in evaluation mode over the updates of one run; its points carry the index of their task.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stablegrad.errors import UserError

SHARE_OF_FRESH = 0.9
"""A task counts as learned at this share of what a fresh network reaches on it."""


class Point(NamedTuple):
    """An evaluation: `step` counts the updates of the run, `accuracy` is a share in [0, 1]."""

    task: int
    step: int
    accuracy: float


@dataclass(frozen=True)
class TaskCurve:
    """One task's evaluations: `steps` count the updates since it began, rising; the last one is its end."""

    steps: tuple[int, ...]
    accuracies: tuple[float, ...]

    @property
    def final(self) -> float:
        """The accuracy at the task's end."""
        return self.accuracies[-1]

    @property
    def area(self) -> float:
        """The mean accuracy over the task's updates, each evaluation standing for the updates that led to it.

        sum_i a_i (s_i - s_{i-1}) / s_n with s_0 = 0: the area under the curve as a share of the whole.
        """
        before = (0, *self.steps[:-1])
        pieces = zip(self.accuracies, self.steps, before, strict=True)
        return sum(accuracy * (step - earlier) for accuracy, step, earlier in pieces) / self.steps[-1]

    def steps_to(self, accuracy: float) -> int | None:
        """Updates until the first evaluation with at least `accuracy`; None when there is none."""
        for step, reached in zip(self.steps, self.accuracies, strict=True):
            if reached >= accuracy:
                return step
        return None


class PlasticityGap(NamedTuple):
    """How much worse a task is learned by a network with a past than by a fresh one with the same budget.

    final, area: accuracy of the fresh network minus that of the trained one; positive is lost plasticity.
    steps, fresh_steps: updates until 90 % of the fresh network's final accuracy; None is never.
    """

    final: float
    area: float
    steps: int | None
    fresh_steps: int | None


def task_curves(points: Iterable[Point], *, starts: Sequence[int]) -> list[TaskCurve]:
    """The points of a run, in order, cut into tasks. `starts[k]` is the update at which task k begins.

    A task without an evaluation ends the list: the run has not come so far. Raises UserError when a task behind
    it has one.
    """
    by_task: dict[int, list[Point]] = {}
    for point in points:
        by_task.setdefault(point.task, []).append(point)
    reached = len(by_task)
    if set(by_task) != set(range(reached)) or reached > len(starts):
        raise UserError(f"evaluations of the tasks {sorted(by_task)} of {len(starts)}: some are missing")
    return [
        TaskCurve(
            tuple(point.step - start for point in by_task[task]), tuple(point.accuracy for point in by_task[task])
        )
        for task, start in enumerate(starts[:reached])
    ]


def plasticity_gap(trained: TaskCurve, fresh: TaskCurve) -> PlasticityGap:
    """The gap on one task between a network that learned others before and one that did not.

    Raises UserError when the two had different budgets: the gap would measure that.
    """
    if trained.steps[-1] != fresh.steps[-1]:
        raise UserError(f"{trained.steps[-1]} updates against {fresh.steps[-1]} of the fresh network: no fair gap")
    threshold = SHARE_OF_FRESH * fresh.final
    return PlasticityGap(
        final=fresh.final - trained.final,
        area=fresh.area - trained.area,
        steps=trained.steps_to(threshold),
        fresh_steps=fresh.steps_to(threshold),
    )


def points_of(rows: Iterable[Mapping[str, Any]], name: str) -> list[Point]:
    """The evaluations among the rows of a metrics.jsonl: those that have `name` ("train/accuracy", "eval/accuracy")."""
    return [Point(int(row["train/task"]) - 1, int(row["step"]), float(row[name])) for row in rows if name in row]
