"""One reader of a run's records, whoever asks: what counts, in which order, and the value that a run ends with."""

import json
from pathlib import Path

import numpy as np
import pytest

from stablegrad.demo import ARMS, outcome
from stablegrad.doctor import examine
from stablegrad.reports.load import load_run
from stablegrad.runs.series import EPISODES, TRAIN_RETURN, Series, final_value, read_games, read_series

NORM, LOSS = "gradients/raw/trunk.0", "losses/loss"
ROWS = [
    {"step": 10, "update": 1, "seconds": 1.0, LOSS: 8.0},
    {"step": 20, "update": 2, "seconds": 2.0, LOSS: 4.0, NORM: 99.0},
    {"step": 30, "update": 3, "seconds": 3.0, LOSS: 2.0},
    {"step": 20, "update": 2, "seconds": 2.5, LOSS: 0.1, NORM: 3.0},  # the run went on from a checkpoint at 10
    {"losses/nothing": 1.0},
    {"step": 30, "update": 3, "seconds": 90.0, LOSS: 0.3, "note": "text"},
]
GAMES = [{"step": 10, "score": 1.0}, {"step": 20, "score": 2.0}, {"step": 20, "score": 6.0}, {"score": 5.0}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"algo": "pqn", "seed": 1, "env_id": "CartPole-v1"}')
    for name, lines in (("metrics", ROWS), ("episodes", GAMES)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def listed(series: Series) -> tuple[list[int], list[float]]:
    return series.steps.tolist(), series.values.tolist()


def test_every_reader_sees_the_same_numbers(folder):
    """The report dropped what was made again, the doctor and the demonstration did not; one read float64."""
    found, judged, examined = read_series(folder), load_run(folder).series, examine(folder).signals.series
    assert listed(found[LOSS]) == ([10, 20, 30], [8.0, pytest.approx(0.1), pytest.approx(0.3)])
    assert listed(found[NORM]) == ([20], [3.0])
    for name in (LOSS, NORM, TRAIN_RETURN, EPISODES):
        assert listed(judged[name]) == listed(examined[name]) == listed(found[name])
    shown = outcome(ARMS[0], folder)
    assert (shown.first_layer, shown.updates, shown.minutes) == (3.0, 3, 1.5)


def test_every_line_counted_where_none_was_dropped(folder):
    """The negative control: what the doctor and the demonstration made of the same rows."""
    assert [row[NORM] for row in ROWS if NORM in row] == [99.0, 3.0]
    assert [row["step"] for row in ROWS if LOSS in row] == [10, 20, 30, 20, 30]


def test_columns_come_in_the_order_in_which_they_first_appear(folder):
    assert list(read_series(folder)) == ["update", "seconds", LOSS, NORM, TRAIN_RETURN, EPISODES]


def test_games_stand_in_for_returns_that_rows_lack(folder):
    assert listed(read_games(folder)) == ([10, 20, 20], [1.0, 2.0, 6.0])
    assert listed(read_series(folder)[TRAIN_RETURN]) == ([10, 20], [1.0, 4.0])
    assert listed(read_series(folder)[EPISODES]) == ([10, 20], [1.0, 2.0])
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 5, TRAIN_RETURN: 7.0}) + "\n")
    assert listed(read_series(folder)[TRAIN_RETURN]) == ([5], [7.0])
    (folder / "episodes.jsonl").unlink()
    assert read_games(folder) is None


def test_the_final_value_is_that_of_the_last_tenth_weighted_by_games():
    steps = np.array([80, 91, 100])
    series = {TRAIN_RETURN: Series(steps, np.array([50.0, 0.0, 10.0], np.float32))}
    assert final_value(series, TRAIN_RETURN) == 5.0
    series[EPISODES] = Series(steps, np.array([1, 9, 1], np.float32))
    assert final_value(series, TRAIN_RETURN) == 1.0
    assert np.isnan(final_value(series, "no/such"))


def test_what_float32_does_not_hold_is_infinite_and_warns_nobody(folder, recwarn):
    (folder / "metrics.jsonl").write_text('{"step": 5, "a": 1e39}\n{"step": 6, "a": 1}\n{"step": 7, "a": null}\n')
    np.testing.assert_array_equal(read_series(folder)["a"].values, [np.inf, 1.0, np.nan])
    assert list(recwarn) == []
