"""Final scores of runs: which number judges a run, and how the numbers of several games become comparable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stablegrad.reports.arms import Arm, Study
from stablegrad.reports.bootstrap import Array
from stablegrad.reports.load import Evaluation, RunRecord
from stablegrad.reports.names import percent
from stablegrad.reports.scores import hns_table_name
from stablegrad.runs.series import FINAL_WINDOW, TRAIN_RETURN, Floats, final_value
from stablegrad.tables.scores import normaliser

TEST_ACCURACY, TRAIN_ACCURACY = "eval/accuracy", "train/accuracy"
"""What runs without games are judged by: the first, where it has a meaning to the end of every one of them."""
EVALUATION = "evaluation"
"""The score that is the mean of the last evaluation's games."""

ScoresBySeed = Mapping[str, Mapping[int, float]]
"""Task -> seed -> raw final score, for one arm."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How raw scores of a task become comparable over tasks: `(raw - zero) / unit`."""

    kind: Literal["hns", "raw", "range"]
    name: str
    meaning: str
    zero: dict[str, float]
    unit: dict[str, float]

    def apply(self, task: str, raw: Floats | float) -> Floats:
        return (np.asarray(raw, dtype=float) - self.zero[task]) / self.unit[task]


@dataclass(frozen=True, slots=True)
class ArmScores:
    """One arm's final scores. `matrix [seeds, tasks]` is complete; `raw` has every run, by task and seed."""

    arm: Arm
    matrix: Array
    raw: ScoresBySeed
    left_out: int


def counted(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """The runs that have a result: those that ended, failures included. Where none has ended, all."""
    ended = tuple(run for run in runs if run.state in ("done", "failed", "unknown"))
    return ended or tuple(runs)


def score_metric(runs: Sequence[RunRecord]) -> str:
    """What the runs are judged by: evaluations if all have one, else the training score of the curves."""
    return EVALUATION if runs and all(map(judging_evaluation, runs)) else curve_metric(runs)


def judging_evaluation(run: RunRecord) -> Evaluation | None:
    """The evaluation that a run is judged by: the latest, of several at its step the one of the most games.

    One by `stablegrad eval` counts where it was made as the run's config says, at the end of what the run trained.
    """
    counted = [
        evaluation
        for evaluation in run.evaluations
        if not evaluation.by_eval
        or (evaluation.as_configured and evaluation.step >= (1 - FINAL_WINDOW) * run.last_step)
    ]
    return max(counted, key=lambda evaluation: (evaluation.step, len(evaluation.scores)), default=None)


def curve_metric(runs: Sequence[RunRecord]) -> str:
    """The training score, which runs log often: returns, or accuracy where there are no games."""
    if any(TRAIN_RETURN in run.series for run in runs):
        return TRAIN_RETURN
    judged = [run for run in runs if {TEST_ACCURACY, TRAIN_ACCURACY} & run.series.keys()]
    if not judged:
        return TRAIN_RETURN
    return TEST_ACCURACY if all(map(_tests_to_the_end, judged)) else TRAIN_ACCURACY


def _tests_to_the_end(run: RunRecord) -> bool:
    """Whether the latest accuracies include that on test images: labels that were dealt out at random have none."""
    test, train = run.series.get(TEST_ACCURACY), run.series.get(TRAIN_ACCURACY)
    return test is not None and (train is None or test.steps[-1] >= train.steps[-1])


def final_score(run: RunRecord, metric: str) -> float:
    """Mean raw score of the last evaluation, or a metric's mean over the last tenth of the steps."""
    if metric == EVALUATION:
        evaluation = judging_evaluation(run)
        return math.nan if evaluation is None else float(np.mean(evaluation.scores))
    return final_value(run.series, metric)


def meaning_of(metric: str) -> str:
    """The score in words."""
    if metric == EVALUATION:
        return "evaluation return: mean raw score of the games of the last evaluation"
    if metric == TRAIN_RETURN:
        return f"training return: mean raw score of the games of the last {percent(FINAL_WINDOW)} of steps"
    return f"{metric}: mean over the last {percent(FINAL_WINDOW)} of steps"


def collect(study: Study, runs: Sequence[RunRecord], metric: str) -> tuple[list[ArmScores], Scale] | None:
    """The scores of every arm that has any, on the tasks that all of them have; None where there are none."""
    wanted = {id(run) for run in runs}
    raw: dict[str, dict[str, dict[int, float]]] = {}
    for arm in study.arms:
        by_task: dict[str, dict[int, float]] = {task: {} for task in study.tasks}
        for task in study.tasks:
            for run in arm.on(task):
                score = final_score(run, metric) if id(run) in wanted else math.nan
                if math.isfinite(score):
                    by_task[task][run.seed] = score
        if any(by_task.values()):
            raw[arm.label] = by_task
    games = {task: game for task, game in study.games.items() if all(by_task[task] for by_task in raw.values())}
    if not raw or not games:
        return None
    scale = scale_of(games, list(raw.values()), accuracy="accuracy" in metric)
    tasks = tuple(games)
    return [_complete(arm, raw[arm.label], tasks, scale) for arm in study.arms if arm.label in raw], scale


def scale_of(games: Mapping[str, str], raw: Sequence[ScoresBySeed], *, accuracy: bool = False) -> Scale:
    """Human-normalised where every game allows it; raw for a single game; else by the range of the runs.

    `games` maps tasks to the game that each of them is.
    """
    zero, unit = dict.fromkeys(games, 0.0), dict.fromkeys(games, 1.0)
    human = {task: normalise for task, game in games.items() if (normalise := normaliser(game)) is not None}
    if len(human) == len(games):
        for task, normalise in human.items():
            unit[task] = 1 / (normalise(1.0) - normalise(0.0))
            zero[task] = -normalise(0.0) * unit[task]
        meaning = f"0 is random play, 1 the human tester (table {hns_table_name()})"
        return Scale("hns", "human-normalised score", meaning, zero, unit)
    if len(set(games.values())) == 1:
        return Scale("raw", "accuracy" if accuracy else "raw score", "as the task gives it", zero, unit)
    for task, game in games.items():
        siblings = [other for other in games if games[other] == game]
        everyone = [score for by_task in raw for other in siblings for score in by_task[other].values()]
        zero[task] = min(everyone)
        unit[task] = (max(everyone) - min(everyone)) or 1.0
    meaning = (
        "per game, 0 is the worst run of this report and 1 the best: these games have no human score, and the"
        " numbers of two reports cannot be compared"
    )
    return Scale("range", "range-normalised score", meaning, zero, unit)


def _complete(arm: Arm, raw: ScoresBySeed, tasks: Sequence[str], scale: Scale) -> ArmScores:
    """The seeds that have a score on every task, normalised; without one, as many runs as every task has."""
    seeds = sorted(set.intersection(*(set(raw[task]) for task in tasks)))
    fewest = min(len(raw[task]) for task in tasks)
    chosen = {task: seeds or list(raw[task])[:fewest] for task in tasks}
    columns = [scale.apply(task, np.array([raw[task][seed] for seed in chosen[task]])) for task in tasks]
    matrix = np.stack(columns, axis=1)
    return ArmScores(arm, matrix, raw, left_out=sum(len(raw[task]) for task in tasks) - matrix.size)
