"""A sequence of tasks keeps the promises of every environment, and changes exactly when and what it says."""

import dataclasses

import numpy as np
import pytest

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.base import episode_seed
from stablegrad.envs.changes import fixed_permutation, move_places
from stablegrad.envs.contract import random_actions, violations
from stablegrad.envs.sequence import SequenceEnv
from stablegrad.errors import UserError

BREAKOUT, ASTERIX = "MinAtar/Breakout", "MinAtar/Asterix"
CYCLE = [BREAKOUT, f"{ASTERIX}+permute_actions:1+flip_reward+permute_obs:2", BREAKOUT]


def sequence(schedule, points, **values):
    """A factory whose change points are in steps of one environment, so that a lone one plays as among others."""
    spec = EnvSpec.resolve({"task_schedule": schedule, **values})

    def build(*, num_envs, seed, num_threads=1, task=None):
        at = tuple(point * num_envs for point in points)
        scheduled = dataclasses.replace(spec, change_points=at)
        return make(scheduled, num_envs=num_envs, seed=seed, num_threads=num_threads, task=task)

    return build


def plain(env_id, *, task, num_envs=2, seed=1, **values):
    """The games of task `task` without a sequence around them."""
    return make(EnvSpec.resolve({"env_id": env_id, **values}), num_envs=num_envs, seed=episode_seed(seed, task, 0))


@pytest.mark.parametrize(
    ("schedule", "values"),
    [(CYCLE, {"max_episode_steps": 12}), (["CartPole-v1", "CartPole-v1+permute_obs:1+flip_reward"], {})],
)
def test_no_promise_is_broken(schedule, values):
    points = (40, 77)[: len(schedule) - 1]
    assert violations(sequence(schedule, points, **values), num_envs=2, steps=110) == []


class OffByOne(SequenceEnv):
    """Forgets, when it is saved, how far the schedule is."""

    def state_dict(self):
        return {**super().state_dict(), "steps": 0}


def test_a_sequence_that_forgets_where_it_is_breaks_one(monkeypatch):
    monkeypatch.setattr("stablegrad.envs.SequenceEnv", OffByOne)
    assert any("restored" in said for said in violations(sequence(CYCLE, (40, 77)), num_envs=2, steps=110))


def test_the_change_comes_at_its_step_and_cuts_the_games():
    env = sequence([BREAKOUT, ASTERIX], (3,))(num_envs=2, seed=1)
    steps = [env.step(np.array([0, 0])) for _ in range(4)]
    assert [step.truncated.tolist() for step in steps] == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert [end.whole for end in steps[2].episodes] == [False, False]
    assert [end.length for end in steps[2].episodes] == [3, 3]
    assert steps[2].final_obs.shape == (2, 4, 10, 10)
    assert (steps[2].obs == plain(ASTERIX, task=1).obs).all()


def test_a_game_that_ends_at_the_change_by_itself_is_whole():
    env = sequence([BREAKOUT, ASTERIX], (12,), max_episode_steps=4)(num_envs=2, seed=1)
    last = [env.step(np.array([0, 0])) for _ in range(12)][-1]
    assert [(end.env, end.length, end.whole) for end in last.episodes] == [(0, 4, True), (1, 4, True)]


def test_games_are_what_they_are_alone_behind_the_changes():
    """Task 2 against the plain game: same seeds, permuted buttons, moved places, the other sign, empty channels."""
    schedule = ["MinAtar/Seaquest", f"{ASTERIX}+permute_actions:1+flip_reward+permute_obs:2"]
    env = sequence(schedule, (5,))(num_envs=2, seed=1)
    for _ in range(5):
        env.step(np.array([0, 0]))
    twin = plain(ASTERIX, task=1)
    buttons, order = fixed_permutation(6, 1), fixed_permutation(100, 2)
    rewards = []
    for row in random_actions(env, 150, np.random.default_rng(1)):
        assert (env.obs[:, :4] == move_places(twin.obs, order)).all()
        assert not env.obs[:, 4:].any()
        ours, theirs = env.step(row), twin.step(buttons[row])
        assert (ours.reward == -theirs.reward).all()
        assert (ours.terminated == theirs.terminated).all()
        assert [end.score for end in ours.episodes] == [-end.score for end in theirs.episodes]
        rewards.extend(theirs.reward.tolist())
    assert max(rewards) > 0


def test_a_task_that_comes_back_is_the_same_game_with_new_seeds():
    env = sequence(CYCLE, (2, 4))(num_envs=2, seed=1)
    seen = [env.obs.copy()]
    for _ in range(4):
        seen.append(env.step(np.array([0, 0])).obs)
    assert (seen[0] == plain(BREAKOUT, task=0).obs).all()
    assert (seen[4] == plain(BREAKOUT, task=2).obs).all()


def test_one_task_alone_never_changes_and_keeps_the_shared_spaces():
    env = sequence([BREAKOUT, "MinAtar/Seaquest"], (3,))(num_envs=2, seed=1, task=0)
    assert env.observation_space.shape == (10, 10, 10)
    assert not any(env.step(np.array([0, 0])).truncated.any() for _ in range(10))


def test_everything_that_cannot_be_built_is_said_at_once():
    schedule = ["Breakout-v5", "Breakout-v5+mode:3+difficulty:7", "Pong-v5+mode:99"]
    with pytest.raises(UserError) as raised:
        sequence(schedule, (10, 20))(num_envs=1, seed=1)
    assert ["mode 3" in raised.value.problems[0], "difficulty 7" in raised.value.problems[1]] == [True, True]
    assert "mode 99" in raised.value.problems[2]


def test_different_actions_and_observations_are_refused():
    with pytest.raises(UserError, match="different actions"):
        sequence(["CartPole-v1", "Acrobot-v1"], (9,), max_episode_steps=9)(num_envs=1, seed=1)
    with pytest.raises(UserError, match="permute_actions needs buttons"):
        sequence(["Pendulum-v1+permute_actions:1", "Pendulum-v1"], (9,))(num_envs=1, seed=1)
