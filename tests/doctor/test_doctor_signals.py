"""What is read from a run's folder, and what a broken or foreign folder does."""

import json

import numpy as np
import pytest
from doctor_streams import ROWS, TOTAL, Stream

from stablegrad.doctor import Signals, examine
from stablegrad.doctor.network import rank_correlation
from stablegrad.doctor.pictures import chart, number, sparkline
from stablegrad.doctor.reading import early, ill_since, is_head, late, matrix
from stablegrad.errors import UserError
from stablegrad.runs.series import Series


def series(*values, every=10):
    return Series(np.arange(1, len(values) + 1) * every, np.array(values, dtype=float))


def test_a_run_is_read_back_as_written(tmp_path):
    stream = Stream()
    signals = Signals.read(stream.write(tmp_path))
    assert signals.last_step == TOTAL
    assert signals.budget == TOTAL
    np.testing.assert_allclose(signals.get("churn/value").values, stream.columns["churn/value"])
    assert list(signals.layers("gradients/raw")) == [
        "encoder.net.0.conv", "trunk.0.linear", "trunk.1.linear", "trunk.2.linear", "head",
    ]  # fmt: skip
    assert len(signals.games) == 600


def test_a_torn_line_and_a_metric_of_text_are_passed_over(tmp_path):
    path = Stream().write(tmp_path)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": TOTAL + 1, "losses/loss": "high", "churn/value": 0.1}) + '\n{"step": 7, "los')
    signals = Signals.read(path)
    assert len(signals.get("losses/loss")) == ROWS
    assert len(signals.get("churn/value")) == ROWS + 1


def test_a_folder_with_a_config_alone_is_examined(tmp_path):
    (tmp_path / "config.json").write_text('{"algo": "pqn"}')
    examination = examine(tmp_path)
    assert examination.findings == ()
    assert "rank_collapse" in examination.not_looked_at


@pytest.mark.parametrize("what", ["nothing", "an empty folder", "a broken config"])
def test_what_is_not_a_run_is_refused(tmp_path, what):
    path = tmp_path / "run"
    if what != "nothing":
        path.mkdir()
    if what == "a broken config":
        (path / "config.json").write_text("{")
    with pytest.raises(UserError, match="run"):
        examine(path)


def test_late_and_early_parts(tmp_path):
    signals = Signals.read(Stream().write(tmp_path))
    quarter = series(*range(60), every=1000)
    assert late(signals, quarter).values.tolist() == list(range(29, 60))
    assert late(signals, quarter, share=0.25).values[0] == 44
    assert early(signals, quarter).values.tolist() == list(range(14))


def test_since_when_tolerates_a_quarter_of_healthy_points():
    steps = np.arange(8) * 100
    assert ill_since(steps, np.array([0, 0, 1, 1, 1, 0, 1, 1], bool)) == 200
    assert ill_since(steps, np.array([1, 0, 0, 0, 0, 0, 1, 1], bool)) == 600
    assert ill_since(steps, np.zeros(8, bool)) is None


def test_layers_are_compared_where_all_were_logged():
    first, second = series(1, 2, 3), Series(np.array([20, 30]), np.array([5.0, 6.0]))
    steps, values = matrix({"a": first, "b": second})
    assert steps.tolist() == [20, 30]
    assert values.tolist() == [[2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("layer", "head"),
    [("head", True), ("actor", True), ("head.value.2", True), ("action_net", True), ("value_net", True),
     ("trunk.11.linear", False), ("critic_torso.trunk.0.linear", False), ("mlp_extractor.value_net.0", False)],
)  # fmt: skip
def test_heads_are_told_from_what_feeds_them(layer, head):
    assert is_head(layer) is head


def test_rank_correlation():
    assert rank_correlation(np.array([1.0, 2, 4, 8])) == pytest.approx(1)
    assert rank_correlation(np.array([8.0, 4, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 3, 2])) == pytest.approx(0.5)
    assert rank_correlation(np.ones(4)) == 0


def test_sparklines():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, 10, 100], log=True) == "▁▅█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([0.0, float("nan"), 1.0]) == "▁·█"
    assert sparkline([0, 0, 1, 1], width=2) == "▁█"
    assert sparkline([]) == ""


def test_chart():
    assert chart([0, 1, 2], height=2) == [" ▁█".replace("▁", " "), " ██"]
    assert chart([]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.12345, "0.123"), (12345.6, "12,346"), (1e-7, "1.0e-07"), (3e8, "3.0e+08"), (float("nan"), "nan")],
)
def test_numbers_are_short(value, text):
    assert number(value) == text
