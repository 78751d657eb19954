"""Final scores: which run counts, by what, on which scale."""

import numpy as np
import pytest

from stablegrad.reports.arms import study
from stablegrad.reports.final import EVALUATION, collect, counted, final_score, score_metric
from stablegrad.reports.load import load_run, load_runs
from stablegrad.runs.series import TRAIN_RETURN


def collected(paths, metric=TRAIN_RETURN):
    compared = study([load_run(path) for path in paths])
    return collect(compared, compared.runs, metric)


def test_runs_that_failed_count_and_runs_under_way_do_not(make_run):
    states = ["done", "failed", "running", "stopped"]
    runs = [load_run(make_run(state, state=state, seed=seed, rows=4)) for seed, state in enumerate(states)]
    assert [run.state for run in counted(runs)] == ["done", "failed"]
    assert [run.state for run in counted(runs[2:])] == ["running", "stopped"]


def test_evaluations_judge_only_where_every_run_has_one(make_run):
    with_one = load_run(make_run("a", rows=4, evaluations=2, level=1.0, noise=0.0))
    without = load_run(make_run("b", rows=4))
    assert score_metric([with_one]) == EVALUATION
    assert score_metric([with_one, without]) == TRAIN_RETURN
    assert final_score(with_one, EVALUATION) == pytest.approx(10.0)
    assert np.isnan(final_score(without, EVALUATION))


def test_accuracy_judges_where_there_are_no_games(make_run):
    path = make_run("a", rows=3, diagnostics=False)
    lines = (path / "metrics.jsonl").read_text().replace(TRAIN_RETURN, "train/accuracy")
    (path / "metrics.jsonl").write_text(lines)
    (path / "episodes.jsonl").unlink()
    assert score_metric([load_run(path)]) == "train/accuracy"


def test_atari_is_human_normalised(make_run):
    _, scale = collected([make_run("a", env_id="Pong-v5"), make_run("b", env_id="Qbert-v5")])
    assert scale.kind == "hns"
    assert float(scale.apply("Pong", -20.7)) == pytest.approx(0.0)
    assert float(scale.apply("Pong", 14.6)) == pytest.approx(1.0)
    assert float(scale.apply("Qbert", 13455.0)) == pytest.approx(1.0)
    assert "dqn_zoo-57" in scale.meaning


def test_one_other_game_stays_raw_and_several_are_put_in_their_range(make_run):
    one = [make_run("a", level=1.0, noise=0.0, seed=1), make_run("b", level=2.0, noise=0.0, seed=2)]
    assert collected(one)[1].kind == "raw"
    two = [make_run("c", env_id="CartPole-v1", seed=s, level=s, noise=0.0) if s else make_run("d") for s in (0, 1)]
    assert collected([*one, *two])[1].kind == "range"
    other = [make_run(f"e{s}", env_id="CartPole-v1", seed=s, level=10.0 * s, noise=0.0) for s in (1, 2)]
    (scores,), scale = collected([*one, *other])
    assert scale.kind == "range"
    assert scores.matrix == pytest.approx(np.array([[0.0, 0.0], [1.0, 1.0]]))


def test_an_atari_game_beside_another_environment_is_not_half_normalised(make_run):
    _, scale = collected([make_run("a", env_id="Pong-v5"), make_run("b", env_id="CartPole-v1")])
    assert scale.kind == "range"


def test_aggregates_use_the_seeds_that_every_game_has(make_run):
    paths = [make_run(f"p{s}", env_id="Pong-v5", seed=s) for s in (1, 2, 3)]
    paths += [make_run(f"q{s}", env_id="Qbert-v5", seed=s) for s in (2, 3, 4, 5)]
    (scores,), _ = collected(paths)
    assert scores.matrix.shape == (2, 2)
    assert scores.left_out == 3
    assert list(scores.raw["Qbert"]) == [2, 3, 4, 5]


def test_only_tasks_that_all_arms_played_are_compared(make_run):
    paths = [make_run("a", env_id="Pong-v5"), make_run("b", env_id="Qbert-v5")]
    paths.append(make_run("c", env_id="Pong-v5", optimizer="kron"))
    scored, scale = collected(paths)
    assert list(scale.unit) == ["Pong"]
    assert [scores.matrix.shape for scores in scored] == [(1, 1), (1, 1)]


def test_nothing_to_collect(make_run):
    path = make_run("a", rows=3)
    (path / "metrics.jsonl").write_text("")
    (path / "episodes.jsonl").write_text("")
    assert collected([path]) is None


def test_load_order_does_not_matter(sweep):
    runs = load_runs([sweep])
    forward, backward = study(runs), study(runs[::-1])
    first, second = (collect(s, s.runs, TRAIN_RETURN)[0] for s in (forward, backward))
    assert [s.arm.label for s in first] == [s.arm.label for s in second]
    assert all(np.array_equal(a.matrix, b.matrix) for a, b in zip(first, second, strict=True))
