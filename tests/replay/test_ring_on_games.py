"""The ring on real games, byte for byte: time-outs, lost lives and automatic resets included."""

import numpy as np
import pytest
from replay_twins import NaiveReplay, live_slots

from stablegrad.envs import EnvSpec, make
from stablegrad.replay.ring import ReplayRing


@pytest.mark.parametrize("env_id", ["Breakout-v5", "MinAtar/Breakout", "CartPole-v1"])
def test_the_ring_equals_a_buffer_of_whole_observations(env_id):
    env = make(EnvSpec.resolve({"env_id": env_id, "max_episode_steps": 70}), num_envs=3, seed=0)
    ring = ReplayRing(
        env.observation_space, env.action_space, capacity=450, num_envs=3, n_step=3, gamma=0.9, life_loss_ends=True
    )
    twin, rng, obs, changes, ends = NaiveReplay(3, life_loss_ends=True), np.random.default_rng(0), env.obs, [], 0
    ring.begin(obs)
    actions = []
    for number in range(200):
        action = rng.integers(env.action_space.n, size=3)
        before = obs.copy()
        step = env.step(action)
        actions += step.executed(action).tolist()
        changes.append(ring.add(action, step))
        twin.add(before, 3 * number + np.arange(3), step)
        obs = step.obs
        ends += int(step.ended.sum())
    env.close()
    assert ends > 3
    expected = twin.transitions(3, 0.9)
    slots = live_slots(changes)
    assert len(slots) == len(ring) == len([number for number in expected if number >= 150])
    # Row r of environment b lies at slot r % 150 * 3 + b, and the newest 150 of 200 rows are kept.
    numbers = [slot + 450 if slot < 150 else slot for slot in slots.tolist()]
    batch = ring.gather(slots)
    for i, number in enumerate(numbers):
        whole, reward, successor, discount = expected[number]
        np.testing.assert_array_equal(batch.obs[i], whole)
        np.testing.assert_array_equal(batch.next_obs[i], successor)
        assert batch.action[i] == actions[number]
        assert batch.reward[i] == pytest.approx(reward, abs=1e-6)
        assert batch.discount[i] == pytest.approx(discount, abs=1e-6)
