"""Facts about Atari through ale-py: what is raw, what lives do, what a seed decides."""

import numpy as np
import pytest
from envs_by_hand import build

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.contract import through_json
from stablegrad.errors import UserError


def spec(**values):
    return EnvSpec.resolve(values)


def test_rewards_are_raw():
    env = make(spec(env_id="Riverraid-v5"), num_envs=1, seed=1)
    rng = np.random.default_rng(0)
    rewards = np.concatenate([env.step(rng.integers(0, 18, 1)).reward for _ in range(120)])
    env.close()
    # A tanker is worth 30 points, a helicopter 60: clipped at the source, both would be 1 for good.
    assert set(rewards.tolist()) == {0.0, 30.0, 60.0}


def test_a_lost_life_is_the_signal_of_ale_and_no_end():
    """Lives read from `info` give exactly what `life_loss_info` would report, and the game plays on."""
    from ale_py.vector_env import AtariVectorEnv

    env = make(spec(env_id="Breakout-v5", fire_after_life=False), num_envs=1, seed=1)
    hand = AtariVectorEnv("breakout", 1, num_threads=1, reward_clipping=False, life_loss_info=True)
    first, _ = hand.reset(seed=np.array([_first_seed()]))
    assert np.array_equal(env.obs, first)
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(400):
        action = rng.integers(0, 4, 1)
        step = env.step(action)
        obs, _, signalled, _, _ = hand.step(action)
        assert signalled == step.life_lost | step.terminated
        if step.terminated[0]:
            break
        assert np.array_equal(step.obs, obs)
        lost += int(step.life_lost[0])
    env.close()
    assert step.terminated[0]
    assert lost == 4
    assert step.episodes[0].length > 4


def _first_seed():
    from stablegrad.envs.base import episode_seed

    return episode_seed(1, 0, 0)


@pytest.mark.parametrize("game", ["Qbert-v5", "Tetris-v5"])
def test_sticky_games_resume_exactly_in_the_middle(game):
    """The games whose cloned state is not exact in ale-py 0.12.1."""
    sticky = spec(env_id=game, protocol="machado2018", max_episode_steps=90)
    env = make(sticky, num_envs=2, seed=3)
    actions = np.random.default_rng(0).integers(0, 18, (140, 2))
    for row in actions[:110]:
        env.step(row)
    restored = make(sticky, num_envs=2, seed=4)
    restored.load_state_dict(through_json(env.state_dict()))
    for row in actions[110:]:
        a, b = env.step(row), restored.step(row)
        assert np.array_equal(a.obs, b.obs)
        assert np.array_equal(a.reward, b.reward)
        assert a.episodes == b.episodes
    env.close()
    restored.close()


def test_sticky_actions_stick_and_belong_to_the_seed():
    def play(seed, sticky):
        env = make(spec(env_id="Pong-v5", repeat_action_probability=sticky, noop_max=0), num_envs=1, seed=seed)
        env.step(np.array([2]))
        obs = [env.step(np.array([3 - t % 2])).obs for t in range(12)]
        env.close()
        return np.stack(obs)

    assert np.array_equal(play(1, 0.5), play(1, 0.5))
    assert not np.array_equal(play(1, 0.5), play(2, 0.5))
    assert np.array_equal(play(1, 0.0), play(2, 0.0))


def test_no_ops_and_fire_at_the_start():
    """0 to noop_max - 1 no-op frames; FIRE is one frame more at the least, where the game has the button."""

    def frames(game, **options):
        env = make(spec(env_id=game, **options), num_envs=1, seed=1)
        counts = {int(env._simulator._envs.reset()[1]["episode_frame_number"][0]) for _ in range(20)}
        env.close()
        return counts

    assert frames("Breakout-v5", noop_max=0, fire_reset=False) == {0}
    assert frames("Breakout-v5", noop_max=4, fire_reset=False) == {0, 1, 2, 3}
    assert frames("Breakout-v5", noop_max=4, fire_reset=True) == {1, 2, 3}
    assert frames("Freeway-v5", noop_max=1, fire_reset=True) == {0}


def test_spaces():
    env = make(spec(env_id="Breakout-v5", frame_stack=2), num_envs=1, seed=1)
    assert env.observation_space.shape == (2, 84, 84)
    assert env.observation_space.dtype == np.uint8
    assert env.action_space.n == 4
    env.close()
    env = make(spec(env_id="Breakout-v5", full_action_space=True), num_envs=1, seed=1)
    assert env.action_space.n == 18
    env.close()


def test_a_missing_rom_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"no usable ROM 'breakout'.*unset ALE_ROMS_DIR"):
        make(spec(env_id="Breakout-v5"), num_envs=1, seed=1)


@pytest.mark.parametrize("name", ["Surround-v5", "kung_fu_master", "TicTacToe3D-v5", "Et-v5"])
def test_unusual_names_are_games(name):
    env = build({"env_id": name})(num_envs=1, seed=1, num_threads=1)
    assert env.obs.shape == (1, 4, 84, 84)
    env.close()
