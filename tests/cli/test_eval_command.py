"""`stablegrad eval`: what it measured is recorded, it ends, and it says how far it is."""

import json
import time
from pathlib import Path

import pytest

from stablegrad import api
from stablegrad.cli import main
from stablegrad.commands import progress
from stablegrad.reports.final import EVALUATION, final_score, score_metric
from stablegrad.reports.load import load_run
from stablegrad.runs import files, records
from stablegrad.runs.folder import RunFolder
from stablegrad.training.loop import Training

_LINE = (
    "pqn --num_envs 2 --num_steps 4 --num_minibatches 2 --mlp_width 8 --mlp_depth 1 --threads 1 --diagnostics off"
    " --total_timesteps 32 --quiet"
)
TINY = _LINE.split()
ENDLESS = f"{Path(__file__).parents[1]}/learning/tiny_envs.py:Still"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    assert main([*TINY, "--env_id", "CartPole-v1", "--run_dir", str(path)]) == 0
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    path = tmp_path / "endless"
    assert main([*TINY, "--env_id", ENDLESS, "--run_dir", str(path)]) == 0
    return path


def test_every_evaluation_is_recorded_and_says_by_what(run: Path, capsys) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "evaluations.jsonl"}
    capsys.readouterr()
    for seed in ("5", "5", "6"):
        assert main(["eval", str(run), "--episodes", "2", "--seed", seed, "--epsilon", "0.25", "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    recorded = api.load_run(run).evaluations
    assert [(line["by"], line["step"], line["seed"], line["epsilon"]) for line in recorded] == [
        ("eval", 32, 5, 0.25),
        ("eval", 32, 5, 0.25),
        ("eval", 32, 6, 0.25),
    ]
    assert [line["scores"] for line in recorded] == [line["scores"] for line in printed]
    assert {path: path.read_bytes() for path in before} == before
    assert main(["eval", str(run), "--episodes", "1", "--no_record"]) == 0
    assert len(api.load_run(run).evaluations) == 3


def test_reports_show_it_and_are_judged_by_it_where_it_was_made_as_configured(run: Path) -> None:
    assert score_metric([load_run(run)]) != EVALUATION
    main(["eval", str(run), "--episodes", "2", "--epsilon", "1.0"])
    main(["eval", str(run), "--episodes", "2", "--max_episode_steps", "1"])
    assert score_metric([load_run(run)]) != EVALUATION, "another epsilon, another cap: shown, but no judge"
    main(["eval", str(run), "--episodes", "3", "--seed", "1"])
    main(["eval", str(run), "--episodes", "1", "--seed", "2"])
    (run_record,) = [load_run(run)]
    assert score_metric([run_record]) == EVALUATION
    of_three = next(made for made in run_record.evaluations if len(made.scores) == 3)
    assert final_score(run_record, EVALUATION) == pytest.approx(sum(of_three.scores) / 3)
    assert main(["report", str(run), "--no_files"]) == 0
    page = (run / "report.html").read_text()
    assert "4 evaluations of whole games" in page
    assert "stablegrad eval" in page


def test_an_evaluation_from_the_middle_of_a_run_does_not_judge_its_end(run: Path) -> None:
    line = {"step": 16, "scores": [1.0], "epsilon": 0.0, "seed": 1, "by": "eval"}
    (run / "evaluations.jsonl").write_text(json.dumps(line) + "\n")
    assert score_metric([load_run(run)]) != EVALUATION
    (run / "evaluations.jsonl").write_text(json.dumps({**line, "by": None}) + "\n")
    assert score_metric([load_run(run)]) == EVALUATION, "the run's own, by --eval_every, does"


def test_a_game_that_never_ends_ends(endless: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["eval", str(endless), "--trust", "--episodes", "3", "--max_episode_steps", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"] == [40.0] * 3
    assert (found["max_episode_steps"], found["capped"]) == (40, 3)
    assert main(["eval", str(endless), "--trust", "--episodes", "3", "--max_episode_steps", "40"]) == 0
    assert "capped: 3 of 3 episodes" in capsys.readouterr().out


def test_the_cap_is_the_protocol_s_or_27_000_steps(endless: Path, run: Path, monkeypatch) -> None:
    monkeypatch.setattr("stablegrad.training.evaluate.MOST_STEPS", 60)
    result = api.load_run(endless, trust=True).evaluate(episodes=2, seed=0)
    assert (result.lengths, result.capped, result.max_episode_steps) == ((60, 60), 2, 60)
    config = json.loads((run / "config.json").read_text())
    files.write_json(run / "config.json", {**config, "eval_max_episode_steps": 3})
    result = api.load_run(run).evaluate(episodes=2, seed=0)
    assert (result.lengths, result.capped) == ((3, 3), 2)


def test_the_published_cap() -> None:
    from stablegrad.training.evaluate import MOST_STEPS

    assert MOST_STEPS == 27_000


def test_a_game_that_ends_by_itself_at_the_cap_is_not_capped(run: Path) -> None:
    plain = api.load_run(run).evaluate(episodes=4, seed=3, epsilon=0.0, record=False)
    longest = max(plain.lengths)
    again = api.load_run(run).evaluate(episodes=4, seed=3, epsilon=0.0, max_episode_steps=longest, record=False)
    assert (again.scores, again.capped) == (plain.scores, 0)


@pytest.mark.parametrize(("terminal", "shown"), [(True, "\revaluation: "), (False, "evaluation: ")])
def test_progress_is_on_standard_error(endless: Path, monkeypatch, capsys, terminal: bool, shown: str) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: 20.0 * next(clock))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: terminal, raising=False)
    capsys.readouterr()
    assert main(["eval", str(endless), "--trust", "--episodes", "2", "--max_episode_steps", "5"]) == 0
    printed = capsys.readouterr()
    assert f"{shown}0 of 2 episodes, 2 steps" in printed.err
    assert "2 of 2 episodes, 10 steps" in printed.err
    assert "evaluation:" not in printed.out


def test_what_cannot_be_recorded_is_said_before_a_game_is_played(
    run: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    (tmp_path / "elsewhere").touch()
    (run / "evaluations.jsonl").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("stablegrad.run.evaluate", lambda *given, **more: pytest.fail("it played"))
    assert main(["eval", str(run)]) == 2
    assert "--no_record" in capsys.readouterr().err


def test_what_cannot_be_recorded_at_the_end_is_shown_all_the_same(run: Path, capsys, monkeypatch) -> None:
    def full(lines: records.SharedLines, record: dict) -> None:
        raise files.DiskError(lines.path, "written", OSError(28, "No space left on device"))

    monkeypatch.setattr(records.SharedLines, "write", full)
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "2"]) == 1
    printed = capsys.readouterr()
    assert "mean: " in printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert line.endswith("evaluations.jsonl cannot be written: the disk is full: the evaluation is not recorded")


def test_an_evaluation_beside_the_training_disturbs_neither(tmp_path: Path) -> None:
    """The training's own lines and cursor go on around the line that was added while it ran."""
    from stablegrad.training.contract import StopAfter, differences

    settings = {"algo": "pqn", "env_id": "CartPole-v1", "num_envs": 2, "num_steps": 4, "num_minibatches": 2,
                "mlp_width": 8, "mlp_depth": 1, "threads": 1, "diagnostics": "off", "total_timesteps": 64,
                "eval_every": 16, "eval_episodes": 1, "eval_max_episode_steps": 5, "checkpoint_every": 16}  # fmt: skip
    whole = api.train(settings, run_dir=tmp_path / "whole")
    folder = RunFolder.create(tmp_path / "run", whole.config)
    for stop in (StopAfter(20), StopAfter(None)):  # 40 steps, then the rest
        training = Training(whole.config)
        training.attach(folder)
        training.run(stop)
        training.close()
        api.load_run(folder.path).evaluate(episodes=1, seed=9)
    own = [line for line in files.read_lines(folder.evaluations) if "by" not in line]
    assert own == whole.evaluations
    made = [line["step"] for line in files.read_lines(folder.evaluations) if line.get("by") == "eval"]
    assert made == [40, 64]
    one, other = (api.load_run(path).state()["agent"] for path in (whole.path, folder.path))
    assert list(differences(one, other, "")) == []


def test_images_are_judged_and_recorded_too(tmp_path: Path, capsys) -> None:
    command = "cifar --dataset digits --subset 200 --batch_size 100 --epochs 1 --mlp_width 8 --mlp_depth 1 --quiet"
    assert main([*command.split(), "--run_dir", str(tmp_path / "run"), "--threads", "1"]) == 0
    capsys.readouterr()
    started = time.time()
    assert main(["eval", str(tmp_path / "run"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (line,) = api.load_run(tmp_path / "run").evaluations
    assert (line["by"], line["step"]) == ("eval", 2)
    assert line["time"] >= started
    assert line["eval/accuracy"] == printed["eval/accuracy"]
