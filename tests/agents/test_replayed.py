"""What DQN and Rainbow share: the schedule of updates, target networks, and a replay that fits in memory."""

import copy

import numpy as np
import pytest
import torch
from agent_setups import Stream, build, play, setup
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from stablegrad.agents import replayed
from stablegrad.agents.base import LossOutput
from stablegrad.agents.replayed import Experience, falls_due, follow_, updates_due
from stablegrad.errors import UserError
from stablegrad.replay import memory
from stablegrad.runs.config import RunConfig


def test_one_environment_learns_at_each_multiple_beyond_the_start():
    moments = [list(updates_due(step, 1, every=4, after=10)) for step in range(1, 21)]
    assert [step for step, due in enumerate(moments, 1) if due] == [12, 16, 20]
    assert moments[11] == [12]


@given(num_envs=st.integers(1, 40), every=st.integers(1, 9), after=st.integers(0, 90))
def test_any_number_of_environments_makes_the_same_updates(num_envs, every, after):
    span = 40 * num_envs
    alone = [m for step in range(1, span + 1) for m in updates_due(step, 1, every=every, after=after)]
    together = [
        m for step in range(num_envs, span + 1, num_envs) for m in updates_due(step, num_envs, every=every, after=after)
    ]
    assert together == alone


def test_one_update_a_vector_step_would_change_the_ratio():
    """The control: eight environments owe two updates a vector step, not one."""
    assert list(updates_due(16, 8, every=4, after=0)) == [12, 16]


def test_a_target_falls_due_once_in_its_interval():
    due = [m for m in range(4, 101, 4) if falls_due(m, since=m - 4, every=10)]
    assert due == [12, 20, 32, 40, 52, 60, 72, 80, 92, 100]


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_targets_are_copied_after_the_same_updates_whatever_the_number_of_environments(num_envs):
    settings = {"learning_starts": 0, "train_frequency": 2, "target_network_frequency": 24, "buffer_size": 200}
    agent, stream = build("dqn", settings, num_envs=num_envs), Stream(num_envs)
    copies = []
    for _ in range(48 // num_envs):
        agent.observe(stream.step(agent.act(stream.obs)))
        for batch in agent.batches():
            with torch.no_grad():
                agent.network.head.bias += 1
            before = agent.target.head.bias.clone()
            agent.after_update(None, batch)
            if not torch.equal(agent.target.head.bias, before):
                copies.append(agent.updates)
    assert copies == [12, 24]
    assert agent.updates == 24


@pytest.mark.parametrize("algo", ["dqn", "rainbow"])
def test_a_replay_ratio_above_1(algo):
    """Three updates at each of the moments 2, 4, …, 24; the target follows after the last of those at 12 and 24."""
    settings = {"learning_starts": 0, "train_frequency": 2, "target_network_frequency": 12, "buffer_size": 200}
    agent, stream = build(algo, {**settings, "gradient_steps": 3, "batch_size": 8}, num_envs=1), Stream(1)
    copies = []
    for _ in range(24):
        agent.observe(stream.step(agent.act(stream.obs)))
        for batch in agent.batches():
            before = copy.deepcopy(agent.target)
            with torch.no_grad():
                for parameter in agent.network.parameters():
                    parameter += 1
            errors = torch.ones(len(batch["slots"]))
            agent.after_update(LossOutput(errors.sum(), None, {}, {"errors": errors}), batch)
            if not all(map(torch.equal, before.parameters(), agent.target.parameters())):
                copies.append(agent.updates)
    made = agent.updates
    assert copies == [made - 18, made]
    assert made == {"dqn": 36, "rainbow": 36 - 3}[algo]  # no window of three steps is whole at the first moment
    assert agent.metrics()["replay/ratio"] == made * 8 / 24 > 1


def test_soft_and_hard_updates_of_a_target():
    agent = build("dqn")
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    before = copy.deepcopy(agent.target)
    follow_(agent.target, agent.network, 0.25)
    for new, old, online in zip(*(m.parameters() for m in (agent.target, before, agent.network)), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online)
    follow_(agent.target, agent.network, 1.0)
    for new, online in zip(agent.target.parameters(), agent.network.parameters(), strict=True):
        assert torch.equal(new, online)
        assert not new.requires_grad


def test_memory_is_checked_before_anything_is_allocated(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * 10**9)
    atari = {"observation_space": spaces.Box(0, 255, (4, 84, 84), np.uint8), "num_envs": 1, "total_steps": 5_000_000}
    with pytest.raises(UserError, match=r"7\.\d GB.*--buffer_size 2\d0000 would fit"):
        Experience(setup(**atari), capacity=1_000_000, gamma=0.99, seed=1)
    # What the run never fills needs no memory.
    Experience(setup(**{**atari, "total_steps": 100_000}), capacity=1_000_000, gamma=0.99, seed=1)


@pytest.mark.parametrize("algo", ["dqn", "rainbow"])
def test_a_replay_that_cannot_even_be_set_aside_is_an_error(algo, monkeypatch):
    """Pages that are never filled take no memory, but addresses, and of those a system gives so many."""
    with pytest.raises(UserError, match="--buffer_size 2000000001: must be at most 2000000000"):
        RunConfig.resolve(algo, {"env_id": "CartPole-v1", "buffer_size": 2_000_000_001})

    def refused(*args, **rest):
        raise MemoryError

    monkeypatch.setattr(replayed, "ReplayRing", refused)
    with pytest.raises(UserError, match=r"--buffer_size 2000000000: \d+\.\d GB cannot be set aside here"):
        build(algo, {"buffer_size": 2_000_000_000}, total_steps=100)


def test_addresses_of_32_bits_reach_every_frame_of_the_largest_replay():
    for stack in (1, 4, 16):
        space = spaces.Box(0, 255, (stack, 84, 84), np.uint8)
        slots = memory.frame_slots(space, capacity=memory.MOST_ROWS, num_envs=100_000, stack=stack)
        assert 2_100_000_000 < slots < 2**31


@pytest.mark.parametrize("algo", ["dqn", "rainbow"])
def test_an_agent_that_does_not_learn_has_no_replay_to_speak_of_and_plays_the_same(algo, monkeypatch):
    learning = build(algo, {"buffer_size": 400, "learning_starts": 0}, seed=77)
    play(learning, Stream(), 60)
    atari = {"observation_space": spaces.Box(0, 255, (4, 84, 84), np.uint8), "total_steps": 5_000_000}
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    assert build(algo, learns=False, **atari).experience.replay.nbytes < 20e6
    with pytest.raises(UserError, match="no buffer would fit"):
        build(algo, **atari)
    player = build(algo, {"buffer_size": 400}, learns=False)
    player.load_state_dict(learning.state_dict())
    assert len(player.experience) == 0 < len(learning.experience)
    obs = Stream(64, seed=3).obs
    actions = [a.evaluate(obs, epsilon=0.0, generator=torch.Generator()).tolist() for a in (learning, player)]
    assert actions[0] == actions[1]


@pytest.mark.parametrize("algo", ["dqn", "rainbow"])
def test_a_replay_too_small_for_its_environments_is_refused_with_the_number_needed(algo):
    with pytest.raises(UserError, match=r"--buffer_size 7: 8 environments.* need at least"):
        RunConfig.resolve(algo, {"env_id": "CartPole-v1", "buffer_size": 7, "num_envs": 8})


def test_n_step_rewards_and_discounts_reach_the_batch():
    agent = build("rainbow", {"learning_starts": 0, "n_step": 2, "gamma": 0.5, "train_frequency": 2, "batch_size": 64})
    stream = Stream(truncated=(3,), terminated=(6,))
    play(agent, stream, 6)
    data = agent.experience.sample(400)
    assert set(data["discounts"].unique().tolist()) == {0.0, 0.25, 0.5}  # ends, whole windows, the tail of a time-out


def test_a_restored_agent_samples_what_the_saved_one_would_have():
    agent = build("rainbow", {"learning_starts": 0})
    play(agent, Stream(terminated=(4,)), 20)
    restored = build("rainbow", {"learning_starts": 0}, seed=77)
    restored.load_state_dict(copy.deepcopy(agent.state_dict()))
    expected, found = agent.experience.sample(16, beta=0.5), restored.experience.sample(16, beta=0.5)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not torch.equal(agent.experience.sample(16)["slots"], expected["slots"])
