"""What a report says, and in which order: from runs to a document."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stablegrad.reports import plot_metrics, plot_scaling, plot_scores, sections
from stablegrad.reports.arms import Study, choose_baseline, choose_baselines, families, pooled_over_sizes, study
from stablegrad.reports.curves import step_grid
from stablegrad.reports.document import Block, Document, Points, Section
from stablegrad.reports.final import curve_metric, score_metric
from stablegrad.reports.findings import findings_section
from stablegrad.reports.judge import Judgement, judge
from stablegrad.reports.lines import choose_styles
from stablegrad.reports.load import RunRecord
from stablegrad.reports.names import show
from stablegrad.reports.plot_curves import LearningCurves
from stablegrad.reports.plot_tasks import task_section
from stablegrad.reports.sentences import doubts, plural, supported

SEED = 0
"""Of every bootstrap in a report: the same runs give the same report."""


def compose(
    runs: Sequence[RunRecord],
    *,
    title: str | None = None,
    command: str | Sequence[str] | None = None,
    baseline: str | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> Document:
    """The report's content; arguments as in `report.write_report`."""
    rng = np.random.default_rng(SEED)
    compared = study(runs)
    pooled = pooled_over_sizes(compared)
    if pooled is None:
        judgement, over_sizes = judge(compared, choose_baseline(compared.arms, baseline), rng=rng), None
    else:
        single, whole = choose_baselines(compared, pooled, baseline)
        judgement, over_sizes = judge(compared, single, rng=rng), judge(pooled, whole, rng=rng)
    parts = [_summary(compared, judgement, over_sizes)]
    if findings:
        parts.append(findings_section(findings))
    parts += _figures(compared, judgement, over_sizes, rng)
    parts += [_what_was_run(compared, judgement), sections.made_by(runs, command), sections.methods(judgement)]
    return Document(
        title=title or _title(compared), subtitle=_subtitle(compared), facts=_facts(compared), sections=parts
    )


def _summary(compared: Study, judgement: Judgement | None, over_sizes: Judgement | None) -> Section:
    if judgement is None:
        states = ", ".join(sorted({run.state for run in compared.runs}))
        said = [f"No run has finished a game or logged a score yet ({states}): nothing can be said about results."]
        return Section("What the evidence supports", [Points(said, "doubt")])
    said = supported(judgement)
    if over_sizes is not None:
        said = [*supported(over_sizes), *supported(judgement, arm="single size")]
    blocks: list[Block] = [
        Points(said, "said"),
        Points(doubts(compared, judgement), "doubt"),
        sections.scores_table(judgement),
    ]
    return Section("What the evidence supports", blocks)


def _figures(
    compared: Study, judgement: Judgement | None, over_sizes: Judgement | None, rng: np.random.Generator
) -> list[Section]:
    """The sections that are mostly pictures; those without any are left out."""
    # An arm that has not begun has nothing to show, and would only take a colour.
    begun = tuple(arm for arm in compared.arms if any(run.series or run.evaluations for run in arm.runs))
    compared = replace(compared, arms=begun)
    if not compared.arms:
        return []
    grid = step_grid(compared.runs)
    styles = choose_styles(compared.arms, judgement)
    metric = curve_metric(compared.runs)
    learning = LearningCurves(compared, judgement, styles, metric, grid, rng)
    curves: list[Block] = []
    if any(metric in run.series for run in compared.runs):
        curves.append(learning.figure())
    comparison: list[Block] = []
    games: list[Block] = []
    if judgement is not None and len(judgement.verdicts) > 1:
        comparison.append(plot_scores.aggregate_bars(judgement, styles))
        if len(judgement.tasks) > 1:
            comparison.append(plot_scores.profiles(judgement, styles, rng=rng))
            if any(verdict.comparison for verdict in judgement.verdicts):
                games.append(plot_scores.improvement_bars(judgement))
    if judgement is not None and len(judgement.tasks) > 1:
        games.append(sections.games_table(judgement))
    sizes: list[Block] = [] if over_sizes is None else [sections.scores_table(over_sizes)]
    sizes += plot_scaling.scaling_figures(compared, judgement)
    if curves and judgement is not None and families(compared):
        sizes.append(learning.by_size(judgement))
    parts = [
        Section("Learning curves", curves),
        task_section(compared, styles, rng=rng),
        Section("Aggregate scores", comparison),
        Section("Network size", sizes),
        Section("Game by game", games),
        Section("Layer by layer", plot_metrics.layer_maps(compared, styles, grid=grid)),
        Section(
            "Diagnostics", plot_metrics.metric_panels(compared, styles, grid=grid), plot_metrics.lead(compared, grid)
        ),
    ]
    return [part for part in parts if part.blocks]


def _what_was_run(compared: Study, judgement: Judgement | None) -> Section:
    blocks: list[Block] = []
    if compared.varying:
        blocks.append(sections.differences_table(compared))
    if compared.by_task:
        blocks.append(Points([f"These settings follow from the game: {', '.join(compared.by_task)}."]))
    blocks.append(sections.shared_table(compared))
    metric = judgement.metric if judgement is not None else score_metric(compared.runs)
    blocks.append(sections.runs_table(compared, metric))
    evaluations = sections.evaluations_table(compared)
    if evaluations is not None:
        blocks.append(evaluations)
    return Section("What was run", blocks)


def _title(compared: Study) -> str:
    if len(compared.runs) == 1:
        return f"{compared.arms[0].label} on {compared.tasks[0]}"
    if len(compared.arms) == 1:
        return f"{compared.arms[0].label} on {_games(compared)}"
    return f"{plural(len(compared.arms), 'arm')} on {_games(compared)}"


def _games(compared: Study) -> str:
    return ", ".join(compared.tasks) if len(compared.tasks) <= 3 else f"{len(compared.tasks)} games"


def _subtitle(compared: Study) -> str:
    algorithms = {show("algo", run.config.get("algo", "run")) for run in compared.runs}
    return f"{' and '.join(sorted(algorithms))} · {', '.join(compared.tasks)}"


def _facts(compared: Study) -> list[tuple[str, str]]:
    seeds = sorted({len({run.seed for run in arm.on(task)}) for arm in compared.arms for task in arm.tasks})
    steps = sum(run.last_step for run in compared.runs)
    facts = [
        (f"{len(compared.runs):,}", "run" if len(compared.runs) == 1 else "runs"),
        (f"{len(compared.arms):,}", "arm" if len(compared.arms) == 1 else "arms"),
        (f"{len(compared.tasks):,}", "game" if len(compared.tasks) == 1 else "games"),
        (str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}", "seeds" if seeds != [1] else "seed"),
        (_short(steps), "agent steps in all"),
    ]
    unfinished = sum(run.state not in ("done", "unknown") for run in compared.runs)
    return facts + ([(f"{unfinished:,}", "not done")] if unfinished else [])


def _short(count: int) -> str:
    for unit, letter in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)
