"""Figures made of panels: each panel alone in a page (so that it fits a phone), all together in files.

A figure is written as PNG, as SVG and, its numbers, as CSV. matplotlib is used through its objects, without pyplot:
no global figure, no display. Margins are fixed in inches, so that panels line up and no time goes into layout.
"""

import contextlib
import csv
import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, LogFormatter, LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from stablegrad.reports import theme
from stablegrad.runs.files import make_folder, write_bytes, write_text
from stablegrad.text import printable

Row = Sequence[str | int | float]
POINTS_PER_INCH = 72
_FORMULA = ("=", "+", "-", "@")
_TITLE = 0.24
_LEGEND_ROW = 0.2
_LEGEND_COLUMN = 2.6


@dataclass(frozen=True, slots=True)
class Style:
    """How one series is drawn everywhere in a report: its place in the palette, or None for one of the others.

    Dashes and markers follow the place too, unless `dash_place` says something else with them.
    """

    place: int | None
    dash_place: int | None = None

    @property
    def colour(self) -> str:
        return theme.OTHER if self.place is None else theme.SERIES[self.place]

    @property
    def dash(self) -> Any:
        return "-" if self.place is None else theme.DASHES[self._second]

    @property
    def marker(self) -> str:
        return "" if self.place is None else theme.MARKERS[self._second]

    @property
    def _second(self) -> int:
        return (self.place or 0) if self.dash_place is None else self.dash_place


class Margins(NamedTuple):
    """Inches around the axes of a panel."""

    left: float = 0.6
    right: float = 0.14
    bottom: float = 0.44
    top: float = 0.08


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes. `draw` fills them; `rows` are its numbers, under the figure's `columns`; a `note` explains."""

    title: str
    draw: Callable[[Axes], None]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with a file name, what it shows in words, and the names of its series (label, style)."""

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, Style]] = ()
    size: tuple[float, float] = (3.9, 2.5)
    """Inches of a panel."""
    margins: Margins = field(default_factory=Margins)

    @cached_property
    def svgs(self) -> list[str]:
        """Each panel as an SVG element in light colours, with ids of its own."""
        return [self._svg(number, panel) for number, panel in enumerate(self.panels)]

    def _svg(self, number: int, panel: Panel) -> str:
        with _drawing(svg_hashsalt=self.name):
            canvas = Canvas(figsize=self.size)
            _draw(canvas, panel, self, (0.0, 0.0))
            text = io.StringIO()
            canvas.savefig(text, format="svg", metadata={"Date": None})
        return _clean(text.getvalue(), prefix=f"{self.name}-{number}-", label=f"{self.title}: {panel.title}")


@contextlib.contextmanager
def _drawing(**settings: Any) -> Iterator[None]:
    """matplotlib's settings for a while. A letter that its font lacks is a box in the picture, and no warning."""
    with mpl.rc_context(theme.rc(**settings)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def for_page(svg: str) -> str:
    """The SVG element with the page's CSS variables for colours."""
    for colour, name in theme.VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write NAME.png, NAME.svg (all panels, light colours on white) and NAME.csv into `folder`."""
    make_folder(folder)
    written = [folder / f"{figure.name}.{suffix}" for suffix in ("png", "svg", "csv")]
    sheet, picture = _Sheet(figure), io.BytesIO()
    with _drawing(savefig_facecolor=theme.PAPER):
        sheet.canvas().savefig(picture, format="png", dpi=130)
    write_bytes(written[0], picture.getvalue())
    write_text(written[1], sheet.svg())
    write_text(written[2], csv_text(figure))
    return written


def csv_text(figure: Figure) -> str:
    """The figure's numbers: one line a point, the panel's title first.

    A table program takes what begins with `=` or its kin for a formula; text that does gets a `'` before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["panel", *figure.columns])
    for panel in figure.panels:
        for row in panel.rows:
            writer.writerow([_csv_cell(panel.title), *map(_csv_cell, row)])
    return text.getvalue()


def _csv_cell(value: str | float) -> str | int:
    if isinstance(value, str):
        shown = printable(value)
        return f"'{shown}" if shown.startswith(_FORMULA) else shown
    return f"{value:.5g}" if isinstance(value, float) else value


class _Sheet:
    """All panels of a figure on one sheet, up to three beside each other, under a legend. Inches, from the top."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        width, height = figure.size
        self.columns = min(len(figure.panels), 3 if width < 6 else 1)
        self.legend_columns = max(1, int(self.columns * width / _LEGEND_COLUMN))
        self.head = _LEGEND_ROW * ceil(len(figure.legend) / self.legend_columns)
        self.width = self.columns * width
        self.height = self.head + ceil(len(figure.panels) / self.columns) * (height + _TITLE)

    def place(self, number: int) -> tuple[float, float]:
        """Left and top of a panel's title."""
        width, height = self.figure.size
        return number % self.columns * width, self.head + number // self.columns * (height + _TITLE)

    def canvas(self) -> Canvas:
        canvas = Canvas(figsize=(self.width, self.height))
        FigureCanvasAgg(canvas)
        for number, panel in enumerate(self.figure.panels):
            left, top = self.place(number)
            _draw(canvas, panel, self.figure, (left, self.height - top - _TITLE - self.figure.size[1]))
            at = ((left + 0.08) / self.width, 1 - (top + 0.7 * _TITLE) / self.height)
            canvas.text(*at, panel.title, fontsize=9, fontweight="bold")
        for number, (label, style) in enumerate(self.figure.legend):
            left, top = self._legend_place(number)
            y = 1 - top / self.height
            line = Line2D(
                [left / self.width, (left + 0.3) / self.width], [y, y], color=style.colour, linestyle=style.dash
            )
            canvas.add_artist(line)
            canvas.text((left + 0.36) / self.width, y, label, fontsize=8, va="center")
        return canvas

    def svg(self) -> str:
        parts = []
        for number, (svg, panel) in enumerate(zip(self.figure.svgs, self.figure.panels, strict=True)):
            x, y = (POINTS_PER_INCH * part for part in self.place(number))
            w, h = (POINTS_PER_INCH * part for part in self.figure.size)
            at = f'x="{x + 6:.1f}" y="{y + 12:.1f}"'
            title = f'<text {at} font-size="9" font-weight="bold">{_svg_text(panel.title)}</text>'
            placed = f'<svg x="{x:.1f}" y="{y + POINTS_PER_INCH * _TITLE:.1f}" width="{w:.1f}" height="{h:.1f}" '
            parts += [title, svg.replace("<svg ", placed, 1)]
        for number, (label, style) in enumerate(self.figure.legend):
            left, top = (POINTS_PER_INCH * part for part in self._legend_place(number))
            parts.append(
                f'<path d="M{left:.1f} {top:.1f}h22" stroke="{style.colour}" stroke-width="2"{dash_attribute(style)}/>'
                f'<text x="{left + 26:.1f}" y="{top + 3:.1f}" font-size="8">{_svg_text(label)}</text>'
            )
        w, h = POINTS_PER_INCH * self.width, POINTS_PER_INCH * self.height
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{w:.0f}pt"'
            f' height="{h:.0f}pt" viewBox="0 0 {w:.0f} {h:.0f}" font-family="sans-serif" fill="{theme.INK}">'
            f'<rect width="100%" height="100%" fill="{theme.PAPER}"/>{"".join(parts)}</svg>\n'
        )

    def _legend_place(self, number: int) -> tuple[float, float]:
        row, column = divmod(number, self.legend_columns)
        return 0.1 + column * _LEGEND_COLUMN, (row + 0.5) * _LEGEND_ROW


def dash_attribute(style: Style) -> str:
    """The style's dashes as an SVG attribute for a line two points wide."""
    if style.dash == "-":
        return ""
    named = {"--": "7 3", "-.": "8 3 2 3", ":": "2 3"}
    lengths = named.get(style.dash) if isinstance(style.dash, str) else " ".join(str(2 * n) for n in style.dash[1])
    return f' stroke-dasharray="{lengths}"'


def short_number(value: float) -> str:
    """A number in few characters, for axes: 150k, 1.5M, 0.02, 3e-07."""
    size = abs(value)
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit and size >= 1e4:
            return f"{value / unit:.4g}{letter}" if size < 1e12 else f"{value:.0e}"
    return f"{value:.4g}" if size >= 1e-3 or not size else f"{value:.1g}"


def _draw(canvas: Canvas, panel: Panel, figure: Figure, corner: tuple[float, float]) -> None:
    """The panel's axes on a canvas; `corner` is its lower left, in inches."""
    width, height = canvas.get_size_inches()
    (w, h), m = figure.size, figure.margins
    left, bottom = (corner[0] + m.left) / width, (corner[1] + m.bottom) / height
    axes = canvas.add_axes((left, bottom, (w - m.left - m.right) / width, (h - m.top - m.bottom) / height))
    panel.draw(axes)
    for axis in (axes.xaxis, axes.yaxis):
        located = axis.get_major_locator()
        if isinstance(located, LogLocator):
            axis.set_major_locator(LogLocator(numticks=6))
            axis.set_minor_locator(NullLocator())
        elif isinstance(located, AutoLocator):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter):
            axis.set_major_formatter(lambda value, _: short_number(value))


def _svg_text(text: str) -> str:
    return html.escape(printable(text))


_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_GEOMETRY = re.compile(r' (?:d|x|y|points|transform|width|height)="[^"]*"')


def _clean(svg: str, *, prefix: str, label: str) -> str:
    """One line, without what only a file needs: head, fonts, group ids; with ids that are unique in a page."""
    svg = printable(svg[svg.index("<svg") :], lines=True)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r" transform=\"rotate\(-0 [^\"]*\"", "", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = _GEOMETRY.sub(lambda part: _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.1f}", part[0]), svg)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{_svg_text(label)}">'
    return re.sub(r"^<svg [^>]*>", lambda _: head, svg)
