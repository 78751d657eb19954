"""EnvPool behind the same contract; skipped where the extra is not installed."""

from functools import partial

import numpy as np
import pytest

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.contract import violations

pytestmark = pytest.mark.needs("EnvPool")

SPEC = {"env_id": "breakout", "env_backend": "envpool", "max_episode_steps": 170}


def test_no_promise_is_broken():
    assert violations(partial(make, EnvSpec.resolve(SPEC)), num_envs=2, steps=250) == []


def test_no_row_is_made_up():
    """Behind an end, the first observation of the next game is there, and the next action counts."""
    env = make(EnvSpec.resolve({**SPEC, "max_episode_steps": 5, "noop_max": 1}), num_envs=2, seed=1)
    first = env.obs.copy()
    lengths = []
    for _ in range(15):
        step = env.step(np.array([2, 3]))
        lengths += [end.length for end in step.episodes]
        if step.ended.any():
            assert np.array_equal(step.obs, first)
            assert not np.array_equal(step.final_obs, first)
    env.close()
    assert lengths == [5] * 6


def test_lives_are_lost_while_the_game_plays_on():
    env = make(EnvSpec.resolve(SPEC), num_envs=1, seed=1)
    rng = np.random.default_rng(0)
    steps = [env.step(rng.integers(0, 4, 1)) for _ in range(170)]
    env.close()
    assert any(step.life_lost[0] and not step.terminated[0] for step in steps)


def test_it_says_that_it_cannot_resume_exactly():
    env = make(EnvSpec.resolve(SPEC), num_envs=2, seed=1)
    assert env.exact_resume is False
    for _ in range(3):
        env.step(np.array([2, 3]))
    env.load_state_dict(env.state_dict())
    assert env.step(np.array([0, 0])).episodes == ()
    env.close()


def test_fire_is_pressed_after_a_lost_life():
    """A policy that only moves to the left loses the ball, and does not wait for it for ever."""

    def lives_lost(**values):
        env = make(EnvSpec.resolve({**SPEC, "max_episode_steps": 400, **values}), num_envs=1, seed=1)
        steps = [env.step(np.array([3])) for _ in range(399)]
        env.close()
        return sum(int(step.life_lost[0]) for step in steps), sum(int(step.pressed[0] == 1) for step in steps)

    lost, fired = lives_lost()
    assert lost > 4, "more than one episode"
    assert lost - 1 <= fired <= lost
    assert lives_lost(fire_after_life=False) == (1, 0)
