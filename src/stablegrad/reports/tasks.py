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
from stablegrad.reports.load import EPISODES, TRAIN_RETURN, Floats, RunRecord
from stablegrad.reports.names import frozen
from stablegrad.supervised.metrics import SHARE_OF_FRESH, TaskCurve

TASK = "train/task"
FINAL_SHARE = 0.2
"""Share of a task's steps, at its end, over whose games a final return averages; a final accuracy is the last."""
RESAMPLES = 10_000
_TO_THE_END = ("done", "unknown")


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
        final = _final_return(run, steps + start, steps, values) if metric == TRAIN_RETURN else curve.final
        found.append(TaskResult(final, curve.area, curve))
    return found


def _final_return(run: RunRecord, at: Floats, steps: Floats, values: Floats) -> float:
    games = run.series[EPISODES]
    late = steps > (1 - FINAL_SHARE) * steps[-1]
    weights = games.values[np.searchsorted(games.steps, at[late])]
    return float(np.average(values[late], weights=weights))


@dataclass(frozen=True, slots=True)
class ArmOnTasks:
    """One arm: `final [seeds, tasks]` and `area`, and the results by seed; runs that did not finish are left out."""

    arm: Arm
    names: tuple[str, ...]
    results: dict[int, list[TaskResult]]

    @property
    def final(self) -> Floats:
        return np.array([[result.final for result in tasks] for tasks in self.results.values()])

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

    final [seeds, tasks]; area likewise. `late` says by which factor more steps the trained network took to 90 % of
    the fresh one's final value, the median over seeds and tasks but the first; None where most never got there.
    """

    arm: Arm
    final: Floats
    area: Floats
    late: float | None


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
    ratios = []
    for own, other in (pair for tasks in pairs for pair in tasks[1:]):
        threshold = SHARE_OF_FRESH * other.final
        ours, theirs = own.curve.steps_to(threshold), other.curve.steps_to(threshold)
        ratios.append(np.inf if ours is None or theirs is None else ours / theirs)
    late = float(np.median(ratios))
    return Gap(
        arm=trained.arm,
        final=np.array([[other.final - own.final for own, other in tasks] for tasks in pairs]),
        area=np.array([[other.area - own.area for own, other in tasks] for tasks in pairs]),
        late=late if np.isfinite(late) else None,
    )


def interval_of(values: Floats, *, rng: np.random.Generator) -> Interval:
    """The mean over seeds [seeds] with its bootstrap interval."""
    low, high, point = bootstrap_interval(values[:, None], mean, rng=rng, resamples=RESAMPLES)
    return Interval(float(low), float(high), float(point))
