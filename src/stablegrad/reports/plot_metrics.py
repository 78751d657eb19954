"""Everything else that runs log: a panel a metric, and a map of layer x time for what is logged by layer."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from stablegrad.diagnostics.catalogue import entry
from stablegrad.errors import UserError
from stablegrad.reports import theme
from stablegrad.reports.arms import Arm, Study
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.curves import CURVE_WINDOW, measured_at, rarely, window_of
from stablegrad.reports.figures import Figure, Margins, Panel, short_number
from stablegrad.reports.lines import Styles, band_rows, draw_band, legend_of, steps_axis
from stablegrad.reports.load import RunRecord
from stablegrad.reports.names import file_name
from stablegrad.runs.series import EPISODES, TRAIN_RETURN, Floats, Steps, windowed_mean

LAYER_COLUMNS = 60
MOST_MAPS = 48
MOST_MAPS_OF_A_FAMILY = 12
MOST_PANELS = 18
_ELSEWHERE = frozenset({TRAIN_RETURN, EPISODES, "train/hns"})
_ORDER = (
    "gradients",
    "units",
    "ranks",
    "features",
    "curvature",
    "churn",
    "weights",
    "losses",
    "eval",
    "replay",
    "train",
)
_FIRST_MAPS = ("gradients/raw", "gradients/update", "units/dormant", "units/dead", "features/spectrum")
_LOG_SPAN = 30.0
"""Positive values that span more than this factor are drawn on a logarithmic scale."""


def layer_maps(study: Study, styles: Styles, *, grid: Steps) -> list[Figure]:
    """One figure a family of per-layer metrics (`gradients/raw/<layer>`), one panel an arm; of many arms, the
    highlighted ones."""
    families = layer_families(study)
    if len(study.arms) > 1:
        # The same picture as `raw`, scaled.
        families.pop("gradients/clipped", None)
    many = len(study.arms) > MOST_MAPS_OF_A_FAMILY
    arms = [arm for arm in study.arms if not many or styles[arm.label].place is not None]
    coarse = grid[:: max(1, len(grid) // LAYER_COLUMNS)]
    order = sorted(families, key=lambda f: (_FIRST_MAPS.index(f) if f in _FIRST_MAPS else len(_FIRST_MAPS), f))
    figures: list[Figure] = []
    for family in order[: max(1, MOST_MAPS // len(arms))]:
        figures.append(_layer_map(family, families[family], arms, coarse))
    return figures


def metric_panels(study: Study, styles: Styles, *, grid: Steps) -> list[Figure]:
    """One figure a family (`losses`, `ranks`, …), one panel a metric; what stands in `layer_maps` is left
    out."""
    layered = {name for names in layer_families(study).values() for name in names}
    names = dict.fromkeys(name for run in study.runs for name in run.series if name not in layered | _ELSEWHERE)
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("/")[0], []).append(name)
    order = sorted(families, key=lambda f: (_ORDER.index(f) if f in _ORDER else len(_ORDER), f))
    return [_family(family, families[family][:MOST_PANELS], study.arms, styles, grid) for family in order]


def lead(study: Study, grid: Steps) -> str:
    """What all of `metric_panels` have in common, in words."""
    several = any(len(arm.runs) > 1 for arm in study.arms)
    line = "A line is the median over an arm's runs, its band goes from the lower to the upper quartile. "
    return (
        f"{line if several else ''}Each point is the mean over the {_window(study.runs, grid):,} steps before it. What"
        " was measured less often has a marker for each measurement; nothing is known in between."
    )


def layer_families(study: Study) -> dict[str, list[str]]:
    """`gradients/raw` -> its metrics in the order in which runs wrote them, for families of three layers or
    more."""
    families: dict[str, dict[str, None]] = {}
    for run in study.runs:
        for name in run.series:
            parts = name.split("/", 2)
            if len(parts) == 3 and parts[2].rpartition(".")[2] != "total":
                families.setdefault("/".join(parts[:2]), {})[name] = None
    return {family: list(names) for family, names in families.items() if len(names) >= 3}


class Described(NamedTuple):
    """What the catalogue says of a metric: nothing where it does not have it (a user's own)."""

    unit: str = ""
    definition: str = ""
    part: str = "layer"
    """What its members are: layers, or indices of a spectrum."""


def described(name: str) -> Described:
    try:
        found = entry(name)
    except UserError:
        return Described()
    return Described(found.unit, found.definition, "index" if "{index}" in found.name else "layer")


class Curve(NamedTuple):
    """An arm's quartiles over its runs at steps `at`; `marked` where these are the measurements, and not a grid."""

    label: str
    at: Steps
    interval: Interval
    marked: bool


def _family(family: str, names: Sequence[str], arms: Sequence[Arm], styles: Styles, grid: Steps) -> Figure:
    window = _window([run for arm in arms for run in arm.runs], grid)
    panels = []
    for name in names:
        curves = []
        for arm in arms:
            at, marked, of_runs = _curves(arm, name, grid, window)
            if len(of_runs):
                curves.append(Curve(arm.label, at, _spread(of_runs), marked))
        panels.append(_panel(name, curves, styles, grid))
    columns = ("arm", "step", "median", "low", "high")
    return Figure(
        f"metrics_{file_name(family)}", family.capitalize(), "", columns, panels, legend_of(styles), (3.9, 2.3)
    )


def _curves(arm: Arm, name: str, grid: Steps, window: int) -> tuple[Steps, bool, Floats]:
    """Where an arm's curves have points, whether these are its measurements, and the runs' values `[runs, points]`."""
    runs = [run for run in arm.runs if name in run.series]
    marked = any(rarely(run, name, window) for run in runs)
    at, wide = (measured_at(runs, name), 1) if marked else (grid, window)
    curves = [windowed_mean(run.series[name], at, wide) for run in runs]
    return at, marked, np.stack(curves) if curves else np.empty((0, len(at)))


def _panel(name: str, curves: Sequence[Curve], styles: Styles, grid: Steps) -> Panel:
    unit, definition, _ = described(name)
    values = np.concatenate([np.ravel(curve.interval.point) for curve in curves])
    finite = values[np.isfinite(values)]
    logarithmic = len(finite) > 0 and finite.min() > 0 and _spans_decades(finite, unit)

    def draw(axes: Axes) -> None:
        for label, at, interval, marked in curves:
            draw_band(axes, at, interval, styles[label], marked=marked)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_ylabel(unit)
        steps_axis(axes, grid)

    rows = [row for label, at, interval, _ in curves for row in band_rows(label, at, interval)]
    return Panel(name, draw, rows, note=definition)


def _spread(curves: Floats) -> Interval:
    """Quartiles over runs `[runs, G]` -> three `[G]`; NaN where no run has a value."""
    have = np.isfinite(curves).any(axis=0)
    low, point, high = (np.full(curves.shape[1], np.nan) for _ in range(3))
    if have.any():
        low[have], point[have], high[have] = np.nanpercentile(curves[:, have], [25, 50, 75], axis=0)
    return Interval(low, high, point)


def _layer_map(family: str, names: Sequence[str], arms: Sequence[Arm], grid: Steps) -> Figure:
    unit, definition, part = described(names[0])
    geometric = not _bounded(unit) and all(
        (run.series[name].values > 0).all() for arm in arms for run in arm.runs for name in names if name in run.series
    )
    maps = {arm.label: _map_of(names, arm, grid, geometric=geometric) for arm in arms}
    values = np.concatenate([np.ravel(one.values) for one in maps.values()])
    norm, log = _norm(values[np.isfinite(values)], unit)
    panels = [
        Panel(
            label,
            _map_drawer(one, norm, grid),
            [
                (layer, int(step), float(value))
                for layer, row in zip(one.layers, one.values, strict=True)
                for step, value in zip(one.at, row, strict=True)
                if np.isfinite(value)
            ],
        )
        for label, one in maps.items()
        if one.layers
    ]
    title = f"{family.replace('/', ', ').replace('_', ' ').capitalize()} by {part}"
    order = "Layers from the input (top) to the output: the" if part == "layer" else "The"
    caption = (
        f"{definition} {order} {'geometric mean' if geometric else 'mean'} over an arm's runs"
        f"{f', in {unit}' if unit else ''}; one {'logarithmic ' if log else ''}colour scale for all panels."
        f"{' A column is a measurement.' if any(one.measured for one in maps.values()) else ''}"
    ).strip()
    most = max((len(one.layers) for one in maps.values()), default=3)
    name = f"layers_{file_name(family.replace('/', '_'))}"
    longest = max((len(layer) for one in maps.values() for layer in one.layers), default=0)
    margins = Margins(left=min(1.9, 0.15 + 0.052 * longest), right=0.6)
    size = (3.9, 0.7 + 0.13 * min(max(most, 8), 24))
    return Figure(name, title, caption, ("layer", "step", "value"), panels, size=size, margins=margins)


class LayerMap(NamedTuple):
    """An arm's `values [layers, G]` at steps `at [G]`; `measured` where these are the measurements, and not a grid."""

    layers: list[str]
    at: Steps
    values: Floats
    measured: bool


def _map_of(names: Collection[str], arm: Arm, grid: Steps, *, geometric: bool) -> LayerMap:
    """The mean over an arm's runs; NaN where none has a value."""
    window = _window(arm.runs, grid)
    # In the arm's own order: a deeper network has layers between those of a shallower one.
    own = list(dict.fromkeys(name for run in arm.runs for name in run.series if name in names))
    measured = any(rarely(run, name, window) for run in arm.runs for name in own[:1])
    at, wide = grid, window
    if measured:
        at, wide = measured_at(arm.runs, own[0]), 1
        at = at[:: -(-len(at) // LAYER_COLUMNS)]
    rows = []
    for name in own:
        curves = [windowed_mean(run.series[name], at, wide) for run in arm.runs if name in run.series]
        rows.append(_mean(np.stack(curves), geometric=geometric))
    values = np.stack(rows) if rows else np.empty((0, len(at)))
    return LayerMap([name.split("/", 2)[2] for name in own], at, values, measured)


def _mean(curves: Floats, *, geometric: bool) -> Floats:
    finite = np.isfinite(curves)
    count = finite.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # one 0 makes a geometric mean 0
        values = np.where(finite, np.log(np.where(finite, curves, 1.0)) if geometric else curves, 0.0)
        means = values.sum(axis=0) / np.where(count, count, np.nan)
    return np.exp(means) if geometric else means


def _bounded(unit: str) -> bool:
    """Whether values are read against fixed ends (0 and 1, or -1 and 1) and not by their ratios."""
    return unit.startswith(("share", "probability", "cosine"))


def _spans_decades(positive: Floats, unit: str) -> bool:
    """Whether values ask for a logarithmic scale."""
    return not _bounded(unit) and bool(positive.max() > _LOG_SPAN * positive.min())


def _norm(values: Floats, unit: str) -> tuple[Normalize, bool]:
    """One colour scale for all maps: logarithmic where positive values span decades."""
    if not len(values):
        return Normalize(0, 1), False
    positive = values[values > 0]
    if len(positive) and len(positive) > 0.9 * len(values) and _spans_decades(positive, unit):
        # A few vanishing values would otherwise leave one colour for everything else.
        return LogNorm(max(positive.min(), positive.max() * 1e-8), positive.max()), True
    return Normalize(min(0.0, float(values.min())), float(values.max()) or 1.0), False


def _map_drawer(one: LayerMap, norm: Normalize, grid: Steps) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        width = float(len(one.at)) if one.measured else float(grid[-1])
        extent = (0.0, width, len(one.layers) - 0.5, -0.5)
        image = axes.imshow(
            one.values, cmap=theme.HEAT, norm=norm, aspect="auto", extent=extent, interpolation="nearest"
        )
        every = max(1, len(one.layers) // 24)
        axes.set_yticks(range(0, len(one.layers), every), one.layers[::every], fontsize=6.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        steps_axis(axes, grid)
        if one.measured:
            # Equally wide columns: their steps are named below them, as many as there is room for.
            shown = range(0, len(one.at), -(-len(one.at) // 6))
            label = axes.xaxis.get_major_formatter()
            axes.set_xticks([place + 0.5 for place in shown], [label(float(one.at[place])) for place in shown])
            axes.set_xlim(0, width)
        beside = axes.inset_axes((1.02, 0.0, 0.035, 1.0))
        bar = image.figure.colorbar(image, cax=beside, format=lambda value, _: short_number(value))
        bar.outline.set_visible(False)
        beside.minorticks_off()
        beside.tick_params(labelsize=7)

    return draw


def _window(runs: Sequence[RunRecord], grid: Steps) -> int:
    return window_of(runs, CURVE_WINDOW * float(grid[-1]))
