"""The sections of a report in words and tables; the figures come from the `plot_*` modules."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stablegrad.reports.arms import Study
from stablegrad.reports.document import Block, Cell, Code, Points, Section, Table, value_text
from stablegrad.reports.final import final_score, meaning_of
from stablegrad.reports.judge import Judgement, Verdict
from stablegrad.reports.load import RunRecord
from stablegrad.reports.names import name_of, percent, show
from stablegrad.reports.scores import RELATIVE_ERROR, SUITES, hns_table_name, predicted_median
from stablegrad.reports.sentences import interval_text, named, number, p_text, plural

MOST_ARM_COLUMNS = 8
UNFOLDED_ROWS = 24


def scores_table(judgement: Judgement) -> Table:
    """One row an arm, the best first: aggregates, and the comparison with the baseline."""
    several = len(judgement.tasks) > 1
    compared = any(verdict.comparison for verdict in judgement.verdicts)
    suite = predicting_suite(judgement)
    columns = ["arm", "seeds", "IQM", "95\u00a0% interval"]
    columns += ["median", "mean"] if several else []
    columns += ["optimality gap"] if judgement.scale.kind == "hns" else []
    columns += [f"predicted 57-game median ({suite})"] if suite else []
    columns += ["difference of IQM", "P(better)", "p (Holm)"] if compared else []
    columns += ["better on", "median improvement"] if compared and several else []
    rows = []
    for verdict in judgement.ranked:
        cells = [Cell(named(verdict)), Cell(str(verdict.seeds), verdict.seeds), _number(verdict.iqm.point)]
        interval = f"{number(verdict.iqm.low)} to {number(verdict.iqm.high)}" if verdict.seeds > 1 else "one seed"
        cells.append(Cell(interval, verdict.iqm.low))
        cells += [_number(verdict.median.point), _number(verdict.mean.point)] if several else []
        cells += [_number(verdict.gap.point)] if judgement.scale.kind == "hns" else []
        cells += [_number(_predicted(verdict, judgement, suite))] if suite else []
        cells += _against(verdict, judgement, several=several) if compared else []
        rows.append(cells)
    caption = (
        f"Final scores: {meaning_of(judgement.metric)}, as {judgement.scale.name} ({judgement.scale.meaning})."
        f" Intervals: stratified bootstrap over seeds, 95 %."
    )
    if compared:
        caption += (
            f" Compared with {judgement.baseline.label}: two-sided permutation test, Holm-corrected over the arms."
        )
    if suite:
        caption += f" The predicted 57-game median is off by {percent(RELATIVE_ERROR[suite])} on published algorithms."
    return Table(columns, rows, caption)


def predicting_suite(judgement: Judgement) -> str | None:
    """The largest suite with a fit whose games were all played, if human-normalised scores are used."""
    if judgement.scale.kind != "hns":
        return None
    return next((name for name in RELATIVE_ERROR if set(SUITES[name]) <= set(judgement.tasks)), None)


def games_table(judgement: Judgement) -> Table:
    """Raw scores, one row a game: mean and standard deviation over seeds of the best arms."""
    shown = judgement.ranked[:MOST_ARM_COLUMNS]
    rows = []
    for task in judgement.tasks:
        cells = [Cell(task)]
        for verdict in shown:
            values = np.array(list(verdict.scores.raw[task].values()))
            spread = f" ± {number(float(values.std(ddof=1)))}" if len(values) > 1 else ""
            cells.append(Cell(f"{number(float(values.mean()))}{spread}", float(values.mean())))
        rows.append(cells)
    best = (
        f" of the best {len(shown)} of {len(judgement.verdicts)} arms" if len(shown) < len(judgement.verdicts) else ""
    )
    caption = f"Raw final scores{best}: mean ± standard deviation over seeds."
    return Table(["game", *(verdict.label for verdict in shown)], rows, caption)


def differences_table(study: Study) -> Table:
    """What differs between the arms, and nothing else."""
    columns = ["arm", *(name_of(key) for key in study.varying), "runs"]
    rows = [
        [
            Cell(arm.label),
            *(Cell(show(key, arm.settings[key]), _sortable(arm.settings[key])) for key in study.varying),
            Cell(str(len(arm.runs)), len(arm.runs)),
        ]
        for arm in study.arms
    ]
    return Table(columns, rows, "Settings in which the arms differ.")


def shared_table(study: Study) -> Table:
    """What all runs have in common."""
    rows = [[Cell(key), Cell(show(key, value))] for key, value in study.shared.items()]
    return Table(["setting", "value"], rows, f"{plural(len(rows), 'setting')} that all runs share", folded=True)


def runs_table(study: Study, metric: str) -> Table:
    """Every run: where it lies, what it is, how far it came."""
    rows = []
    for arm in study.arms:
        for run, task in zip(arm.runs, arm.tasks, strict=True):
            steps_per_second = run.series.get("time/steps_per_second")
            speed = float(np.median(steps_per_second.values)) if steps_per_second is not None else math.nan
            reason = run.status.get("reason")
            rows.append([
                Cell(str(run.path)), Cell(arm.label), Cell(task), Cell(str(run.seed), run.seed),
                Cell(f"{run.state}: {reason}" if reason else run.state),
                Cell(f"{run.last_step:,}", run.last_step), _number(final_score(run, metric)), _number(speed),
            ])  # fmt: skip
    columns = ["run", "arm", "game", "seed", "state", "steps", "final score", "steps/s"]
    caption = f"{plural(len(rows), 'run')} ({meaning_of(metric)})"
    return Table(columns, rows, caption, folded=len(rows) > UNFOLDED_ROWS)


def evaluations_table(study: Study) -> Table | None:
    """Every evaluation of whole games, by training or by `stablegrad eval`; None where there is none."""
    rows = []
    for arm in study.arms:
        for run in arm.runs:
            for made in run.evaluations:
                scores = np.array(made.scores)
                error = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else math.nan
                rows.append([
                    Cell(str(run.path)), Cell(f"{made.step:,}", made.step), Cell(str(len(scores)), len(scores)),
                    _number(float(scores.mean())), _number(error),
                    Cell("" if made.epsilon is None else f"{made.epsilon:g}", made.epsilon),
                    Cell("" if made.seed is None else str(made.seed), made.seed),
                    Cell(str(made.capped), made.capped),
                    Cell("stablegrad eval" if made.by_eval else "in training"),
                ])  # fmt: skip
    if not rows:
        return None
    columns = ["run", "step", "games", "mean", "standard error", "epsilon", "seed", "cut by the cap", "made"]
    caption = f"{plural(len(rows), 'evaluation')} of whole games, raw scores"
    return Table(columns, rows, caption, folded=len(rows) > UNFOLDED_ROWS)


def made_by(runs: Sequence[RunRecord], command: str | Sequence[str] | None) -> Section:
    """The exact command and versions, of the report and of the runs."""
    blocks: list[Block] = []
    if command is not None:
        blocks.append(Code(command if isinstance(command, str) else shlex.join(command)))
    rows = []
    for key in dict.fromkeys(key for run in runs for key in run.manifest if key not in ("command", "created", "host")):
        counts = Counter(value_text(run.manifest.get(key)) for run in runs)
        values = counts.most_common(4)
        text = "; ".join(f"{value} ({count} runs)" if len(counts) > 1 else value for value, count in values)
        rows.append([Cell(key), Cell(text + (f"; {len(counts) - 4} more" if len(counts) > 4 else ""))])
    blocks.append(Table(["what", "version"], rows, "Versions and hardware of the runs"))
    commands = [shlex.join(map(str, c)) for run in runs if isinstance(c := run.manifest.get("command"), list)]
    if len(commands) == 1:
        blocks.append(Code(commands[0]))
    elif commands:
        table = [[Cell(str(run.path)), Cell(line)] for run, line in zip(runs, commands, strict=False)]
        blocks.append(Table(["run", "command"], table, "The commands of the runs", folded=True))
    return Section("How it was made", blocks)


def methods(judgement: Judgement | None) -> Section:
    """Definitions, in words."""
    notes = [
        "Interquartile mean (IQM): the mean of the middle half of all runs over all games. Median: over games, of the"
        " mean over seeds. Optimality gap: how far runs fall short of 1, what is above counting as 1.",
        "Intervals: percentile bootstrap, seeds drawn anew within each game (Agarwal et al., 2021). P(better): the"
        " chance that a run of the arm beats one of the baseline on a game, averaged over games; 0.5 is no difference.",
        "p: two-sided permutation test on the IQM, seeds shuffled between two arms within each game; Holm's correction"
        " over all arms of the table.",
        "Relative improvement: (ours − base) / max(|base|, 0.01) per game, on scores from which random play has been"
        " subtracted where a human score exists; the paper does not define its own.",
    ]
    if judgement is not None and judgement.scale.kind == "hns":
        notes.append(
            f"Human-normalised score: (score − random) / (human − random), table {hns_table_name()}; numbers from"
            " another table must not be mixed in."
        )
    notes.append("One agent step of Atari is four frames. Training and evaluation returns are never mixed.")
    return Section("Definitions", [Points(notes)])


def _against(verdict: Verdict, judgement: Judgement, *, several: bool) -> list[Cell]:
    """The comparison's cells."""
    comparison = verdict.comparison
    if comparison is None:
        word = "baseline" if verdict.scores.arm is judgement.baseline else "–"
        return [Cell(word, math.nan), *[Cell("–", math.nan)] * (4 if several else 2)]
    cells = [
        Cell(interval_text(comparison.difference), comparison.difference.point),
        _number(comparison.probability.point),
        Cell(p_text(comparison.adjusted_p).removeprefix("p ").removeprefix("= "), comparison.adjusted_p),
    ]
    if several:
        improvement = float(np.median(comparison.improvement))
        cells += [
            Cell(f"{percent(comparison.share_better)} of {len(judgement.tasks)}", comparison.share_better),
            Cell(percent(improvement, signed=True), improvement),
        ]
    return cells


def _predicted(verdict: Verdict, judgement: Judgement, suite: str) -> float:
    means = dict(zip(judgement.tasks, verdict.scores.matrix.mean(axis=0).tolist(), strict=True))
    return predicted_median(suite, means)


def _number(value: float) -> Cell:
    return Cell(number(value), value)


def _sortable(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
