"""Atari with its switches set, against the vector environment that has none."""

import numpy as np
import pytest

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.atari import AtariSimulator
from stablegrad.envs.atari_switches import SwitchedAtari
from stablegrad.envs.contract import violations
from stablegrad.envs.schedule import parse_task

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


def test_no_promise_is_broken(monkeypatch):
    monkeypatch.setattr("stablegrad.envs.atari_switches.SwitchedAtari.session_steps", 25)
    values = {"task_schedule": ["Breakout-v5+mode:4", "Breakout-v5+difficulty:1"], "max_episode_steps": 20,
              "repeat_action_probability": 0.25}  # fmt: skip

    def build(*, num_envs, seed, num_threads):
        spec = EnvSpec.resolve({**values, "change_points": (30 * num_envs,)})
        return make(spec, num_envs=num_envs, seed=seed, num_threads=num_threads)

    assert violations(build, num_envs=2, steps=50) == []
