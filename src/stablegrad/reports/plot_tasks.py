"""The section about runs whose task changes: values task by task, their change, the gap to fresh networks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports.arms import Study
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.document import Block, Cell, Points, Section, Table
from stablegrad.reports.figures import Figure, Panel, Row
from stablegrad.reports.final import curve_metric
from stablegrad.reports.lines import Styles, legend_of
from stablegrad.reports.load import TRAIN_RETURN
from stablegrad.reports.names import percent
from stablegrad.reports.sentences import interval_text, number
from stablegrad.reports.tasks import FINAL_SHARE, ArmOnTasks, Gap, arms_on_tasks, gaps, interval_of


def task_section(study: Study, styles: Styles, *, rng: np.random.Generator) -> Section:
    """Everything task by task; no blocks where no run came through two tasks."""
    arms = arms_on_tasks(study)
    if not arms:
        return Section("Task by task", [])
    returns = curve_metric(study.runs) == TRAIN_RETURN
    blocks: list[Block] = [_figure(arms, styles, rng=rng), _values_table(arms, returns=returns, rng=rng)]
    behind = gaps(arms)
    if behind:
        blocks.append(_gaps_table(behind, rng=rng))
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


def _values_table(arms: Sequence[ArmOnTasks], *, returns: bool, rng: np.random.Generator) -> Table:
    tasks = max(len(one.names) for one in arms)
    rows = []
    for one in arms:
        cells = [_cell(interval) for interval in _intervals(one, rng=rng)]
        cells += [Cell("–", np.nan)] * (tasks - len(cells))
        change = one.change()
        cells.append(_cell(interval_of(change, rng=rng)) if len(change) else Cell("–", np.nan))
        rows.append([Cell(one.arm.label), Cell(str(len(one.results)), len(one.results)), *cells])
    kind = "return" if returns else "accuracy"
    caption = (
        f"Final {kind} of each task, mean over seeds (95\u00a0% bootstrap interval). Change: at the last visit minus at"
        " the first, over the tasks that come back or are drawn alike."
    )
    return Table(["arm", "seeds", *(f"task {task}" for task in range(1, tasks + 1)), "change"], rows, caption)


def _gaps_table(behind: Sequence[Gap], *, rng: np.random.Generator) -> Table:
    tasks = max(gap.final.shape[1] for gap in behind)
    rows = []
    for gap in behind:
        cells = [_cell(interval_of(column, rng=rng)) for column in gap.final.T]
        cells += [Cell("–", np.nan)] * (tasks - len(cells))
        area = _cell(interval_of(gap.area[:, 1:].mean(axis=1), rng=rng))
        late = Cell("never" if gap.late is None else f"x {number(gap.late)}", np.inf if gap.late is None else gap.late)
        rows.append([Cell(gap.arm.label), Cell(str(len(gap.final)), len(gap.final)), *cells, area, late])
    columns = ["arm", "seeds", *(f"task {task}" for task in range(1, tasks + 1)), "area", "steps to 90\u00a0%"]
    caption = (
        "Plasticity gap: the value of a fresh network with the same budget, minus that of the network that learned the"
        " tasks before; positive is lost plasticity. Area: the same for the mean over a task's steps, tasks 2 on. Steps"
        " to 90\u00a0% of the fresh network's final value, as a multiple of the fresh network's own: median over seeds"
        " and tasks 2 on."
    )
    return Table(columns, rows, caption)


def _intervals(one: ArmOnTasks, *, rng: np.random.Generator) -> list[Interval]:
    return [interval_of(column, rng=rng) for column in one.final.T]


def _cell(interval: Interval) -> Cell:
    text = number(interval.point) if interval.low == interval.high else interval_text(interval)
    return Cell(text, interval.point)
