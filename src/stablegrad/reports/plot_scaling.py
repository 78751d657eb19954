"""What depth and width do: heat maps of the score over both, and lines of the score and of diagnostics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from stablegrad.reports import theme
from stablegrad.reports.arms import Arm, Study, families
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.figures import Figure, Margins, Panel, Row, Style
from stablegrad.reports.judge import Judgement
from stablegrad.reports.names import name_of, show, size
from stablegrad.reports.sentences import number
from stablegrad.runs.series import final_value

DEPTH, WIDTH = "mlp_depth", "mlp_width"
METRICS = (
    "gradients/raw/total", "units/dormant/total", "ranks/srank", "ranks/effective_rank",
    "curvature/hessian_trace", "losses/q_values", "losses/values", "churn/policy",
)  # fmt: skip
"""Diagnostics that are drawn over depth or width when the runs have them."""

Value = Callable[[Arm], Interval | None]


def scaling_figures(study: Study, judgement: Judgement | None) -> list[Figure]:
    """The figures over network size; none where size does not vary."""
    axes = [key for key in (DEPTH, WIDTH) if key in study.varying]
    members = families(study)
    if judgement is None or not members:
        return []
    styles = {label: Style(place % len(theme.SERIES)) for place, label in enumerate(members)}

    def score(arm: Arm) -> Interval | None:
        verdict = judgement.of(arm)
        return None if verdict is None else verdict.iqm

    figures = []
    if len(axes) == 2:
        figures.append(_heat_maps(members, score, judgement))
    title = f"IQM, {judgement.scale.name}"
    caption = (
        f"Final score over network size ({judgement.scale.meaning}); bars are 95 % stratified bootstrap intervals."
    )
    figures.append(_lines("scaling_scores", "Score over size", caption, axes, members, styles, {title: score}, study))
    present = {name for run in study.runs for name in run.series}
    diagnostics: dict[str, Value] = {metric: _median_of(metric) for metric in METRICS if metric in present}
    if diagnostics:
        caption = (
            "At the end of a run (mean over the tenth of its steps before the last measurement): the median over an"
            " arm's runs, bars from the lowest to the highest."
        )
        title = "Diagnostics over size"
        figures.append(_lines("scaling_diagnostics", title, caption, axes, members, styles, diagnostics, study))
    return figures


def _median_of(metric: str) -> Value:
    def value(arm: Arm) -> Interval | None:
        values = np.array([final_value(run.series, metric) for run in arm.runs])
        finite = values[np.isfinite(values)]
        if not len(finite):
            return None
        return Interval(float(finite.min()), float(finite.max()), float(np.median(finite)))

    return value


def _heat_maps(families: Mapping[str, Sequence[Arm]], score: Value, judgement: Judgement) -> Figure:
    """One map a family: rows are depths, the deepest at the bottom, columns widths."""
    points = [interval.point for arms in families.values() for arm in arms if (interval := score(arm)) is not None]
    norm = Normalize(min(points), max(points))
    panels = []
    for label, arms in families.items():
        depths, widths = _sizes(arms, DEPTH), _sizes(arms, WIDTH)
        grid = np.full((len(depths), len(widths)), np.nan)
        rows: list[Row] = []
        for arm in arms:
            interval = score(arm)
            if interval is not None:
                depth, width = arm.settings[DEPTH], arm.settings[WIDTH]
                grid[depths.index(depth), widths.index(width)] = interval.point
                rows.append((str(depth), str(width), interval.point, interval.low, interval.high))
        panels.append(Panel(label, _map_drawer(grid, depths, widths, norm), rows))
    caption = f"IQM of the final {judgement.scale.name} over depth (down) and width (across), one colour scale for all."
    columns = ("depth", "width", "iqm", "low", "high")
    most = max(len(_sizes(arms, DEPTH)) for arms in families.values())
    return Figure(
        "scaling_grid",
        "Scaling grid",
        caption,
        columns,
        panels,
        size=(3.4, 0.8 + 0.5 * most),
        margins=Margins(left=0.75),
    )


def _map_drawer(grid: Any, depths: Sequence[Any], widths: Sequence[Any], norm: Normalize) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        axes.imshow(grid, cmap=theme.HEAT, norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                # The upper third of viridis is too bright for light figures.
                colour = "#101010" if norm(value) > 0.62 else "#fdfdfd"
                axes.text(column, row, number(float(value)), ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(len(widths)), [show(WIDTH, width) for width in widths])
        axes.set_yticks(range(len(depths)), [show(DEPTH, depth) for depth in depths])
        axes.set_xlabel("width")
        axes.set_ylabel("depth")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return draw


def _lines(
    name: str,
    title: str,
    caption: str,
    axes: Sequence[str],
    families: Mapping[str, Sequence[Arm]],
    styles: Mapping[str, Style],
    values: Mapping[str, Value],
    study: Study,
) -> Figure:
    """A panel for every value and every size of the axis that is not drawn along (depth, where both vary)."""
    along = axes[0]
    across = axes[1] if len(axes) == 2 else None
    slices = _sizes(study.arms, across) if across else [None]
    panels = []
    for what, value in values.items():
        for fixed in slices:
            chosen = {
                label: [arm for arm in arms if across is None or arm.settings[across] == fixed]
                for label, arms in families.items()
            }
            where = f", {name_of(across)} {show(across, fixed)}" if across else ""
            panels.append(_line_panel(f"{what}{where}", chosen, along, styles, value))
    columns = ("arms", name_of(along), "point", "low", "high")
    return Figure(name, title, caption, columns, panels, list(styles.items()))


def _line_panel(
    title: str, families: Mapping[str, Sequence[Arm]], along: str, styles: Mapping[str, Style], value: Value
) -> Panel:
    ticks = _sizes([arm for arms in families.values() for arm in arms], along)
    lines: dict[str, list[tuple[int, Interval]]] = {}
    for label, arms in families.items():
        found = [(ticks.index(arm.settings[along]), interval) for arm in arms if (interval := value(arm)) is not None]
        lines[label] = sorted(found, key=lambda point: point[0])

    def draw(axes: Axes) -> None:
        for place, (label, points) in enumerate(lines.items()):
            if not points:
                continue
            # Slightly apart, so that intervals at one size do not hide each other.
            at = np.array([x for x, _ in points]) + 0.05 * (place - (len(lines) - 1) / 2)
            middle = np.array([interval.point for _, interval in points])
            low = middle - [interval.low for _, interval in points]
            high = np.array([interval.high for _, interval in points]) - middle
            style = styles[label]
            axes.errorbar(
                at, middle, yerr=np.maximum([low, high], 0), color=style.colour, linestyle=style.dash,
                marker=style.marker, markersize=4.5, capsize=2, elinewidth=1.0,
            )  # fmt: skip
        axes.set_xticks(range(len(ticks)), [show(along, tick) for tick in ticks])
        axes.set_xlabel(name_of(along))
        axes.set_xlim(-0.3, len(ticks) - 0.7)

    rows: list[Row] = [
        (label, str(ticks[x]), interval.point, interval.low, interval.high)
        for label, points in lines.items()
        for x, interval in points
    ]
    return Panel(title, draw, rows)


def _sizes(arms: Sequence[Arm], key: str) -> list[Any]:
    return sorted({arm.settings[key] for arm in arms}, key=lambda value: size(key, value))
