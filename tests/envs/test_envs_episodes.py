"""The engine's bookkeeping on a scripted game whose every number is known."""

import numpy as np
import pytest
from gymnasium import spaces

from stablegrad.envs.base import EpisodeEnd, episode_seed
from stablegrad.envs.contract import through_json
from stablegrad.envs.episodes import GO_ON, EpisodicEnv, Played
from stablegrad.errors import UserError


class Script:
    """Environment e ends its game after `lengths[e]` steps; a reward is 10 for each step of the game so far.

    The observation is [games begun in this environment, steps of the game, last action].
    """

    observation_space = spaces.Box(-1, 1000, (3,), np.float32)
    action_space = spaces.Discrete(4)

    def __init__(self, lengths, session_steps=0):
        self.lengths = np.array(lengths)
        self.num_envs = len(lengths)
        self.session_steps = session_steps
        self.games = np.zeros(self.num_envs, int)
        self.t = np.zeros(self.num_envs, int)
        self.seeds = [[] for _ in lengths]
        self.closed = 0

    def begin(self, envs, seeds, obs, lives):
        for env, seed in zip(envs, seeds, strict=True):
            self.games[env] = self.games[env] + 1 if seed == GO_ON else 1
            self.seeds[env].append(int(seed))
        self.t[envs] = 0
        obs[envs] = self.look(np.full(self.num_envs, -1))[envs]
        lives[envs] = 2

    def look(self, actions):
        return np.stack([self.games, self.t, actions], axis=1).astype(np.float32)

    def step(self, actions):
        self.t += 1
        return Played(
            self.look(actions), 10.0 * self.t, self.t == self.lengths, np.zeros(self.num_envs, bool), 2 - (self.t >= 2)
        )

    def close(self):
        self.closed += 1


def test_a_play_with_literal_numbers():
    env = EpisodicEnv(Script([3, 9]), seed=5, max_episode_steps=4)
    assert env.obs.tolist() == [[1, 0, -1], [1, 0, -1]]
    one, two, three, four = (env.step(np.array([t, 3 - t])) for t in range(4))

    assert one.obs.tolist() == [[1, 1, 0], [1, 1, 3]]
    assert one.reward.tolist() == [10, 10]
    assert one.final_obs.shape == (0, 3)
    assert one.episodes == ()

    assert two.life_lost.tolist() == [True, True]
    assert three.life_lost.tolist() == [False, False]

    assert three.terminated.tolist() == [True, False]
    assert three.final_obs.tolist() == [[1, 3, 2]]
    assert three.obs.tolist() == [[1, 0, -1], [1, 3, 1]]
    assert three.next_obs.tolist() == [[1, 3, 2], [1, 3, 1]]
    assert three.episodes == (EpisodeEnd(env=0, score=60.0, length=3),)

    # The time limit is no end of the game, and closes the score all the same.
    assert four.truncated.tolist() == [False, True]
    assert four.terminated.tolist() == [False, False]
    assert four.final_obs.tolist() == [[1, 4, 0]]
    assert four.episodes == (EpisodeEnd(env=1, score=100.0, length=4),)


def test_a_game_that_ends_at_the_time_limit_has_ended():
    env = EpisodicEnv(Script([2]), seed=5, max_episode_steps=2)
    env.step(np.array([0]))
    end = env.step(np.array([0]))
    assert (end.terminated.tolist(), end.truncated.tolist()) == ([True], [False])


def test_every_episode_has_its_own_seed():
    script = Script([2, 3])
    env = EpisodicEnv(script, seed=5, max_episode_steps=None)
    for _ in range(6):
        env.step(np.zeros(2, int))
    assert script.seeds[0] == [episode_seed(5, 0, k) for k in range(4)]
    assert script.seeds[1] == [episode_seed(5, 1, k) for k in range(3)]


def test_a_session_goes_on_until_its_steps_are_full():
    script = Script([2], session_steps=5)
    env = EpisodicEnv(script, seed=5, max_episode_steps=None)
    for _ in range(12):
        env.step(np.zeros(1, int))
    # Ends after 2, 4, 6 (the first with 5 steps or more), 8, 10, 12 steps.
    assert script.seeds[0] == [episode_seed(5, 0, 0), -1, -1, episode_seed(5, 0, 3), -1, -1, episode_seed(5, 0, 6)]


@pytest.mark.parametrize("session_steps", [0, 5, 1000])
@pytest.mark.parametrize("steps", [0, 1, 4, 7, 11, 300])
def test_a_restored_play_goes_on_alike(session_steps, steps):
    """Environments whose sessions have 0 to 300 steps in flight, restored together."""
    lengths = [2, 3, 400]
    env = EpisodicEnv(Script(lengths, session_steps), seed=5, max_episode_steps=50)
    actions = np.random.default_rng(0).integers(0, 4, (steps + 20, 3))
    for row in actions[:steps]:
        env.step(row)
    state = through_json(env.state_dict())
    restored = EpisodicEnv(Script(lengths, session_steps), seed=6, max_episode_steps=50)
    restored.load_state_dict(state)
    assert np.array_equal(restored.obs, env.obs)
    for row in actions[steps:]:
        a, b = env.step(row), restored.step(row)
        assert np.array_equal(a.obs, b.obs)
        assert a.episodes == b.episodes
    assert through_json(restored.state_dict())["actions"].tolist() == env.state_dict()["actions"].tolist()


def test_the_log_is_a_byte_a_step_of_what_is_in_flight():
    env = EpisodicEnv(Script([400, 2]), seed=5, max_episode_steps=None)
    for _ in range(301):
        env.step(np.array([1, 2]))
    actions = env.state_dict()["actions"]
    assert actions.dtype == np.uint8
    assert actions.tolist() == [1] * 301 + [2]


def test_another_game_is_noticed():
    env = EpisodicEnv(Script([9, 9]), seed=5, max_episode_steps=None)
    for _ in range(5):
        env.step(np.array([1, 1]))
    state = env.state_dict()
    with pytest.raises(UserError, match="environment 0, reset with its seed and replayed for 5 steps, is not where"):
        EpisodicEnv(Script([3, 9]), seed=5, max_episode_steps=None).load_state_dict(state)
    with pytest.raises(UserError, match="of 2 environments, not of 3"):
        EpisodicEnv(Script([9, 9, 9]), seed=5, max_episode_steps=None).load_state_dict(state)


def test_a_back_end_that_cannot_replay_begins_new_episodes():
    env = EpisodicEnv(Script([9, 9], session_steps=None), seed=5, max_episode_steps=None)
    assert env.exact_resume is False
    for _ in range(5):
        env.step(np.array([1, 1]))
    state = through_json(env.state_dict())
    assert sorted(state) == ["episode", "seed"]
    env.load_state_dict(state)
    assert env.obs[:, 1].tolist() == [0, 0]
    assert env.step(np.array([0, 0])).reward.tolist() == [10, 10]


@pytest.mark.parametrize("actions", [np.array([0]), np.array([[0], [1]]), np.array([0, 4]), np.array([-1, 0])])
def test_actions_that_do_not_fit_are_refused(actions):
    env = EpisodicEnv(Script([9, 9]), seed=5, max_episode_steps=None)
    with pytest.raises(ValueError, match="actions"):
        env.step(actions)


def test_closing_twice_closes_once():
    script = Script([9])
    env = EpisodicEnv(script, seed=5, max_episode_steps=None)
    env.close()
    env.close()
    assert script.closed == 1


def test_episode_seeds_are_pinned_and_do_not_collide():
    # Pinned: another value would break the resuming of every run on disk.
    assert [episode_seed(1, 0, 0), episode_seed(1, 0, 1), episode_seed(1, 1, 0)] == [1489305978, 908839664, 1787481529]
    seeds = {episode_seed(s, e, k) for s in range(8) for e in range(16) for k in range(32)}
    assert len(seeds) == 8 * 16 * 32
    assert all(0 <= seed < 2**31 for seed in seeds)
    bits = np.unpackbits(np.array(sorted(seeds), ">u4").view(np.uint8)).reshape(-1, 32)[:, 1:]
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.05
