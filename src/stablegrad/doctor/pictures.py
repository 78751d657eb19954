"""Small pictures in text: a curve as a line of blocks, numbers short enough to read at a glance."""

import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int = 40, log: bool = False) -> str:
    """`values` as one line of at most `width` blocks, each the mean of its share of them; `·` where none is finite.

    `log` draws the logarithm of positive values, for what spans orders of magnitude.
    """
    groups = [_mean(values[start:stop], log=log) for start, stop in _shares(len(values), width)]
    known = [value for value in groups if value is not None]
    if not known:
        return "·" * len(groups)
    low, high = min(known), max(known)
    # Rounding noise of a constant is not a curve.
    span = high - low if high - low > 1e-9 * max(abs(high), abs(low)) else math.inf
    return "".join("·" if value is None else _BLOCKS[round(7 * (value - low) / span)] for value in groups)


def chart(values: Sequence[float], *, width: int = 60, height: int = 8) -> list[str]:
    """`values` as a filled curve of `height` lines, the top line first; columns are means as in `sparkline`."""
    groups = [_mean(values[start:stop], log=False) for start, stop in _shares(len(values), width)]
    known = [value for value in groups if value is not None]
    if not known:
        return []
    low, high = min(0.0, *known), max(known)
    scale = 8 * height / (high - low) if high > low else 0.0
    eighths = [0 if value is None else round((value - low) * scale) for value in groups]
    return ["".join(" ▁▂▃▄▅▆▇█"[min(max(e - 8 * line, 0), 8)] for e in eighths) for line in reversed(range(height))]


def number(value: float) -> str:
    """A number in at most three significant digits."""
    if value != value or math.isinf(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"


def _shares(count: int, width: int) -> list[tuple[int, int]]:
    parts = min(count, width)
    return [(part * count // parts, (part + 1) * count // parts) for part in range(parts)]


def _mean(values: Sequence[float], *, log: bool) -> float | None:
    kept = [float(value) for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not kept:
        return None
    return sum(math.log(value) if log else value for value in kept) / len(kept)
