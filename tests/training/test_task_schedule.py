"""Runs over a schedule of games: bits across change points, what belongs to which task, fresh networks, evaluation."""

import dataclasses
from pathlib import Path

import pytest
import torch
from small_runs import DQN, PPO, PQN, RAINBOW, SMALL, assert_identical

from stablegrad import api
from stablegrad.cli import main
from stablegrad.errors import UserError
from stablegrad.replay import memory
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import read_lines
from stablegrad.training.loop import RunFailed, Training

CYCLE = {"task_schedule": ["MinAtar/Breakout", "MinAtar/Asterix+flip_reward", "MinAtar/Breakout"],
         "change_points": [100, 220], "max_episode_steps": 9}  # fmt: skip
AGENTS = {"pqn": PQN, "ppo": PPO, "dqn": DQN, "rainbow": RAINBOW}


@pytest.mark.parametrize("algo", AGENTS)
def test_stopped_on_either_side_of_a_change_and_resumed_is_bit_identical(run, algo):
    settings = {**AGENTS[algo], **CYCLE, "total_timesteps": 320, "fresh_networks": algo == "dqn"}
    whole = run(algo, settings, name="whole")
    pieces = run(algo, settings, stops=(24, 1, 1, 30, 2), name="pieces")  # 25 vector steps are the first task
    assert_identical(whole, pieces)
    assert list(read_lines(whole.episodes)) == list(read_lines(pieces.episodes))


def test_every_game_and_row_says_which_task_it_belongs_to_and_what_was_cut_is_no_game(run):
    folder = run("pqn", {**PQN, **CYCLE, "total_timesteps": 320, "eval_every": 80, "eval_episodes": 2})
    ends = [(line["step"], line["task"]) for line in read_lines(folder.episodes)]
    assert {task for _, task in ends} == {1, 2, 3}
    assert all(task == 1 + (step > 100) + (step > 220) for step, task in ends)
    # A time limit of 9 ends games at most at every ninth step, and 25 steps of a task leave some unfinished.
    assert all(line["length"] <= 9 for line in read_lines(folder.episodes))
    assert sum(line["length"] for line in read_lines(folder.episodes) if line["task"] == 1) < 100
    rows = {(row["step"], row["train/task"]) for row in folder.rows()}
    assert rows == {
        (64, 1),
        (100, 1),
        (128, 2),
        (192, 2),
        (220, 2),
        (256, 3),
        (320, 3),
    }
    assert [(line["step"], line["task"]) for line in read_lines(folder.evaluations)] == [
        (80, 1), (160, 2), (240, 3), (320, 3)]  # fmt: skip


def odd(name: str) -> str:
    return f"{Path(__file__).parent}/odd_agents.py:{name}"


@pytest.mark.parametrize("algo", ["dqn", odd("KeepsADict")])
def test_fresh_networks_begin_every_task_with_weights_that_no_task_has_changed(algo):
    config = RunConfig.resolve(algo, {**SMALL, **DQN, **CYCLE, "total_timesteps": 320, "fresh_networks": True})
    training = Training(config)
    network = {name: value.clone() for name, value in training.agent.network.state_dict().items()}
    training.step = 100
    for state in (network, training.agent.target.state_dict()):
        for value in state.values():
            value.fill_(7.0)
    training.agent.network.load_state_dict(network)
    before = training.learner.optimizers["q"]
    training._start_afresh()
    online, target = training.agent.network.state_dict(), training.agent.target.state_dict()
    assert all((value != 7.0).all() and torch.equal(value, target[name]) for name, value in online.items())
    assert training.learner.optimizers["q"] is not before
    again = {name: value.clone() for name, value in online.items()}
    training._start_afresh()
    assert all(torch.equal(again[name], value) for name, value in training.agent.network.state_dict().items())
    training.close()


def test_a_network_that_a_new_agent_does_not_have_is_no_fresh_one(run):
    with pytest.raises(RunFailed, match=r"--fresh_networks: late of .*BuildsLate cannot be renewed"):
        run(odd("BuildsLate"), {**DQN, **CYCLE, "total_timesteps": 320, "fresh_networks": True})


def test_fresh_networks_ask_for_no_second_replay(monkeypatch):
    config = RunConfig.resolve("dqn", {**SMALL, **DQN, **CYCLE, "total_timesteps": 320, "fresh_networks": True})
    training = Training(config)
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    training.step = 100
    training._start_afresh()
    training.close()


@pytest.mark.parametrize(("fresh", "due"), [(True, [100, 220]), (False, [])])
def test_fresh_networks_come_at_the_changes_and_only_where_asked_for(run, monkeypatch, fresh, due):
    seen = []
    monkeypatch.setattr(Training, "_start_afresh", lambda self: seen.append(self.step))
    run("pqn", {**PQN, **CYCLE, "total_timesteps": 320, "fresh_networks": fresh})
    assert seen == due


def test_a_run_is_evaluated_on_each_task_or_on_one(run, capsys):
    folder = run("pqn", {**PQN, **CYCLE, "total_timesteps": 128, "change_points": [32, 64]})
    assert main(["eval", str(folder.path), "--episodes", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("mean: ") == 2
    assert "task: 1\ngame: MinAtar/Breakout\n" in printed
    assert "task: 2\ngame: MinAtar/Asterix+flip_reward\n" in printed
    assert main(["eval", str(folder.path), "--episodes", "2", "--task", "3", "--json"]) == 0
    assert '"task": 3, "game": "MinAtar/Breakout"' in capsys.readouterr().out
    assert main(["eval", str(folder.path), "--task", "4"]) == 2
    assert "has the tasks 1 to 3" in capsys.readouterr().err
    assert api.load_run(folder.path).evaluate(episodes=2, seed=0) == api.load_run(folder.path).evaluate(
        episodes=2, seed=0, task=3
    )


def test_a_run_without_a_schedule_has_no_tasks(run):
    folder = run("pqn", {**PQN, "env_id": "CartPole-v1", "total_timesteps": 64})
    with pytest.raises(UserError, match="has no schedule"):
        api.load_run(folder.path).evaluate(episodes=1, seed=0, task=1)
    assert all("task" not in line for line in read_lines(folder.episodes))
    assert all("train/task" not in row for row in folder.rows())


def test_the_schedule_is_part_of_what_a_run_is():
    one = RunConfig.resolve("pqn", {**PQN, **CYCLE, "total_timesteps": 320})
    assert one.env.env_id == "MinAtar/Breakout"
    assert RunConfig.from_flat(one.flat()) == one
    other = dataclasses.replace(one, env=dataclasses.replace(one.env, change_points=(100, 224)))
    assert one.identity != other.identity
