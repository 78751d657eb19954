"""Numbers of runs whose task changes: literal values from runs made by hand."""

import json

import numpy as np
import pytest

from stablegrad.reports.arms import game_of, study
from stablegrad.reports.compose import compose
from stablegrad.reports.final import curve_metric
from stablegrad.reports.load import load_run
from stablegrad.reports.markdown import render_markdown
from stablegrad.reports.tasks import TaskCurve, arms_on_tasks, change_steps, gaps, task_names, task_results
from stablegrad.runs.series import Series, final_value


def write(path, rows, *, metric, **config):
    path.mkdir()
    flat = {"algo": "cifar", "seed": 1, "dataset": "digits", "mlp_type": "default", "optimizer": "adam",
            "use_ln": False, "fresh_networks": False, **config}  # fmt: skip
    (path / "config.json").write_text(json.dumps(flat))
    (path / "status.json").write_text(json.dumps({"state": "done", "step": rows[-1][0]}))
    lines = [{"step": s, "train/task": t, metric: v, **({"train/episodes": n} if n else {})} for s, t, v, n in rows]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_run(path)


def images(path, values, **config):
    """Two tasks of 20 updates, each evaluated twice."""
    rows = [(10 * (i + 1), 1 + i // 2, value, 0) for i, value in enumerate(values)]
    return write(path, rows, metric="train/accuracy", stream="shuffled_labels", change_points=[1],
                 first_task="shuffled", **config)  # fmt: skip


def test_accuracies_are_the_last_of_each_task(tmp_path):
    run = images(tmp_path / "a", [0.2, 0.8, 0.1, 0.5])
    assert change_steps(run) == (20,)
    assert task_names(run) == ("shuffled_labels", "shuffled_labels")
    assert [result.final for result in task_results(run)] == pytest.approx([0.8, 0.5])
    assert [result.area for result in task_results(run)] == pytest.approx([0.5, 0.3])
    (arm,) = arms_on_tasks(study([run]))
    assert arm.change() == pytest.approx([-0.3])


def test_a_row_of_a_run_on_images_counts_though_no_game_ended(tmp_path):
    rows = [(10 * i, 1, i / 10, 0) for i in range(1, 11)]
    run = write(tmp_path / "a", rows, metric="train/accuracy", stream="stationary")
    run.series["train/episodes"] = Series(run.series["train/task"].steps, np.zeros(10, np.float32))
    assert final_value(run.series, "train/accuracy") == pytest.approx(1.0)


def test_returns_average_the_late_games_of_each_task(tmp_path):
    rows = [(40, 1, 1.0, 9), (80, 1, 2.0, 1), (90, 1, 4.0, 1), (100, 1, 8.0, 3), (150, 2, 5.0, 1), (200, 2, 6.0, 1)]
    run = write(tmp_path / "g", rows, metric="train/episode_return", task_schedule=["A", "B"], env_id="A")
    assert game_of(run) == "2 tasks from A on"
    late = task_results(run)
    assert [result.final for result in late] == pytest.approx([(4 * 1 + 8 * 3) / 4, 6.0])
    assert late[1].area == pytest.approx(5.5)


def test_the_gap_pairs_seeds_with_their_fresh_twin(tmp_path):
    runs = [
        images(tmp_path / f"{seed}{fresh}", values, seed=seed, fresh_networks=fresh)
        for seed, fresh, values in [
            (1, False, [0.2, 0.8, 0.1, 0.5]), (1, True, [0.2, 0.8, 0.5, 0.9]),
            (2, False, [0.2, 0.7, 0.1, 0.3]), (3, True, [0.2, 0.7, 0.1, 0.9]),
        ]
    ]  # fmt: skip
    (gap,) = gaps(arms_on_tasks(study(runs)))
    assert gap.final == pytest.approx(np.array([[0.0, 0.4]]))
    assert gap.late.tolist() == [[1.0, np.inf]]  # in task 2 it never reaches 0.81
    other = images(tmp_path / "x", [0.2, 0.8, 0.1, 0.5], seed=1, use_ln=True)
    assert len(gaps(arms_on_tasks(study([*runs, other])))) == 1


def test_a_run_that_has_not_come_through_is_left_out(tmp_path):
    whole, half = images(tmp_path / "a", [0.2, 0.8, 0.1, 0.5]), images(tmp_path / "b", [0.2, 0.8], seed=2)
    (arm,) = arms_on_tasks(study([whole, half]))
    assert list(arm.results) == [1]


def test_a_run_that_stopped_within_its_last_task_is_left_out(tmp_path):
    stopped = images(tmp_path / "a", [0.2, 0.8, 0.1, 0.5])
    assert arms_on_tasks(study([stopped]))
    (tmp_path / "a" / "status.json").write_text(json.dumps({"state": "stopped", "step": 40}))
    assert arms_on_tasks(study([load_run(tmp_path / "a")])) == []


def test_the_report_has_the_section_only_where_tasks_change(tmp_path):
    text = render_markdown(compose([images(tmp_path / "a", [0.2, 0.8, 0.1, 0.5])]), figures="f")
    assert "## Task by task" in text
    assert "| 0.800 | 0.500 | -0.300 |" in text
    still = write(tmp_path / "b", [(10, 1, 0.5, 0), (20, 1, 0.6, 0)], metric="train/accuracy", stream="stationary")
    assert "## Task by task" not in render_markdown(compose([still]), figures="f")


def test_area_and_steps_of_a_curve():
    curve = TaskCurve(steps=(10, 20, 40), values=(0.2, 0.5, 0.8))
    assert curve.area == pytest.approx((0.2 * 10 + 0.5 * 10 + 0.8 * 20) / 40)
    assert [curve.steps_to(value) for value in (0.5, 0.51, 0.81)] == [20, 40, np.inf]


def test_the_area_does_not_depend_on_when_one_looks():
    assert TaskCurve((1, 2, 50), (1.0, 1.0, 1.0)).area == pytest.approx(1)
    early_looks = TaskCurve((1, 2, 3, 40), (0.0, 0.0, 0.0, 1.0))
    assert early_looks.area == pytest.approx(37 / 40)  # the plain mean is 1/4


def test_a_fresh_network_that_ends_below_0_has_no_90_percent(tmp_path):
    """Nine tenths of -10 are -9: more than it reached, and no share of anything."""
    rows = [(50, 1, -20.0, 1), (100, 1, -10.0, 1), (150, 2, -20.0, 1), (200, 2, -10.0, 1)]
    runs = [
        write(tmp_path / f"{fresh}", rows, metric="train/episode_return", task_schedule=["A", "B"], env_id="A",
              fresh_networks=fresh)
        for fresh in (False, True)
    ]  # fmt: skip
    (gap,) = gaps(arms_on_tasks(study(runs)))
    assert np.isnan(gap.late).all()
    assert "| 1 | – | – | – |" in render_markdown(compose(runs), figures="f")


def test_a_test_accuracy_that_only_the_first_task_has_judges_nothing(tmp_path):
    """With true labels in task 1 and shuffled ones behind it, only the training images are judged to the end."""
    run = images(tmp_path / "a", [0.2, 0.8, 0.1, 0.5])
    run.series["eval/accuracy"] = Series(np.array([10, 20]), np.array([0.3, 0.7], np.float32))
    assert curve_metric([run]) == "train/accuracy"
    assert [result.final for result in task_results(run)] == pytest.approx([0.8, 0.5])
    run.series["eval/accuracy"] = Series(np.array([10, 20, 30, 40]), np.full(4, 0.6, np.float32))
    assert curve_metric([run]) == "eval/accuracy"
    assert curve_metric([run, images(tmp_path / "b", [0.2, 0.8, 0.1, 0.5])]) == "train/accuracy"
