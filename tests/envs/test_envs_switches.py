"""Atari with its switches set, against the vector environment that has none."""

import numpy as np
import pytest

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.atari import AtariSimulator
from stablegrad.envs.atari_switches import SwitchedAtari
from stablegrad.envs.base import episode_seed
from stablegrad.envs.contract import violations
from stablegrad.envs.schedule import parse_task
from stablegrad.errors import UserError
from stablegrad.tables.scores import normaliser

EXACT = {"protocol": "machado2018", "repeat_action_probability": 0.0}


def first_of(simulator, seed=5):
    obs, lives = np.zeros((1, 4, 84, 84), np.uint8), np.zeros(1, np.int64)
    simulator.begin(np.array([0]), np.array([seed]), obs, lives)
    return obs, lives


@pytest.mark.parametrize("game", ["Breakout-v5", "Freeway-v5"])
def test_in_the_ordinary_mode_it_plays_what_the_vector_environment_plays(game):
    spec = EnvSpec.resolve({"env_id": game, **EXACT})
    ours = SwitchedAtari(spec, parse_task(f"{game}+mode:0+difficulty:0"), num_envs=1)
    theirs = AtariSimulator(spec, num_envs=1, num_threads=1)
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    (a, left), (b, others_left) = first_of(ours), first_of(theirs)
    assert (left == others_left).all()
    for action in np.random.default_rng(0).integers(0, 18, 150):
        assert np.abs(a.astype(int) - b).max() <= 1  # grey levels
        one, other = (simulator.step(np.array([action])) for simulator in (ours, theirs))
        assert (one.reward, one.lives, one.terminated) == (other.reward, other.lives, other.terminated)
        if one.terminated.any():
            break
        a, b = one.obs, other.obs


def test_another_mode_is_another_game():
    spec = EnvSpec.resolve({"env_id": "Breakout-v5", **EXACT})
    obs = [first_of(SwitchedAtari(spec, parse_task(f"Breakout-v5+mode:{m}"), num_envs=1))[0] for m in (0, 12)]
    assert (obs[0] != obs[1]).any()


def test_one_game_takes_its_switches_without_a_schedule():
    values = {"env_id": "Breakout-v5", **EXACT}
    seen = {}
    for name, switches in {"none": {}, "zero": {"mode": 0, "difficulty": 0}, "twelve": {"mode": 12}}.items():
        env = make(EnvSpec.resolve({**values, **switches}), num_envs=1, seed=1)
        seen[name] = np.stack([env.step(np.array([t % 18])).obs for t in range(12)]).astype(int)
        env.close()
    assert np.abs(seen["none"] - seen["zero"]).max() <= 1  # grey levels
    assert np.abs(seen["none"] - seen["twelve"]).max() > 50
    spec = EnvSpec.resolve({**values, "mode": 12, "difficulty": 1})
    assert spec.game == "Breakout-v5+mode:12+difficulty:1"
    assert normaliser(spec.game) is None  # the human played mode 0
    assert normaliser(EnvSpec.resolve(values).game) is not None
    schedule = EnvSpec.resolve({**EXACT, "task_schedule": ["Breakout-v5+mode:12", "Breakout-v5"]})
    scheduled = make(schedule.scheduled_over(1000), num_envs=1, seed=1, task=0)
    alone = make(EnvSpec.resolve({**values, "mode": 12}), num_envs=1, seed=episode_seed(1, 0, 0))
    assert np.array_equal(scheduled.obs, alone.obs)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mode": 3}, "--mode 3: Breakout-v5 has no mode 3, but 0, 4, 8"),
        ({"difficulty": 9}, "--difficulty 9: Breakout-v5 has no difficulty 9, but 0, 1"),
        ({"mode": -1}, "--mode -1: must be at least 0"),
        ({"env_id": "MinAtar/Breakout", "mode": 0}, "--mode does not apply to MinAtar/Breakout"),
        ({"env_id": "CartPole-v1", "difficulty": 1}, "--difficulty does not apply to CartPole-v1"),
        (
            {"mode": 4, "task_schedule": ["Breakout-v5", "Breakout-v5+mode:4"]},
            r"--mode 4: say it in the tasks of --task_schedule \(Breakout-v5\+mode:4\)",
        ),
    ],
)
def test_switches_that_do_not_fit_are_an_error_that_names_the_flag(values, said):
    with pytest.raises(UserError, match=said):
        make(EnvSpec.resolve({"env_id": "Breakout-v5", **values}), num_envs=1, seed=1)


def test_no_promise_is_broken(monkeypatch):
    monkeypatch.setattr("stablegrad.envs.atari_switches.SwitchedAtari.session_steps", 25)
    values = {"task_schedule": ["Breakout-v5+mode:4", "Breakout-v5+difficulty:1"], "max_episode_steps": 20,
              "repeat_action_probability": 0.25}  # fmt: skip

    def build(*, num_envs, seed, num_threads):
        spec = EnvSpec.resolve({**values, "change_points": (30 * num_envs,)})
        return make(spec, num_envs=num_envs, seed=seed, num_threads=num_threads)

    assert violations(build, num_envs=2, steps=50) == []
