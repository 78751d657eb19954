"""The section about runs whose task changes: values task by task, their change, the gap to fresh networks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports.arms import Arm, Study
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.comparisons import too_few
from stablegrad.reports.document import Block, Cell, Points, Section, Table
from stablegrad.reports.figures import Figure, Panel, Row
from stablegrad.reports.final import curve_metric
from stablegrad.reports.lines import Styles, legend_of
from stablegrad.reports.names import percent
from stablegrad.reports.sentences import interval_text, number
from stablegrad.reports.tasks import FINAL_SHARE, ArmOnTasks, Gap, arms_on_tasks, gaps, interval_of
from stablegrad.runs.series import TRAIN_RETURN, Floats

_NOTHING = Cell("–", np.nan)


def task_section(study: Study, styles: Styles, *, rng: np.random.Generator) -> Section:
    """Everything task by task; no blocks where no run came through two tasks."""
    arms = arms_on_tasks(study)
    if not arms:
        return Section("Task by task", [])
    returns = curve_metric(study.runs) == TRAIN_RETURN
    blocks: list[Block] = [_figure(arms, styles, rng=rng), *_value_tables(arms, returns=returns, rng=rng)]
    several = [len(one.results) for one in arms if len(one.results) > 1]
    if several and (sentence := too_few(min(several), 1, "mean")):
        blocks.append(Points([sentence]))
    behind = gaps(arms)
    if behind:
        blocks += _gap_tables(behind, rng=rng)
    else:
        blocks.append(Points(["No arm here has a twin with --fresh_networks: lost plasticity cannot be told apart."]))
    return Section("Task by task", blocks, _lead(arms, returns=returns))


def _lead(arms: Sequence[ArmOnTasks], *, returns: bool) -> str:
    names = arms[0].names
    what = (
        f"mean raw score of the games that ended in the last {percent(FINAL_SHARE)} of the task's steps"
        if returns
        else "accuracy at the task's end, in evaluation mode"
    )
    return f"Tasks in order: {', '.join(f'{place} {name}' for place, name in enumerate(names, 1))}. Value: {what}."


def _figure(arms: Sequence[ArmOnTasks], styles: Styles, *, rng: np.random.Generator) -> Figure:
    lines = {one.arm.label: _intervals(one, rng=rng) for one in arms}
    tasks = max(map(len, lines.values()))

    def draw(axes: Axes) -> None:
        for place, (label, intervals) in enumerate(lines.items()):
            style = styles[label]
            # Slightly apart, so that intervals do not hide each other.
            at = np.arange(1, len(intervals) + 1) + 0.03 * (place - (len(lines) - 1) / 2)
            middle = np.array([interval.point for interval in intervals])
            low = middle - [interval.low for interval in intervals]
            high = np.array([interval.high for interval in intervals]) - middle
            axes.errorbar(
                at, middle, yerr=np.maximum([low, high], 0), color=style.colour, linestyle=style.dash,
                marker=style.marker, markersize=4.5, capsize=2, elinewidth=1.0,
            )  # fmt: skip
        axes.set_xticks(range(1, tasks + 1))
        axes.set_xlabel("task")

    rows: list[Row] = [
        (label, task, interval.point, interval.low, interval.high)
        for label, intervals in lines.items()
        for task, interval in enumerate(intervals, 1)
    ]
    caption = "Value of each task: mean over seeds, bars are 95\u00a0% bootstrap intervals."
    return Figure(
        "tasks", "Value of each task", caption, ("arm", "task", "mean", "low", "high"),
        [Panel("All tasks", draw, rows)], legend_of(styles), size=(5.6, 3.0),
    )  # fmt: skip


def _value_tables(arms: Sequence[ArmOnTasks], *, returns: bool, rng: np.random.Generator) -> list[Table]:
    tasks = max(len(one.names) for one in arms)
    finals, areas = [], []
    for one in arms:
        change = one.change()
        last = _cell(interval_of(change, rng=rng)) if len(change) else _NOTHING
        finals.append([*_row(one.arm, one.final, tasks, rng=rng), last])
        areas.append(_row(one.arm, one.area, tasks, rng=rng))
    kind = "return" if returns else "accuracy"
    of_finals = (
        f"Final {kind} of each task, mean over seeds (95\u00a0% bootstrap interval). Change: at the last visit minus at"
        " the first, over the tasks that come back or are drawn alike."
    )
    of_areas = f"Area under the curve: the {kind} as the mean over each task's steps, likewise."
    return [Table([*_columns(tasks), "change"], finals, of_finals), Table(_columns(tasks), areas, of_areas)]


def _gap_tables(behind: Sequence[Gap], *, rng: np.random.Generator) -> list[Table]:
    tasks = max(gap.final.shape[1] for gap in behind)
    values, late = [], []
    for gap in behind:
        area = _cell(interval_of(gap.area[:, 1:].mean(axis=1), rng=rng))
        values.append([*_row(gap.arm, gap.final, tasks, rng=rng), area])
        times = [_times(column) for column in gap.late.T]
        times += [_NOTHING] * (tasks - len(times))
        late.append([*_head(gap.arm, len(gap.late)), *times, _times(gap.late[:, 1:])])
    of_values = (
        "Plasticity gap: the final value of a fresh network with the same budget, minus that of the network that"
        " learned the tasks before; positive is lost plasticity. Area: the same for the mean over a task's steps, tasks"
        " 2 on."
    )
    of_late = (
        "Steps to 90\u00a0% of the fresh network's final value, as a multiple of the fresh network's own: median over"
        " seeds. A fresh value that is not above 0 has no 90\u00a0%."
    )
    return [
        Table([*_columns(tasks), "area"], values, of_values),
        Table([*_columns(tasks), "tasks 2 on"], late, of_late),
    ]


def _columns(tasks: int) -> list[str]:
    return ["arm", "seeds", *(f"task {task}" for task in range(1, tasks + 1))]


def _row(arm: Arm, values: Floats, tasks: int, *, rng: np.random.Generator) -> list[Cell]:
    """An arm's `values [seeds, its tasks]` in a table of `tasks`."""
    cells = [_cell(interval_of(column, rng=rng)) for column in values.T]
    return [*_head(arm, len(values)), *cells, *[_NOTHING] * (tasks - len(cells))]


def _head(arm: Arm, seeds: int) -> list[Cell]:
    return [Cell(arm.label), Cell(str(seeds), seeds)]


def _times(late: Floats) -> Cell:
    """The median of `late`, which may be never or nothing."""
    known = late[~np.isnan(late)]
    if not len(known):
        return _NOTHING
    # The upper one of two in the middle: between a number and never there is no mean.
    median = float(np.quantile(known, 0.5, method="higher"))
    return Cell(f"x {number(median)}" if np.isfinite(median) else "never", median)


def _intervals(one: ArmOnTasks, *, rng: np.random.Generator) -> list[Interval]:
    return [interval_of(column, rng=rng) for column in one.final.T]


def _cell(interval: Interval) -> Cell:
    text = number(interval.point) if interval.low == interval.high else interval_text(interval)
    return Cell(text, interval.point)
