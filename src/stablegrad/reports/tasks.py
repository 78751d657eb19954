"""What runs whose task changes made of each task, and how far a network with a past stays behind a fresh one.

A task's curve is the accuracy of its evaluations, or the mean return of the games that ended since the row before.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stablegrad.reports.aggregates import mean
from stablegrad.reports.arms import Arm, Study
from stablegrad.reports.bootstrap import Interval, bootstrap_interval
from stablegrad.reports.final import curve_metric
from stablegrad.reports.load import RunRecord
from stablegrad.reports.names import frozen
from stablegrad.runs.series import EPISODES, TRAIN_RETURN, Floats

TASK = "train/task"
SHARE_OF_FRESH = 0.9
"""A task counts as learned at this share of what a fresh network reaches on it."""
FINAL_SHARE = 0.2
"""Share of a task's steps, at its end, over whose games a final return averages; a final accuracy is the last."""
RESAMPLES = 10_000
_TO_THE_END = ("done", "unknown")


@dataclass(frozen=True)
class TaskCurve:
    """One task of one run: `steps` count from its beginning, rising; each value stands for the steps that led to it."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def area(self) -> float:
        """The mean over the task's steps, sum_i v_i (s_i - s_{i-1}) / s_n with s_0 = 0: the area under the curve."""
        before = (0, *self.steps[:-1])
        pieces = zip(self.values, self.steps, before, strict=True)
        return sum(value * (step - earlier) for value, step, earlier in pieces) / self.steps[-1]

    def steps_to(self, value: float) -> float:
        """Steps until the first value of at least this one; infinite where there is none."""
        return next((step for step, reached in zip(self.steps, self.values, strict=True) if reached >= value), np.inf)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One run on one task: the value at its end, the mean over its steps, and the curve itself."""

    final: float
    area: float
    curve: TaskCurve


def change_steps(run: RunRecord) -> tuple[int, ...]:
    """The steps after which another task began, as far as the run has come."""
    series = run.series.get(TASK)
    if series is None:
        return ()
    changed = np.flatnonzero(np.diff(series.values) != 0)
    return tuple(int(step) for step in series.steps[changed])


def task_names(run: RunRecord) -> tuple[str, ...]:
    """What the tasks of a run are, in order; tasks that are drawn alike have one name."""
    if schedule := run.config.get("task_schedule"):
        return tuple(map(str, schedule))
    stream = str(run.config.get("stream", "stationary"))
    count = len(run.config.get("change_points") or ()) + 1
    if stream in ("class_incremental", "noisy_labels"):
        return tuple(f"{stream} {task}" for task in range(1, count + 1))
    first = "true labels" if run.config.get("first_task") == "true" else stream
    return (first, *[stream] * (count - 1))


def task_results(run: RunRecord) -> list[TaskResult]:
    """The tasks that the run has come to, in order; those without a value end the list."""
    metric = curve_metric([run])
    tasks, series = run.series.get(TASK), run.series.get(metric)
    if tasks is None or series is None:
        return []
    task_of = tasks.values[np.searchsorted(tasks.steps, series.steps)].astype(int)
    starts = (0, *change_steps(run))
    found = []
    for number, start in enumerate(starts, 1):
        here = (task_of == number) & np.isfinite(series.values)
        if not here.any():
            break
        steps, values = series.steps[here] - start, series.values[here]
        curve = TaskCurve(tuple(steps.tolist()), tuple(values.tolist()))
        final = _final_return(run, steps + start, steps, values) if metric == TRAIN_RETURN else curve.values[-1]
        found.append(TaskResult(final, curve.area, curve))
    return found


def _final_return(run: RunRecord, at: Floats, steps: Floats, values: Floats) -> float:
    games = run.series[EPISODES]
    late = steps > (1 - FINAL_SHARE) * steps[-1]
    weights = games.values[np.searchsorted(games.steps, at[late])]
    return float(np.average(values[late], weights=weights))


@dataclass(frozen=True, slots=True)
class ArmOnTasks:
    """One arm: `final` and `area` [seeds, tasks], and the results by seed; runs that did not finish are left out."""

    arm: Arm
    names: tuple[str, ...]
    results: dict[int, list[TaskResult]]

    @property
    def final(self) -> Floats:
        return np.array([[result.final for result in tasks] for tasks in self.results.values()])

    @property
    def area(self) -> Floats:
        return np.array([[result.area for result in tasks] for tasks in self.results.values()])

    def change(self) -> Floats:
        """[seeds]: the value at a task's last visit minus that at its first, over the tasks that come back."""
        visits: dict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(self.names):
            visits[name].append(place)
        again = [places for places in visits.values() if len(places) > 1]
        if not again:
            return np.array([])
        return np.mean([self.final[:, places[-1]] - self.final[:, places[0]] for places in again], axis=0)


def arms_on_tasks(study: Study) -> list[ArmOnTasks]:
    """The arms whose runs came through all of at least two tasks, to the end of the last."""
    found = []
    for arm in study.arms:
        names = task_names(arm.runs[0])
        results = {run.seed: task_results(run) for run in arm.runs if run.state in _TO_THE_END}
        complete = {seed: tasks for seed, tasks in results.items() if len(tasks) == len(names)}
        if len(names) > 1 and complete:
            found.append(ArmOnTasks(arm, names, complete))
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """Fresh minus trained, task by task, over the seeds that both have: positive is lost plasticity.

    All are [seeds, tasks]. `late` says by which factor more steps the trained network took to 90 % of the fresh one's
    final value: infinite where it never got there, NaN where that value is not above 0 and has no 90 %.
    """

    arm: Arm
    final: Floats
    area: Floats
    late: Floats


def gaps(arms: Sequence[ArmOnTasks]) -> list[Gap]:
    """The gap of every arm that has a twin with fresh networks."""
    fresh = {_twin(one.arm): one for one in arms if one.arm.settings.get("fresh_networks")}
    found = []
    for one in arms:
        other = fresh.get(_twin(one.arm))
        if other is None or other is one:
            continue
        seeds = [seed for seed in one.results if seed in other.results]
        if seeds:
            found.append(_gap(one, other, seeds))
    return found


def _twin(arm: Arm) -> str:
    """What an arm shares with its twin with fresh networks."""
    return frozen({key: value for key, value in arm.settings.items() if key != "fresh_networks"})


def _gap(trained: ArmOnTasks, fresh: ArmOnTasks, seeds: Sequence[int]) -> Gap:
    pairs = [list(zip(trained.results[seed], fresh.results[seed], strict=True)) for seed in seeds]
    return Gap(
        arm=trained.arm,
        final=np.array([[other.final - own.final for own, other in tasks] for tasks in pairs]),
        area=np.array([[other.area - own.area for own, other in tasks] for tasks in pairs]),
        late=np.array([[_late(own, other) for own, other in tasks] for tasks in pairs]),
    )


def _late(own: TaskResult, fresh: TaskResult) -> float:
    if fresh.final <= 0:
        return np.nan
    threshold = SHARE_OF_FRESH * fresh.final
    return own.curve.steps_to(threshold) / fresh.curve.steps_to(threshold)


def interval_of(values: Floats, *, rng: np.random.Generator) -> Interval:
    """The mean over seeds [seeds] with its bootstrap interval."""
    low, high, point = bootstrap_interval(values[:, None], mean, rng=rng, resamples=RESAMPLES)
    return Interval(float(low), float(high), float(point))
