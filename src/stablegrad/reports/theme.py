"""Colours of the figures: told apart by the colour-blind, and changed with the page's light or dark mode.

A figure is drawn once in light colours. In a page its colours become CSS variables, so that one picture
serves both modes. Series: six hues of Okabe and Ito (2008) and a grey, each also with its own marker and
dash.
"""

from typing import Any

INK = "#1b1f24"
FAINT = "#6e7781"
GRID = "#dfe3e8"
PAPER = "#ffffff"
OTHER = "#b4bac2"

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555b66")
SERIES_DARK = ("#58aee8", "#ff8b4d", "#35c99c", "#e8a5ca", "#f2b840", "#a3d8ff", "#b6bdc8")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HEAT = "viridis"

_DARK = {INK: "#e6e9ee", FAINT: "#98a1ad", GRID: "#343a43", PAPER: "#15181d", OTHER: "#5a616c"}
_VARIABLES = {INK: "ink", FAINT: "faint", GRID: "grid", PAPER: "paper", OTHER: "other"}
VARIABLES = {**_VARIABLES, **{colour: f"s{number}" for number, colour in enumerate(SERIES)}}
"""Light colour -> the name of its CSS variable."""

_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a metric or an arm may be called `$\frac{$`
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def rc(**more: Any) -> dict[Any, Any]:
    """matplotlib's settings for a figure, and `more` (with `_` for `.`) beside them."""
    return {**_RC, **{name.replace("_", "."): value for name, value in more.items()}}


def css(dark: bool) -> str:
    """The variables of one mode, as CSS declarations."""
    colours = {light: _DARK.get(light, light) for light in _VARIABLES} if dark else {c: c for c in _VARIABLES}
    series = SERIES_DARK if dark else SERIES
    pairs = [(_VARIABLES[light], colour) for light, colour in colours.items()]
    pairs += [(f"s{number}", colour) for number, colour in enumerate(series)]
    return " ".join(f"--{name}: {colour};" for name, colour in pairs)
