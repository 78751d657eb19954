"""`stablegrad doctor` and `stablegrad watch`: the page, the JSON, the comparison, exit codes."""

import json
import threading
import time

import pytest
from doctor_streams import ILLNESSES, Stream

from stablegrad import cli
from stablegrad.doctor import compare


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def sick(tmp_path, *names):
    stream = Stream()
    for name in names:
        ILLNESSES[name](stream)
    return stream.write(tmp_path)


def test_the_page_says_what_since_when_and_what_to_try(tmp_path, capsys):
    assert cli.main(["doctor", str(sick(tmp_path / "run", "rank_collapse"))]) == 0
    page = capsys.readouterr().out
    assert "Rank collapse" in page
    assert "since step 21,000" in page
    assert "--use_ln true" in page
    assert "the literature: Lyle et al., 2023" in page
    assert "effective rank" in page
    assert "▁" in page


def test_a_report_of_one_run_keeps_the_findings_and_one_of_several_has_none(tmp_path):
    run, page = sick(tmp_path / "run", "rank_collapse"), tmp_path / "page.html"
    sick(tmp_path / "other")
    for runs, shown in (([run], True), ([run, tmp_path / "other"], False)):
        assert cli.main(["report", *map(str, runs), "--out", str(page), "--no_files"]) == 0
        assert ("What the doctor found" in page.read_text()) is shown


def test_the_page_of_a_healthy_run(tmp_path, capsys):
    assert cli.main(["doctor", str(sick(tmp_path))]) == 0
    assert "Nothing is wrong" in capsys.readouterr().out


def test_it_says_what_it_could_not_look_for(tmp_path, capsys):
    stream = Stream()
    del stream.columns["churn/value"]
    assert cli.main(["doctor", str(stream.write(tmp_path))]) == 0
    assert "--diagnostics full): churn spikes" in capsys.readouterr().out


def test_json_is_json_even_of_a_run_with_nan(tmp_path, capsys):
    stream = Stream()
    ILLNESSES["failed"](stream)
    ILLNESSES["dead_units"](stream)
    assert cli.main(["doctor", "--json", str(stream.write(tmp_path))]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert record["healthy"] is False
    assert [finding["id"] for finding in record["findings"]] == ["failed", "dead_units"]
    finding = record["findings"][1]
    assert finding["name"] == "Dead units"
    assert finding["since"] == 21_000
    assert finding["severity"] == "warning"
    assert finding["remedies"][0]["flags"] == "--use_ln true"
    assert len(finding["picture"]["steps"]) == len(finding["picture"]["values"]) == 60


def test_two_runs_side_by_side(tmp_path, capsys):
    healthy = Stream()
    healthy.config["use_ln"] = True
    first, second = sick(tmp_path / "plain", "rank_collapse"), healthy.write(tmp_path / "normed")
    assert cli.main(["doctor", str(first), str(second)]) == 0
    page = capsys.readouterr().out
    assert "use_ln" in page
    assert "Only plain: rank collapse." in page
    comparison = compare(first, second)
    assert comparison.settings == {"use_ln": (False, True)}
    assert comparison.only == (("rank_collapse",), ())
    low, high = comparison.figures["effective rank"]
    assert low < 4 < 15 < high


def test_runs_that_differ_in_their_seed_alone(tmp_path, capsys):
    first, second = sick(tmp_path / "a"), sick(tmp_path / "b")
    assert cli.main(["doctor", str(first), str(second)]) == 0
    page = capsys.readouterr().out
    assert "nothing but the seed" in page
    assert "says the same of both" in page


@pytest.mark.parametrize("command", ["doctor", "watch"])
def test_no_such_run_is_a_usage_error(tmp_path, capsys, command):
    assert cli.main([command, str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_watch_once(tmp_path, capsys):
    assert cli.main(["watch", "--once", str(sick(tmp_path, "dead_units"))]) == 0
    shown = capsys.readouterr().out
    assert "step 60,000 of 60,000 (100%)" in shown
    assert "effective rank" in shown
    assert "gradient by layer" in shown
    assert "warning: dead units." in shown


def test_watch_follows_a_run_to_its_end(tmp_path, capsys):
    stream = Stream()
    stream.status = {"state": "running", "step": 60_000}
    path = stream.write(tmp_path)

    def finish():
        time.sleep(0.3)
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 61000, "train/episode_return": 123.0, "train/episodes": 1}\n')
        (path / "status.json").write_text('{"state": "done", "step": 61000}')

    end = threading.Thread(target=finish)
    end.start()
    assert cli.main(["watch", "--every", "0.1", str(path)]) == 0
    end.join()
    shown = capsys.readouterr().out
    assert "done" in shown
    assert "123" in shown


def test_watch_leaves_a_run_that_nobody_trains(tmp_path, capsys):
    stream = Stream()
    stream.status = {"state": "running", "step": 60_000}
    path = stream.write(tmp_path)
    (path / "lock").touch()
    assert cli.main(["watch", "--every", "0.1", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "stopped" in shown
    assert "Nobody trains it: its process is gone" in " ".join(shown.split())
    assert f"stablegradresume{path}" in "".join(shown.split()), "on however many lines"
