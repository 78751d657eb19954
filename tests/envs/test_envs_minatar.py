"""Facts about MinAtar."""

import numpy as np
import pytest
from envs_by_hand import build

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.contract import violations

GAMES = {  # channels, and the buttons that do something (n l u r d f counted from 0)
    "Asterix": (4, [0, 1, 2, 3, 4]),
    "Breakout": (4, [0, 1, 3]),
    "Freeway": (7, [0, 2, 4]),
    "Seaquest": (10, [0, 1, 2, 3, 4, 5]),
    "SpaceInvaders": (6, [0, 1, 3, 5]),
}


@pytest.mark.parametrize("game", GAMES)
def test_spaces(game):
    channels, minimal = GAMES[game]
    for version, buttons in (("", 6), ("-v0", 6), ("-v1", len(minimal))):
        env = make(EnvSpec.resolve({"env_id": f"MinAtar/{game}{version}"}), num_envs=2, seed=1)
        assert env.action_space.n == buttons
        assert env.observation_space.shape == (channels, 10, 10)
        assert env.observation_space.dtype == np.uint8
        assert env.observation_space.high.max() == 1
        assert set(np.unique(env.obs)) == {0, 1}
    assert env._simulator._buttons.tolist() == minimal


@pytest.mark.parametrize("game", GAMES)
def test_no_promise_is_broken_in_any_game(game):
    assert violations(build({"env_id": f"MinAtar/{game}", "max_episode_steps": 150}), steps=200) == []


def test_the_last_action_of_a_game_does_not_stick_to_the_next():
    env = make(EnvSpec.resolve({"env_id": "MinAtar/Breakout", "max_episode_steps": 1}), num_envs=1, seed=1)
    env.step(np.array([3]))
    assert env._simulator._games[0].last_action == 0


def test_sticky_actions_are_as_shipped_unless_given():
    for given, used in (({}, 0.1), ({"repeat_action_probability": 0.0}, 0.0)):
        env = make(EnvSpec.resolve({"env_id": "MinAtar/Breakout", **given}), num_envs=1, seed=1)
        assert env._simulator._games[0].sticky_action_prob == used


def test_without_a_limit_a_game_could_go_on_for_ever():
    spec = EnvSpec.resolve({"env_id": "MinAtar/SpaceInvaders", "max_episode_steps": 3})
    env = make(spec, num_envs=4, seed=1)
    steps = [env.step(np.zeros(4, int)) for _ in range(3)]
    assert steps[-1].truncated.all()
    assert [end.length for end in steps[-1].episodes] == [3, 3, 3, 3]
