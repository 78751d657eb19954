"""Runs survive an upgrade: half-done runs of every earlier version go on as they began.

`version_1` was made by the last version before settings could be added (commit dcdaad1): one run for each agent, on
small networks, stopped half-way, and the names that it gave to ten configs. Before settings.VERSION goes up again,
the version that ends adds a folder of its own; none is ever made a second time.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from stablegrad import api
from stablegrad.commands.doctor import main as doctor
from stablegrad.commands.report import main as report
from stablegrad.envs import make
from stablegrad.runs.config import RunConfig

HERE = Path(__file__).parent
ARCHIVES = sorted(HERE.glob("version_*/*.tar.xz"))
NAMES = [named for file in sorted(HERE.glob("version_*/names.json")) for named in json.loads(file.read_text())]


def unpacked(archive, folder):
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.xz")


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_a_run_of_an_earlier_version_goes_on(archive, tmp_path):
    path = unpacked(archive, tmp_path)
    recorded = json.loads((path / "config.json").read_text())
    flat = api.load_run(path).config.flat()
    assert {name: flat[name] for name in recorded} == recorded
    metrics = (path / "metrics.jsonl").read_bytes()

    run = api.resume(path)

    assert run.status["state"] == "done"
    assert (path / "metrics.jsonl").read_bytes().startswith(metrics)
    total = 40 if run.config.env is None else run.config.budget.total_timesteps
    assert run.metrics[-1]["step"] == run.status["step"] >= total > json.loads(metrics.splitlines()[-1])["step"]
    if run.config.env is None:
        assert 0 <= run.classifier().evaluate()["train/accuracy"] <= 1
    else:
        task = 1 if run.config.env.task_schedule else None
        assert len(run.evaluate(episodes=2, seed=3, epsilon=1.0, task=task).scores) == 2


def test_an_atari_run_of_before_plays_on_without_fire(tmp_path):
    archive = next(archive for archive in ARCHIVES if archive.name.startswith("pqn-atari"))
    run = api.load_run(unpacked(archive, tmp_path))
    envs = make(run.config.env, num_envs=2, seed=1)
    envs.load_state_dict(run.state()["envs"])
    rng = np.random.default_rng(0)
    steps = [envs.step(rng.integers(0, 4, 2)) for _ in range(200)]
    envs.close()
    assert sum(int(step.life_lost.sum()) for step in steps) >= 4
    assert all(step.chosen.all() for step in steps)


def test_runs_of_earlier_versions_are_examined_and_reported(tmp_path, capsys):
    paths = [unpacked(archive, tmp_path / archive.parent.name) for archive in ARCHIVES]
    assert all(doctor([str(path)]) == 0 for path in paths)
    of_atari = next(path for path in paths if path.name == "pqn-atari")
    assert report([str(of_atari)]) == 0
    assert (of_atari / "report.html").stat().st_size > 10_000


def test_a_run_of_before_reads_images_as_it_did_and_new_runs_keep_the_names():
    of_cartpole = next(named for named in NAMES if "CartPole" in named["name"])
    before, now = RunConfig.from_flat(of_cartpole["recorded"]), api.resolve(of_cartpole["asked"])
    assert (before.env.image_layout, now.env.image_layout) == ("shorter", "auto")
    assert before.name == now.name == of_cartpole["name"]
    assert api.resolve({**of_cartpole["asked"], "image_layout": "flat"}).name != now.name


@pytest.mark.parametrize("named", NAMES, ids=lambda named: named["name"])
def test_what_a_config_was_called_it_is_called_for_ever(named):
    assert RunConfig.from_flat(named["recorded"]).name == named["name"]


def test_a_recorded_config_means_what_held_before_a_setting_existed():
    breakout = next(named for named in NAMES if named["name"].startswith("pqn-Breakout-v5"))
    assert "fire_after_life" not in breakout["recorded"]
    before, now = RunConfig.from_flat(breakout["recorded"]), api.resolve(breakout["asked"])
    assert (before.env.fire_after_life, now.env.fire_after_life) == (False, True)
    assert before.name != now.name
