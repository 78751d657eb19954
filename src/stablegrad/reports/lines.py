"""What all figures with lines share: which arm has which colour, legends, bands, the axis of steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports.arms import Arm
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.figures import Row, Style
from stablegrad.reports.judge import Judgement
from stablegrad.reports.theme import SERIES
from stablegrad.runs.series import Floats, Steps

Styles = Mapping[str, Style]
"""Arm label -> how it is drawn."""


def choose_styles(arms: Sequence[Arm], judgement: Judgement | None) -> dict[str, Style]:
    """A colour for every arm; of more arms than colours, for the baseline and the best, the others grey."""
    if len(arms) <= len(SERIES):
        return {arm.label: Style(place) for place, arm in enumerate(arms)}
    if judgement is None:
        chosen = [arm.label for arm in arms]
    else:
        ranked = [verdict.label for verdict in judgement.ranked]
        chosen = [judgement.baseline.label, *(label for label in ranked if label != judgement.baseline.label)]
    places = {label: place for place, label in enumerate(chosen[: len(SERIES)])}
    return {arm.label: Style(places.get(arm.label)) for arm in arms}


def legend_of(styles: Styles) -> list[tuple[str, Style]]:
    """Labels of the highlighted arms, then one entry for all others; a single arm needs no legend."""
    if len(styles) == 1:
        return []
    places = {style.place: label for label, style in styles.items() if style.place is not None}
    named = [(places[place], Style(place)) for place in sorted(places)]
    others = len(styles) - len(named)
    return [*named, (f"{others} other arms", Style(None))] if others else named


def draw_band(axes: Axes, at: Floats | Steps, interval: Interval, style: Style, *, marked: bool = False) -> None:
    """A line in its band; arms without a colour lie behind, thin and without a band. `marked`: every point is."""
    if style.place is None:
        draw_line(axes, at, interval.point, marked=marked, color=style.colour, linewidth=0.8, zorder=1)
        return
    axes.fill_between(at, interval.low, interval.high, color=style.colour, alpha=0.18, linewidth=0, zorder=2)
    draw_line(axes, at, interval.point, marked=marked, color=style.colour, linestyle=style.dash, zorder=3)


def draw_line(axes: Axes, at: Floats | Steps, values: Floats, *, marked: bool = False, **look: Any) -> None:
    """A line with gaps where there is no value; a point without neighbours, which has no line, is marked."""
    have = np.isfinite(values)
    alone = have & ~np.append(have[1:], False) & ~np.insert(have[:-1], 0, False)
    axes.plot(
        at, values, marker="o", markersize=2.6, markevery=np.flatnonzero(have if marked else alone).tolist(), **look
    )


def band_rows(label: str, at: Floats | Steps, interval: Interval) -> list[Row]:
    """Lines of a CSV: (label, where, point, low, high), without the gaps."""
    points = zip(at.tolist(), *(np.asarray(part).tolist() for part in interval), strict=True)
    return [(label, x, point, low, high) for x, low, high, point in points if np.isfinite(point)]


def steps_axis(axes: Axes, grid: Steps) -> None:
    """Steps in the unit that keeps the numbers short."""
    largest = float(grid[-1])
    unit, name = (1e6, "million ") if largest >= 2e6 else (1e3, "thousand ") if largest >= 2e3 else (1.0, "")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
    axes.set_xlabel(f"{name}steps")
    axes.set_xlim(0, largest)
