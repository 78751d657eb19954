"""The library as a notebook uses it: every name is there, and each call gives what the command line gives."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_runs import DQN, PPO, PQN, SMALL

import stablegrad as sg
from stablegrad import registry
from stablegrad.runs.rows import Rows

DQN, PPO, PQN = ({**SMALL, **settings} for settings in (DQN, PPO, PQN))


class Corridor(gymnasium.Env):
    """Right is the way; actions are 3 and 4, observations a Dict."""

    observation_space = spaces.Dict({"place": spaces.Box(0, 1, (1,), np.float32), "size": spaces.Discrete(3)})
    action_space = spaces.Discrete(2, start=3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0
        return self._look(), {}

    def step(self, action):
        assert action in (3, 4)
        self.place = min(1.0, max(0.0, self.place + (0.25 if action == 4 else -0.25)))
        return self._look(), float(self.place == 1), self.place == 1, False, {}

    def _look(self):
        return {"place": np.array([self.place], np.float32), "size": 1}


KEPT = {**PQN, "checkpoint_every": 256, "keep_checkpoints": 9}


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return sg.train("pqn", "CartPole-v1", **{**KEPT, "total_timesteps": 1e3})


def test_the_call_of_the_readme_trains_and_its_older_form_gives_the_same_run(small):
    assert small.status["state"] == "done"
    values = {"algo": "pqn", "env_id": "CartPole-v1", **KEPT, "total_timesteps": 1000}
    older = sg.train(values, run_dir="older")
    assert older.config == small.config
    assert older.episodes == small.episodes


def test_rows_are_records_and_columns(small):
    rows = small.metrics
    assert rows[0]["step"] == rows["step"][0]
    assert rows["step"].dtype == np.float64
    assert len(rows["step"]) == len(rows) > 1
    assert small.scores["score"].tolist() == [episode["score"] for episode in small.episodes]
    assert rows[1:].columns
    with pytest.raises(KeyError, match="no record has 'nothing'; there are step"):
        rows["nothing"]
    mixed = Rows([{"a": 1, "b": [1, 2]}, {"a": None, "b": None}, {"c": "text"}])
    assert np.isnan(mixed["a"]).tolist() == [False, True, True]
    assert mixed["b"].tolist() == [[1, 2], None, None]
    pandas = pytest.importorskip("pandas")
    assert isinstance(rows.to_pandas(), pandas.DataFrame)


def test_a_run_draws_reports_examines_and_evaluates_itself(small):
    axes = small.plot()
    assert axes.get_xlabel() == "agent steps"
    assert small.plot("losses/loss", ax=axes) is axes
    assert small.report().read_text().rstrip().endswith("</html>")
    assert repr(small) == f"<Run {small.path}: pqn CartPole-v1, done at step 1,000>"
    finding = small.doctor()
    assert repr(finding) == str(finding)
    assert all(each.illness.title in str(finding) for each in finding.findings)
    assert len(small.evaluate(3).scores) == 3
    assert [record["by"] for record in small.evaluations] == ["eval"]


def test_a_fork_by_share_starts_at_the_newest_checkpoint_before(small, caplog):
    forked = sg.fork(small, at=0.6, learning_rate=1e-4)
    assert forked.path.name == f"{small.path.name}-fork-1"
    assert "forked at step 5" in caplog.text
    assert forked.config.optimizer.learning_rate == 1e-4
    assert forked.status["state"] == "done"
    assert sg.fork(small, at=1.0, total_timesteps=1100).path.name.endswith("-fork-2")
    with pytest.raises(sg.UserError, match="a share of the run is between"):
        sg.fork(small, at=1.5)
    few = sg.train("pqn", "CartPole-v1", **{**KEPT, "keep_checkpoints": 1, "seed": 2}, total_timesteps=512)
    with pytest.raises(sg.UserError, match="no checkpoint at step 3 or before; it has 512"):
        sg.fork(few, at=3)


def test_functions_are_observers_and_what_is_neither_is_an_error(tmp_path):
    seen = []
    sg.train("pqn", "CartPole-v1", run_dir=tmp_path / "run", observers=[seen.append], **PQN, total_timesteps=256)
    assert [row["step"] for row in seen] == sg.load_run(tmp_path / "run").metrics["step"].tolist()
    with pytest.raises(sg.UserError, match="an observer is a function of a row"):
        sg.train("pqn", "CartPole-v1", run_dir=tmp_path / "other", observers=[3], **PQN)  # type: ignore[list-item]
    assert not (tmp_path / "other").exists()


def test_an_environment_may_be_a_class_and_is_named_by_its_file(tmp_path):
    run = sg.train("dqn", Corridor, run_dir=tmp_path / "run", **DQN, total_timesteps=256)
    assert run.config.env.env_id == f"{Path(__file__).resolve()}:Corridor"
    assert sg.load_run(run.path).evaluate(2).scores, "whoever gave the class has run its code already"


def test_a_class_that_no_file_has_is_asked_for_when_its_session_is_over(tmp_path, monkeypatch):
    class Hidden(Corridor):
        pass

    run = sg.train("dqn", Hidden, run_dir=tmp_path / "run", **DQN, total_timesteps=256)
    name = run.config.env.env_id
    assert name.endswith("python_session.py:Hidden")
    monkeypatch.setattr(registry, "_given", {})
    with pytest.raises(sg.UserError, match="code that is not stablegrad's"):
        sg.load_run(run.path).agent()
    with pytest.raises(sg.UserError, match="'Hidden' was given as an object of a Python session that is over"):
        sg.load_run(run.path, trust=True).agent()
    sg.resume(run.path, env=Hidden)
    assert sg.load_run(run.path).agent()


def test_a_policy_acts_on_the_environment_s_own_observations(tmp_path):
    run = sg.train("dqn", Corridor, run_dir=tmp_path / "run", **DQN, total_timesteps=512)
    policy, env = run.policy(), Corridor()
    obs, _ = env.reset()
    one = policy.predict(obs)
    assert one in (3, 4)
    assert policy.predict([obs, obs]).tolist() == [one, one]
    drawn = {policy.predict(obs, deterministic=False, seed=seed) for seed in range(3)}
    assert drawn <= {3, 4}
    with pytest.raises(sg.UserError, match="place"):
        policy.predict({"place": np.array([0.5, 0.5], np.float32), "size": 1})


def test_a_policy_normalises_as_training_did_and_changes_nothing(tmp_path):
    run = sg.train("ppo", "Pendulum-v1", run_dir=tmp_path / "run", **PPO, total_timesteps=512)
    policy, obs = run.policy(), np.array([[1.0, 0.0, 5.0], [0.5, 0.5, -3.0]], np.float32)
    twice = [policy.predict(obs) for _ in range(2)]
    assert (twice[0] == twice[1]).all()
    expected = policy.agent.evaluate(obs, epsilon=0.0, generator=torch.Generator())
    np.testing.assert_array_equal(twice[0], expected)
    assert (policy.predict(obs, deterministic=False, seed=1) == policy.predict(obs, deterministic=False, seed=1)).all()
    assert (policy.predict(obs, deterministic=False, seed=1) != twice[0]).any()
    assert policy.predict(obs[0]).shape == (1,)


def test_the_likeliest_of_a_discrete_policy_is_not_drawn(tmp_path):
    run = sg.train("ppo", "CartPole-v1", run_dir=tmp_path / "run", **PPO, total_timesteps=256)
    policy, obs = run.policy(), np.zeros((64, 4), np.float32)
    assert len(set(policy.predict(obs).tolist())) == 1
    assert len(set(policy.predict(obs, deterministic=False, seed=0).tolist())) == 2, "64 draws of a young policy"


def test_a_sweep_returns_its_runs(tmp_path):
    file = tmp_path / "two.toml"
    settings = "\n".join(f"{name} = {value}" for name, value in PQN.items())
    task = 'algo = "pqn"\nenv_id = "CartPole-v1"\ntotal_timesteps = 256'
    file.write_text(f'name = "two"\nseeds = [1, 2]\n[settings]\n{task}\n{settings}\n')
    runs = sg.sweep(file, out=tmp_path / "runs", slots=2)
    assert [(run.config.run.seed, run.status["state"]) for run in runs] == [(1, "done"), (2, "done")]


def test_a_sweep_that_cannot_be_is_refused_before_work(tmp_path):
    file = tmp_path / "large.toml"
    file.write_text('name = "large"\n[settings]\nalgo = "pqn"\nenv_id = "CartPole-v1"\nmlp_width = 9000000\n')
    with pytest.raises(sg.UserError, match="mlp_width"):
        sg.sweep(file, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_environment_is_given_to_a_run_that_has_one_of_ones_own(small):
    with pytest.raises(sg.UserError, match=r"no environment of your own to be given \(CartPole-v1\)"):
        sg.resume(small.path, env=Corridor)


def test_every_name_is_there_for_completion_and_importing_takes_no_torch():
    for name in ("train", "resume", "fork", "sweep", "load_run", "Kron", "diagnose", "build_network", "UserError"):
        assert name in dir(sg)
        assert getattr(sg, name).__doc__
    code = "import sys, stablegrad; dir(stablegrad); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    with pytest.raises(AttributeError):
        sg.nothing  # noqa: B018
