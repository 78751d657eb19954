"""Code that a run's folder names is imported only for a user who named it on this command line, or said --trust."""

import json
import shutil
from pathlib import Path

import pytest

from stablegrad import api, load_run
from stablegrad.cli import main
from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig
from stablegrad.runs.trust import foreign, named_in
from stablegrad.sweeps.folder import ensure_run

_LINE = "--env_id CartPole-v1 --num_envs 2 --num_steps 8 --num_minibatches 2 --mlp_width 8 --threads 1 --quiet"
SMALL = _LINE.split()
# Imported, it leaves a mark beside itself; what it offers is an environment, and no agent, network or optimizer.
PROGRAM = """
from pathlib import Path
import gymnasium

Path(__file__).with_suffix(".imported").touch()

def Thing():
    return gymnasium.make("CartPole-v1").unwrapped
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "sound"
    assert main(["pqn", *SMALL, "--total_timesteps", "64", "--diagnostics", "off", "--run_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def program(tmp_path: Path, monkeypatch) -> Path:
    """A program, as a file and as a module that can be imported."""
    (tmp_path / "theirs.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "theirs.py"


def edited(sound: Path, folder: Path, **settings: object) -> Path:
    """A copy of a sound run whose config names something else; it was stopped, so that it can be resumed."""
    shutil.copytree(sound, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    (folder / "status.json").write_text('{"state": "stopped", "step": 64}')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


LINES = {
    "eval": ["--episodes", "1"],
    "resume": ["--quiet"],
    "fork": ["--run_dir", "new", "--quiet"],
    "doctor": ["--capacity", "1"],
}


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize(
    "setting", ["algo", "env_id", "cnn_type", "mlp_type", "optimizer", "track", "task_schedule", "module"]
)
def test_code_that_a_run_names_is_not_imported_unasked(sound, program, tmp_path, monkeypatch, capsys, command, setting):
    monkeypatch.chdir(tmp_path)
    name = "theirs:Env-v0" if setting == "module" else f"{program}:Thing"
    value = {"track": [name], "task_schedule": [f"{name}+flip_reward", "CartPole-v1"]}.get(setting, name)
    run = edited(sound, tmp_path / "run", **{"env_id" if setting == "module" else setting: value})
    before = contents(run)
    assert main([command, str(run), *LINES[command]]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run} would import code that is not stablegrad's (--")
    assert error.count("error: ") == 1
    assert name in error
    assert "--trust" in error
    assert not program.with_suffix(".imported").exists()
    assert contents(run) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", LINES)
def test_with_trust_it_is_imported(sound, program, tmp_path, monkeypatch, command):
    """The negative control: the same lines, and what they did without being asked."""
    monkeypatch.chdir(tmp_path)
    run = edited(sound, tmp_path / "run", env_id=f"{program}:Thing", max_episode_steps=20, eval_max_episode_steps=20)
    main([command, str(run), *LINES[command], "--trust"])
    assert program.with_suffix(".imported").exists()


def test_what_only_reads_a_run_s_files_needs_no_trust_and_imports_nothing(sound, program, tmp_path):
    run = edited(sound, tmp_path / "run", algo=f"{program}:Thing", env_id="theirs:Env-v0")
    for line in (["doctor", "--json"], ["watch", "--once"], ["report", "--no_files"]):
        assert main([line[0], str(run), *line[1:]]) == 0
    assert not program.with_suffix(".imported").exists()


def test_code_that_the_command_line_names_is_trusted_and_no_other(sound, program, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.py"
    other.write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    run = edited(sound, tmp_path / "run", env_id=f"{program}:Thing", max_episode_steps=20, eval_max_episode_steps=20)
    fork = ["fork", str(run), "--run_dir", "new", "--total_timesteps", "96", "--quiet"]
    assert main([*fork, "--env_id", f"{other}:Thing"]) == 2
    assert f"{program}:Thing" in capsys.readouterr().err
    assert not program.with_suffix(".imported").exists()
    assert main([*fork, "--env_id=theirs.py:Thing"]) == 0
    assert program.with_suffix(".imported").exists()


def test_from_python_the_same(sound, program, tmp_path):
    run = edited(sound, tmp_path / "run", env_id=f"{program}:Thing", max_episode_steps=20, eval_max_episode_steps=20)
    for asked in (
        lambda: load_run(run).config,
        lambda: load_run(run).agent(),
        lambda: load_run(run).evaluate(episodes=1, seed=1),
        lambda: api.resume(run),
        lambda: api.fork(run, {"learning_rate": 1e-3}, run_dir=tmp_path / "new"),
    ):
        with pytest.raises(UserError, match="trust=True"):
            asked()
    assert not program.with_suffix(".imported").exists()
    assert load_run(run, trust=[f"{program}:Thing"]).evaluate(episodes=1, seed=1).lengths
    assert load_run(run, trust=True).config.env.env_id == f"{program}:Thing"


def test_who_trained_with_code_of_his_own_is_not_asked(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["pqn", *SMALL, "--env_id", "theirs.py:Thing", "--max_episode_steps", "20", "--total_timesteps", "64"]
    assert main([*line, "--run_dir", "run"]) == 0
    assert "stablegrad eval run --trust --episodes 30" in capsys.readouterr().out
    trained = api.train(load_run("run", trust=True).config, run_dir="again")
    assert trained.config.env is not None
    assert trained.agent() is not None


def test_a_sweep_trains_no_folder_that_names_other_code(sound, program, tmp_path):
    """A run's name says nothing about where its files lie: a folder that was put there may name others."""
    config = RunConfig.resolve("pqn", {"env_id": f"{program}:Thing", "total_timesteps": 64})
    path = ensure_run(tmp_path, config)
    assert ensure_run(tmp_path, config) == path
    recorded = json.loads((path / "config.json").read_text())
    other = {"env_id": f"{tmp_path}/elsewhere/theirs.py:Thing"}
    (path / "config.json").write_text(json.dumps({**recorded, **other}))
    with pytest.raises(UserError, match=r"elsewhere/theirs\.py"):
        ensure_run(tmp_path, config)


def test_what_is_ours_and_what_is_not():
    ours = {
        "algo": "pqn", "env_id": "ALE/Breakout-v5", "device": "cuda:1", "track": ["tensorboard"], "seed": 1,
        "task_schedule": ["Breakout-v5+mode:12", "MinAtar/Breakout"], "data_dir": "/data/a.py", "optimizer": None,
    }  # fmt: skip
    assert foreign(ours) == []
    assert foreign({"env_id": "gymnasium.envs:CartPole-v1"}) == []
    assert foreign(
        {"anything": ["x", "a/b.py:C"], "env_id": "m.n:E-v0", "task_schedule": ["a.py:B+permute_obs:1"]}
    ) == [
        ("anything", "a/b.py:C"),
        ("env_id", "m.n:E-v0"),
        ("task_schedule", "a.py:B"),
    ]


def test_what_a_command_line_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["fork", "run", "--env_id=a.py:A", "--mlp_type", "b.py:B", "--track", "c.py:C,tensorboard", "--seed=5"]
    assert {f"{tmp_path.resolve()}/{name}" for name in ("a.py:A", "b.py:B", "c.py:C")} <= named_in(line)
    assert named_in(["fork", "run", "--mlp_type=b.py:B"]) == {f"{tmp_path.resolve()}/b.py:B"}
    assert named_in(["--env_id", "m:E-v0"]) == {"m:E-v0"}
