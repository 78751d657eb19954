"""Run folders that somebody edited, cut short or wrote by other means: said in a sentence, or read as far as sound."""

import json
import shutil
from pathlib import Path

import pytest

from stablegrad.doctor import examine
from stablegrad.errors import UserError
from stablegrad.reports.load import load_run
from stablegrad.runs.files import check_writable, read_last_line, read_lines, read_object, read_toml
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.reading import read_config, read_status
from stablegrad.sweeps.folder import SweepFolder
from stablegrad.sweeps.progress import progress_of

NO_OBJECTS = [b"", b"[]", b"null", b"5", b'"x"', b"{", b"\xff\xfe{}", b"[" * 100_000, b"\0", b"NaN"]
CONFIG = {"algo": "pqn", "env_id": "CartPole-v1", "total_timesteps": 64, "seed": 1, "gamma": 0.99}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize("content", NO_OBJECTS, ids=lambda content: repr(content[:8]))
def test_a_config_that_is_no_object_is_said_by_every_reader(run, content):
    (run / "config.json").write_bytes(content)
    for reader in (read_config, load_run, examine, progress_of):
        with pytest.raises(UserError, match=r"config\.json cannot be read"):
            reader(run)


def test_json_alone_takes_most_of_them_for_a_config():
    """The negative control: what the readers did before they asked for an object."""
    assert [type(json.loads(content)).__name__ for content in NO_OBJECTS[1:5]] == ["list", "NoneType", "int", "str"]
    with pytest.raises(RecursionError):
        json.loads(b"[" * 100_000)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("seed", "x", "a finite number"),
        ("seed", True, "a finite number"),
        ("gamma", [], "a finite number"),
        ("total_timesteps", float("inf"), "a finite number"),
        ("learning_rate", float("nan"), "a finite number"),
        ("mlp_depth", {}, "a word or a number"),
        ("task_schedule", 5, "a list"),
        ("change_points", "x", "a list"),
    ],
)
def test_a_setting_that_readers_calculate_with_has_its_type(run, name, value, wanted):
    (run / "config.json").write_text(json.dumps({**CONFIG, name: value}))
    for reader in (load_run, examine):
        with pytest.raises(UserError, match=f"{name} .* must be {wanted}"):
            reader(run)


def test_settings_of_somebody_else_s_training_are_theirs(run):
    (run / "config.json").write_text(json.dumps({"algo": "SAC", "tau": "soft", "gamma": None, "nested": {"a": []}}))
    assert load_run(run).config["tau"] == "soft"
    assert examine(run).signals.budget == 0


@pytest.mark.parametrize(
    "status",
    [
        *NO_OBJECTS,
        b'{"state": 5, "step": 1}',
        b'{"state": "done"}',
        b'{"state": "done", "step": "x"}',
        b'{"state": "done", "step": null}',
        b'{"state": "done", "step": 1e400}',
        b'{"state": [], "step": 1}',
        b'{"state": "done", "step": -1}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_status_that_says_nothing_sound_says_nothing(run, status):
    (run / "status.json").write_bytes(status)
    assert read_status(run) == {}
    assert load_run(run).state == "unknown"
    assert progress_of(run).state == "created"
    assert examine(run).signals.last_step == 0


def test_a_sound_status_is_what_it_says(run):
    (run / "status.json").write_text('{"state": "failed", "step": 7, "reason": ["odd"]}')
    assert read_status(run) == {"state": "failed", "step": 7, "reason": "['odd']"}


LINES = [
    b'{"step": 10, "losses/loss": 0.5}',
    b"[1]", b"5", b"null", b"\xff\xfe", b"{", b"[" * 100_000, b'{"step": "x", "losses/loss": 9}', b'{"step": null}',
    b'{"step": 1e400, "losses/loss": 9}', b'{"step": 99999999999999999999, "losses/loss": 9}', b'{"step": true}',
    b'{"step": [1], "losses/loss": 9}', b'{"step": 2.5, "losses/loss": 9}',
    b'{"step": 15, "losses/loss": "high", "ranks/srank": [1], "x": ' + b"9" * 5000 + b"}",
    b'{"step": 20, "losses/loss": 0.25}',
]  # fmt: skip


def test_a_line_that_is_no_record_is_passed_over_by_every_reader(run):
    (run / "metrics.jsonl").write_bytes(b"\n".join(LINES) + b"\n")
    assert [record["step"] for record in read_lines(run / "metrics.jsonl")] == [10, 15, 20]
    loss = load_run(run).series["losses/loss"]
    assert (loss.steps.tolist(), loss.values.tolist()) == ([10, 20], [0.5, 0.25])
    assert examine(run).signals.series["losses/loss"].values.tolist() == [0.5, 0.25]
    assert progress_of(run).row == {"step": 20, "losses/loss": 0.25}
    (run / "metrics.jsonl").write_bytes(b"\n".join(LINES[:-1]))
    assert read_last_line(run / "metrics.jsonl") is not None
    assert progress_of(run).step == 15


def test_games_and_evaluations_without_a_score_do_not_count(run):
    games = ['"score": 2.0', '"score": "x"', '"score": null', '"score": 1e999']
    made = ['"scores": [1, 2]', '"scores": ["x"]', '"scores": 5']
    for name, lines in (("episodes", games), ("evaluations", made)):
        text = "".join(f'{{"step": {step}, {line}}}\n' for step, line in enumerate(lines, 1))
        (run / f"{name}.jsonl").write_text(text)
    record = load_run(run)
    assert record.series["train/episode_return"].values.tolist() == [2.0]
    assert [evaluation.scores for evaluation in record.evaluations] == [(1.0, 2.0)]
    games = examine(run).signals.games
    assert games is not None
    assert games.values.tolist() == [2.0]


def test_a_discount_of_one_bounds_no_value(run):
    """1 / (1 - gamma) divided by zero."""
    (run / "config.json").write_text(json.dumps({**CONFIG, "gamma": 1.0, "reward_clip": True}))
    (run / "metrics.jsonl").write_text('{"step": 10, "losses/q_values": 5.0}\n')
    assert "value_divergence" not in [finding.name for finding in examine(run).findings]


CELL = {"run": "a", "arm": "x", "task": "y", "seed": 1, "total": 64, "shape": "z"}


@pytest.mark.parametrize(
    "cell", [5, {}, {**CELL, "run": "../a"}, {**CELL, "run": 5}, {**CELL, "total": "x"}, {**CELL, "arm": None}]
)
def test_the_list_of_a_sweep_names_folders_inside_it(tmp_path, cell):
    (tmp_path / "sweep.json").write_text(json.dumps({"name": "s", "slots": 1, "cells": [cell]}))
    with pytest.raises(UserError, match=r"sweep\.json cannot be read"):
        SweepFolder.open(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"name": "s", "slots": 1, "cells": [CELL]}))
    assert SweepFolder.open(tmp_path).entries[0].run == "a"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"= 1", "not valid TOML"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
    ],
)
def test_a_toml_file_that_cannot_be_used_is_said_in_a_sentence(tmp_path, content, reason):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(UserError, match=f"--config a.toml .*{reason}"):
        read_toml(tmp_path / "a.toml", "--config a.toml")


def test_a_run_lies_in_a_folder_whose_name_is_utf_8(run, tmp_path_factory):
    """safetensors writes to any path, and reads from those alone: the run could not be resumed."""
    folder = tmp_path_factory.mktemp("names") / "\udcff"
    with pytest.raises(UserError, match="a name in UTF-8"):
        RunFolder.check_unused(folder)
    shutil.copytree(run, folder)
    with pytest.raises(UserError, match="a name in UTF-8"):
        RunFolder.open(folder)
    assert RunFolder.open(run).path == run


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("x" * 300, "File name too long"),
        ("d/" * 2100 + "x", "File name too long"),
        ("file/x", "Not a directory"),
        ("folder", "it is a folder"),
        ("/proc/x", "cannot be written"),
        ("/dev/null/x", "Not a directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_known_without_writing(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(UserError, match=reason):
        check_writable(Path(path), "--out")
    for fine in ("new.html", "file", "folder/below/it", "\udcff"):
        check_writable(Path(fine), "--out")
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]


def test_an_object_is_read_with_all_its_digits(tmp_path):
    (tmp_path / "a.json").write_text(f'{{"seed": {2**64 - 1}, "many": {"9" * 400}}}')
    assert read_object(tmp_path / "a.json") == {"seed": 2**64 - 1, "many": float("inf")}
