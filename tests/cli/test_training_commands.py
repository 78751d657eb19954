"""Training from the command line, to the end: what is printed, and the page beside the run."""

import json
import re

import pytest

from stablegrad.cli import main
from stablegrad.commands.train import _diagnostics_share

_LINE = "--env_id CartPole-v1 --num_envs 4 --num_steps 8 --num_minibatches 2 --mlp_width 16 --threads 1"
SMALL = _LINE.split()


def test_a_run_ends_with_a_summary_and_a_page(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["pqn", *SMALL, "--total_timesteps", "512", "--run_dir", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "done: 512 steps" in printed
    assert re.search(r"diagnostics took \d+\.\d% of the time", printed)
    assert f"stablegrad eval {folder}" in printed
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    assert main(["eval", str(folder), "--episodes", "3", "--seed", "5"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert {"mean", "standard_error", "median", "min", "max"} <= lines.keys()
    assert float(lines["min"]) <= float(lines["mean"]) <= float(lines["max"])


def test_the_doctor_s_findings_stand_on_the_page_of_a_sick_run(tmp_path, capsys):
    """A learning rate of 30 makes values explode: the doctor has something to say, and the page says it."""
    folder = tmp_path / "sick"
    sick = ["--optimizer", "adam", "--learning_rate", "30", "--log_every", "64", "--total_timesteps", "4096"]
    assert main(["pqn", *SMALL, *sick, "--run_dir", str(folder)]) == 0
    capsys.readouterr()
    assert main(["doctor", str(folder), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings
    assert findings[0]["name"] in (folder / "report.html").read_text(encoding="utf-8")


def test_the_share_of_diagnostics_counts_each_row_by_its_time():
    """A row's share is of the time since the row before: half of 2 s and a tenth of the next 8 s are 1.8 of 10 s."""
    rows = [{"seconds": 2.0, "time/diagnostics_share": 0.5}, {"seconds": 10.0, "time/diagnostics_share": 0.1}]
    assert _diagnostics_share(rows) == pytest.approx(0.18)
    assert _diagnostics_share([]) == 0.0
