"""Final scores: aggregates with intervals, performance profiles, improvement per game."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports import theme
from stablegrad.reports.aggregates import performance_profile
from stablegrad.reports.bootstrap import Interval, bootstrap_interval
from stablegrad.reports.figures import Figure, Margins, Panel, Row
from stablegrad.reports.judge import Judgement, Verdict
from stablegrad.reports.lines import Styles, draw_band, legend_of
from stablegrad.reports.names import percent
from stablegrad.reports.sentences import interval_text

MOST_BARS = 20
PROFILE_RESAMPLES = 500
PROFILE_LEVELS = 81


def aggregate_bars(judgement: Judgement, styles: Styles) -> Figure:
    """IQM, median, mean and optimality gap of every arm, a bar with its interval each; best IQM on top."""
    shown = judgement.ranked[:MOST_BARS]
    aggregates: list[tuple[str, Callable[[Verdict], Interval]]] = [("IQM", lambda v: v.iqm)]
    if len(judgement.tasks) > 1:
        aggregates += [("Median", lambda v: v.median), ("Mean", lambda v: v.mean)]
    if judgement.scale.kind == "hns":
        aggregates.append(("Optimality gap (lower is better)", lambda v: v.gap))
    panels = [_bars(title, [(v.label, of(v)) for v in shown], styles) for title, of in aggregates]
    cut = f" The best {len(shown)} of {len(judgement.verdicts)} arms." if len(shown) < len(judgement.verdicts) else ""
    caption = (
        f"Final {judgement.scale.name} ({judgement.scale.meaning}), with 95 % stratified bootstrap intervals.{cut}"
    )
    size = (3.9, 0.65 + 0.4 * len(shown))
    title = "IQM, median, mean and optimality gap" if len(panels) == 4 else "Final scores"
    columns, margins = ("arm", "point", "low", "high"), Margins(left=0.12, bottom=0.3, top=0.04)
    return Figure("aggregates", title, caption, columns, panels, size=size, margins=margins)


def profiles(judgement: Judgement, styles: Styles, *, rng: np.random.Generator) -> Figure:
    """Share of runs above each score."""
    scores = np.concatenate([verdict.scores.matrix.ravel() for verdict in judgement.verdicts])
    low, high = np.percentile(scores, [0, 98])
    levels = np.linspace(min(0.0, low) if judgement.scale.kind == "hns" else low, high, PROFILE_LEVELS)
    curves = [
        (
            verdict.label,
            bootstrap_interval(
                verdict.scores.matrix,
                lambda s: performance_profile(s, levels),
                rng=rng,
                resamples=1 if styles[verdict.label].place is None else PROFILE_RESAMPLES,
            ),
        )
        for verdict in judgement.verdicts
    ]

    def draw(axes: Axes) -> None:
        for label, interval in curves:
            draw_band(axes, levels, interval, styles[label])
        axes.set_xlabel(f"{judgement.scale.name} τ")
        axes.set_ylabel("share of runs above τ")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(levels[0], levels[-1])

    rows: list[Row] = [
        (label, level, point, low, high)
        for label, interval in curves
        for level, low, high, point in zip(levels.tolist(), *(part.tolist() for part in interval), strict=True)
    ]
    caption = "Share of runs, over all games, that score more than τ. Higher is better; bands are pointwise, 95 %."
    columns = ("arm", "score", "share", "low", "high")
    panel = Panel("Runs above a score", draw, rows)
    return Figure(
        "performance_profiles",
        "Performance profiles",
        caption,
        columns,
        [panel],
        legend_of(styles),
        size=(3.9, 2.7),
    )


def improvement_bars(judgement: Judgement, *, most: int = 6) -> Figure:
    """Relative improvement over the baseline on every game, one panel an arm, the best arms first."""
    compared = [verdict for verdict in judgement.ranked if verdict.comparison is not None][:most]
    panels = [_improvement(verdict, judgement.tasks) for verdict in compared]
    caption = (
        f"Relative improvement over {judgement.baseline.label} per game: (ours − base) / max(|base|, 0.01), of means"
        f" over seeds of the {judgement.scale.name}. The axis is linear up to ±100 % and logarithmic beyond."
    )
    size = (3.9, 0.9 + 0.2 * len(judgement.tasks))
    margins = Margins(left=0.15 + 0.068 * max(map(len, judgement.tasks)))
    columns = ("game", "improvement")
    return Figure("improvement", "Improvement per game", caption, columns, panels, size=size, margins=margins)


def _bars(title: str, values: Sequence[tuple[str, Interval]], styles: Styles) -> Panel:
    def draw(axes: Axes) -> None:
        for place, (label, interval) in enumerate(values):
            y = -place
            axes.barh(y, interval.point, height=0.34, color=styles[label].colour, zorder=2)
            if interval.high > interval.low:
                axes.plot([interval.low, interval.high], [y, y], color=theme.INK, linewidth=1.4, zorder=3)
            text = f"{label}  {interval_text(interval) if interval.high > interval.low else f'{interval.point:.3g}'}"
            axes.annotate(text, (0, y + 0.27), xycoords=("axes fraction", "data"), fontsize=8, va="bottom")
        axes.set_yticks([])
        axes.set_ylim(-len(values) + 0.6, 0.85)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=theme.OTHER, linewidth=0.8, zorder=0)

    rows: list[Row] = [(label, interval.point, interval.low, interval.high) for label, interval in values]
    return Panel(title, draw, rows)


def _improvement(verdict: Verdict, tasks: Sequence[str]) -> Panel:
    assert verdict.comparison is not None
    comparison = verdict.comparison
    order = np.argsort(comparison.improvement)
    shares = comparison.improvement[order]
    names = [tasks[number] for number in order]

    def draw(axes: Axes) -> None:
        colours = [theme.SERIES[2] if value > 0 else theme.SERIES[1] for value in shares]
        axes.barh(np.arange(len(names)), 100 * shares, color=colours, height=0.72, zorder=2)
        axes.set_yticks(np.arange(len(names)), names, fontsize=7)
        axes.set_xscale("symlog", linthresh=100, linscale=1.0)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.axvline(0, color=theme.FAINT, linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(lambda value, _: percent(value / 100, signed=True) if value else "0")
        axes.tick_params(axis="x", labelsize=7)
        axes.set_xlabel(
            f"median {percent(float(np.median(shares)), signed=True)}, better on {percent(comparison.share_better)}"
            f" of {len(names)} games",
            fontsize=8,
        )

    return Panel(verdict.label, draw, list(zip(names, shares.tolist(), strict=True)))
