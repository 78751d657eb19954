"""Learning curves: one panel a game, and one for all of them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports.arms import SIZE_KEYS, Arm, Study, families
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.curves import CURVE_WINDOW, GRID_POINTS, band, return_curve, window_of
from stablegrad.reports.figures import Figure, Panel, Style
from stablegrad.reports.final import counted
from stablegrad.reports.judge import Judgement
from stablegrad.reports.lines import Styles, band_rows, draw_band, draw_line, legend_of, steps_axis
from stablegrad.reports.load import RunRecord
from stablegrad.reports.names import percent, phrase, size
from stablegrad.reports.sentences import plural
from stablegrad.reports.tasks import change_steps
from stablegrad.reports.theme import FAINT, SERIES
from stablegrad.runs.series import TRAIN_RETURN, Floats, Steps

MOST_SINGLE_RUNS = 12
"""Up to so many runs in a study, each is also drawn as a thin line."""
MOST_RAW_RUNS = 3
"""Up to so many, the thin lines are what was logged, before smoothing."""
BAND_RESAMPLES = 500
_COLUMNS = ("arm", "step", "iqm", "low", "high")

Curves = dict[tuple[str, str], Floats]
"""(arm label, task) -> smoothed curves `[runs, G]`."""


@dataclass(frozen=True, slots=True)
class LearningCurves:
    """Training scores over steps: the seeds of an arm are one line, their IQM, in a band of 95 %."""

    study: Study
    judgement: Judgement | None
    styles: Styles
    metric: str
    grid: Steps
    rng: np.random.Generator

    def figure(self) -> Figure:
        """One panel a game, and one for all."""
        curves = self._curves()
        panels = []
        if self.judgement is not None and len(self.judgement.tasks) > 1:
            panels.append(self._all_games(self.judgement, curves))
        panels += [self._one_game(task, curves) for task in self.study.tasks]
        returns = self.metric == TRAIN_RETURN
        what = "Training return (raw score of whole games)" if returns else self.metric
        caption = (
            f"{what}. Each point is the mean over the {self._window:,} steps before it"
            f" ({percent(self._window / float(self.grid[-1]))} of the budget)"
            f"{', every game counting once' if returns else ''}; where a run has no value there is none."
            f" {self._about_seeds()}"
        )
        if failed := sum(run.state == "failed" for run in self.study.runs):
            caption += f" {plural(failed, 'run')} failed: an arm's line ends where the first of its runs did."
        if self._changes:
            caption += " Dotted lines: the task changes."
        return Figure("learning_curves", "Score over steps", caption, _COLUMNS, panels, legend_of(self.styles))

    def by_size(self, judgement: Judgement) -> Figure:
        """One panel a family of arms that differ in network size: depths by colour, widths by dash."""
        curves = self._curves()
        judged = self._judged(judgement, curves)
        members = families(self.study)
        arms = [arm for its in members.values() for arm in its]
        keys = [key for key in SIZE_KEYS if key in self.study.varying]
        known = {key: sorted({arm.settings[key] for arm in arms}, key=partial(size, key)) for key in keys}
        places = {arm.label: [known[key].index(arm.settings[key]) % len(SERIES) for key in keys] for arm in arms}
        styles = {label: Style(at[0], at[1] if len(at) > 1 else 0) for label, at in places.items()}
        panels = []
        for family, its in members.items():
            bands = {a.label: self._judged_band(a.label, judgement, curves) for a in its if a.label in judged}
            panels.append(self._bands_panel(family, bands, styles, judgement))
        names = {styles[arm.label]: ", ".join(phrase(key, arm.settings[key]) for key in keys) for arm in arms}
        legend = sorted(
            ((name, style) for style, name in names.items()), key=lambda entry: (entry[1].place, entry[1].dash_place)
        )
        caption = f"IQM of the {judgement.scale.name}, smoothed over {self._window:,} steps; bands as above."
        return Figure("scaling_curves", "Learning by size", caption, _COLUMNS, panels, legend)

    def _curves(self) -> Curves:
        """For every arm and task with runs to show."""
        shown = {(arm.label, task): self._shown(arm, task) for arm in self.study.arms for task in arm.tasks}
        window = self._window
        return {
            key: np.stack([return_curve(run, self.metric, self.grid, window=window) for run in runs])
            for key, runs in shown.items()
            if runs
        }

    @property
    def _changes(self) -> tuple[int, ...]:
        """The steps at which the task changes, in any of the runs."""
        return tuple(sorted({step for run in self.study.runs for step in change_steps(run)}))

    @property
    def _share(self) -> float:
        """Share of the budget over which a point averages: where tasks change, about a tenth of a task.

        No less than the grid's own spacing: a row between two points would not count.
        """
        return min(CURVE_WINDOW, max(1 / GRID_POINTS, 0.1 / (len(self._changes) + 1)))

    @property
    def _window(self) -> int:
        return window_of(self.study.runs, self._share * float(self.grid[-1]))

    def _shown(self, arm: Arm, task: str) -> list[RunRecord]:
        """The runs that count and have logged a score; one under way would end its arm's line where it stands."""
        wanted = {id(run) for run in counted(self.study.runs)}
        return [run for run in arm.on(task) if id(run) in wanted and self.metric in run.series]

    def _one_game(self, task: str, curves: Curves) -> Panel:
        """All arms on one game, raw scores."""
        here = {label: values for (label, its), values in curves.items() if its == task}
        bands = {label: self._band(label, values[:, None, :]) for label, values in here.items()}
        thin = self._thin_lines(task, here)
        empty = all(np.isnan(values).all() for values in here.values())

        def draw(axes: Axes) -> None:
            if empty:
                axes.text(0.5, 0.5, "no whole game ended", transform=axes.transAxes, ha="center", color=FAINT)
            for label, at, values in thin:
                few = len(at) <= GRID_POINTS and at is not self.grid
                draw_line(
                    axes, at, values, marked=few, color=self.styles[label].colour, linewidth=0.6, alpha=0.45, zorder=2
                )
            for label, interval in bands.items():
                draw_band(axes, self.grid, interval, self.styles[label])
            for step in self._changes:
                axes.axvline(step, color=FAINT, linewidth=0.7, linestyle=":", zorder=1)
            steps_axis(axes, self.grid)

        return Panel(task, draw, [row for label, b in bands.items() for row in band_rows(label, self.grid, b)])

    def _thin_lines(self, task: str, here: dict[str, Floats]) -> list[tuple[str, Steps, Floats]]:
        """Single runs: label, steps, values."""
        if len(self.study.runs) <= MOST_RAW_RUNS:
            return [
                (arm.label, run.series[self.metric].steps, run.series[self.metric].values)
                for arm in self.study.arms
                for run in self._shown(arm, task)
            ]
        if len(self.study.runs) <= MOST_SINGLE_RUNS:
            return [(label, self.grid, curve) for label, values in here.items() for curve in values]
        return []

    def _all_games(self, judgement: Judgement, curves: Curves) -> Panel:
        """All judged arms on all games, normalised."""
        bands = {label: self._judged_band(label, judgement, curves) for label in self._judged(judgement, curves)}
        return self._bands_panel(f"All {len(judgement.tasks)} games", bands, self.styles, judgement)

    def _bands_panel(self, title: str, bands: dict[str, Interval], styles: Styles, judgement: Judgement) -> Panel:
        def draw(axes: Axes) -> None:
            for label, interval in bands.items():
                draw_band(axes, self.grid, interval, styles[label])
            axes.set_ylabel(f"IQM, {judgement.scale.name}", fontsize=7)
            steps_axis(axes, self.grid)

        return Panel(title, draw, [row for label, b in bands.items() for row in band_rows(label, self.grid, b)])

    def _judged(self, judgement: Judgement, curves: Curves) -> list[str]:
        """Arms that were judged and have curves: one may have evaluations before its first training game ends."""
        tasks = judgement.tasks
        return [v.label for v in judgement.verdicts if all((v.label, task) in curves for task in tasks)]

    def _judged_band(self, label: str, judgement: Judgement, curves: Curves) -> Interval:
        """An arm's IQM over all games; as many runs of each game as the game with the fewest has."""
        on = [curves[label, task] for task in judgement.tasks]
        fewest = min(map(len, on))
        parts = [judgement.scale.apply(t, values[:fewest]) for t, values in zip(judgement.tasks, on, strict=True)]
        return self._band(label, np.stack(parts, axis=1))

    def _band(self, label: str, curves: Floats) -> Interval:
        """`[runs, tasks, G]` -> three `[G]`; resampling is spared where no band is drawn."""
        return band(curves, rng=self.rng, resamples=1 if self.styles[label].place is None else BAND_RESAMPLES)

    def _about_seeds(self) -> str:
        counts = sorted({len(values) for values in self._curves().values()})
        raw = " Thin lines: single runs as logged." if len(self.study.runs) <= MOST_RAW_RUNS else ""
        if counts == [1]:
            return f"One seed an arm: no band can be given.{raw}"
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        if not raw and len(self.study.runs) <= MOST_SINGLE_RUNS:
            raw = " Thin lines: single runs."
        return (
            f"A line is the interquartile mean of {seeds} seeds a game, its band the 95\u00a0% bootstrap interval.{raw}"
        )
