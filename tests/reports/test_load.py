"""Run folders as reports read them: torn lines, missing files, repeated steps, many rows."""

import json

import numpy as np
import pytest
from synthetic_runs import write_run

from stablegrad.errors import UserError
from stablegrad.reports import load
from stablegrad.reports.load import find_runs, load_run, load_runs
from stablegrad.runs.series import EPISODES, TRAIN_RETURN


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def test_a_run(make_run):
    run = load_run(make_run("a", seed=3, rows=10, steps=1_000, evaluations=2))
    assert run.seed == 3
    assert run.state == "done"
    assert run.budget == run.last_step == 1_000
    series = run.series["gradients/raw/head"]
    assert series.steps.tolist() == list(range(100, 1_001, 100))
    assert len(series.values) == 10
    assert run.manifest["torch"] == "2.13.0+cpu"
    assert [(e.step, len(e.scores), e.epsilon) for e in run.evaluations] == [(500, 3, 0.005), (1_000, 3, 0.005)]


def test_a_torn_last_line_is_skipped(make_run):
    path = make_run("a", rows=10)
    append(path / "metrics.jsonl", '{"step": 999999, "train/episode_ret')
    assert len(load_run(path).series[TRAIN_RETURN].steps) == 10


def test_sparse_metrics_keep_their_own_steps(make_run):
    path = make_run("a", rows=4, steps=400, diagnostics=False)
    append(path / "metrics.jsonl", json.dumps({"step": 450, "ranks/srank": 7, "note": "words are no metric"}) + "\n")
    run = load_run(path)
    assert run.series["ranks/srank"].steps.tolist() == [450]
    assert run.series[TRAIN_RETURN].steps.tolist() == [100, 200, 300, 400]
    assert "note" not in run.series
    assert "seconds" not in run.series


def test_a_step_that_was_logged_twice_counts_once_as_it_was_logged_last(make_run):
    path = make_run("a", rows=4, steps=400, diagnostics=False)
    append(path / "metrics.jsonl", "".join(json.dumps({"step": s, TRAIN_RETURN: -1.0}) + "\n" for s in (300, 400)))
    series = load_run(path).series[TRAIN_RETURN]
    assert series.steps.tolist() == [100, 200, 300, 400]
    assert series.values[2:].tolist() == [-1.0, -1.0]


def test_a_run_without_returns_in_its_rows_is_read_from_its_games(make_run):
    path = make_run("a", rows=2)
    (path / "metrics.jsonl").write_text('{"step": 10, "losses/loss": 1.0}\n')
    games = [(5, 1.0), (5, 3.0), (9, 7.0)]
    lines = [json.dumps({"step": step, "env": 0, "score": score, "length": 9}) for step, score in games]
    (path / "episodes.jsonl").write_text("\n".join(lines) + '\n{"torn')
    series = load_run(path).series
    assert series[TRAIN_RETURN].steps.tolist() == [5, 9]
    assert series[TRAIN_RETURN].values.tolist() == [2.0, 7.0]
    assert series[EPISODES].values.tolist() == [2.0, 1.0]


def test_both_names_of_an_evaluation_are_read(make_run):
    path = make_run("a")
    (path / "evaluations.jsonl").write_text('{"step": 7, "scores": [1, 2], "epsilon": 0.01, "seed": 1}\n{"step": 8}\n')
    (only,) = load_run(path).evaluations
    assert (only.step, only.scores) == (7, (1.0, 2.0))


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "config.json").write_text('{"algo": "pqn", "seed": 1, "env_id": "CartPole-v1"}')
    run = load_run(tmp_path)
    assert run.series == {}
    assert run.state == "unknown"
    assert run.last_step == 0


def test_an_unreadable_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        load_run(tmp_path)


class TestFinding:
    def test_folders_of_runs_are_looked_into_but_runs_are_not(self, tmp_path):
        first = write_run(tmp_path / "sweep" / "a")
        second = write_run(tmp_path / "sweep" / "deeper" / "b")
        write_run(tmp_path / "sweep" / ".hidden" / "c")
        checkpoint = first / "checkpoints" / "step_000000000100"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}")
        assert find_runs([tmp_path / "sweep"]) == [first, second]
        assert find_runs([first, tmp_path / "sweep"]) == [first, second]

    def test_every_wrong_path_is_named(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError) as caught:
            find_runs([tmp_path / "empty", tmp_path / "absent"])
        assert "holds no run" in caught.value.problems[0]
        assert "does not exist" in caught.value.problems[1]
        with pytest.raises(UserError, match="no run folder was named"):
            find_runs([])

    def test_links_that_lead_back_have_an_end(self, tmp_path):
        run = write_run(tmp_path / "a" / "b" / "run")
        (tmp_path / "a" / "b" / "up").symlink_to("..")
        (tmp_path / "a" / "top").symlink_to(tmp_path)
        assert find_runs([tmp_path / "a"]) == [run]

    def test_a_whole_disk_is_refused(self, tmp_path, monkeypatch):
        """`report /` went through every folder of the machine, and through `/proc` for ever."""
        for name in "abcde":
            (tmp_path / name).mkdir()
        monkeypatch.setattr(load, "_MOST_FOLDERS", 5)
        with pytest.raises(UserError, match="more than 5 folders in it: name one nearer to the runs"):
            find_runs([tmp_path])
        monkeypatch.setattr(load, "_MOST_FOLDERS", 6)
        with pytest.raises(UserError, match="holds no run"):
            find_runs([tmp_path])

    def test_folders_deeper_than_calls_may_be(self, tmp_path, few_calls):
        run = write_run(tmp_path.joinpath(*["d"] * 200, "run"))
        with few_calls:
            assert find_runs([tmp_path]) == [run]


def test_many_rows_are_small(make_run):
    """64 bits of step and 32 of value for each number, and nothing else that grows."""
    runs = load_runs([make_run("a", rows=2_000, blocks=1)])
    numbers = sum(len(series.values) for series in runs[0].series.values())
    size = sum(series.values.nbytes + series.steps.nbytes for series in runs[0].series.values())
    assert numbers > 40_000
    assert size == 12 * numbers
    assert all(np.isfinite(series.values).all() for series in runs[0].series.values())
