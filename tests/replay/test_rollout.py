"""Rollouts: what goes in comes out, minibatches cover it once an epoch, and a half-filled one can be saved."""

import numpy as np
import pytest
import torch

from stablegrad.replay.rollout import Rollout


def filled(steps: int, *, num_steps: int = 4, num_envs: int = 3) -> Rollout:
    rollout = Rollout(num_steps, num_envs)
    for t in range(steps):
        obs = np.full((num_envs, 2, 2), t, np.uint8)
        rollout.add(obs=obs, action=torch.arange(num_envs) + 10 * t, reward=np.full(num_envs, t / 2, np.float32))
    return rollout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fields_are_time_major_and_keep_their_types():
    rollout = filled(4)
    assert rollout.full
    assert rollout["action"].tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert rollout["obs"].shape == (4, 3, 2, 2)
    assert [rollout[name].dtype for name in ("obs", "action", "reward")] == [
        torch.uint8,
        torch.int64,
        torch.float32,
    ]


def test_what_was_stored_does_not_change_with_its_source():
    rollout, obs = Rollout(2, 1), np.zeros((1, 2), np.float32)
    rollout.add(obs=obs)
    obs += 1
    assert rollout["obs"].sum() == 0


def test_only_filled_rows_are_read():
    rollout = filled(2)
    assert not rollout.full
    assert rollout["action"].tolist() == [[0, 1, 2], [10, 11, 12]]


def test_clear_starts_over_in_the_same_memory():
    rollout = filled(4)
    address = rollout["obs"].data_ptr()
    rollout.clear()
    rollout.add(obs=np.full((3, 2, 2), 9, np.uint8), action=torch.zeros(3), reward=np.zeros(3, np.float32))
    assert rollout.filled == 1
    assert rollout["obs"].data_ptr() == address
    assert (rollout["obs"] == 9).all()


def test_every_sample_is_in_one_minibatch_of_each_epoch_with_its_own_fields():
    rollout = filled(4)
    returns = rollout["action"].float() * 2
    batches = list(rollout.minibatches(count=5, epochs=2, generator=seeded(), returns=returns))
    assert [len(batch["action"]) for batch in batches] == [3, 3, 2, 2, 2] * 2
    for epoch in (batches[:5], batches[5:]):
        actions = torch.cat([batch["action"] for batch in epoch])
        assert sorted(actions.tolist()) == sorted(rollout["action"].flatten().tolist())
    for batch in batches:
        assert torch.equal(batch["returns"], batch["action"] * 2.0)
        assert torch.equal(batch["obs"][:, 0, 0].long(), batch["action"] // 10)


def test_minibatches_are_a_function_of_the_generator_and_differ_by_epoch():
    rollout = filled(4)
    orders = [
        [batch["action"].tolist() for batch in rollout.minibatches(count=2, epochs=2, generator=seeded(seed))]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:2] != orders[0][2:]


def test_the_state_holds_the_filled_part_only_and_restores_it():
    rollout = filled(1)
    state = rollout.state_dict()
    assert state["fields"]["obs"].shape == (1, 3, 2, 2)
    restored = Rollout(4, 3)
    restored.load_state_dict(state)
    step = {"obs": np.ones((3, 2, 2), np.uint8), "action": torch.ones(3), "reward": np.ones(3, np.float32)}
    for each in (rollout, restored):
        each.add(**step)
    assert restored.filled == 2
    for name in ("obs", "action", "reward"):
        assert torch.equal(rollout[name], restored[name])


def test_the_state_is_a_copy():
    rollout = filled(1)
    state = rollout.state_dict()
    rollout.clear()
    rollout.add(obs=np.full((3, 2, 2), 9, np.uint8), action=torch.zeros(3), reward=np.zeros(3, np.float32))
    assert (state["fields"]["obs"] == 0).all()


def test_mistakes_are_named():
    rollout = filled(4)
    with pytest.raises(ValueError, match="has its 4 steps"):
        rollout.add(obs=np.zeros((3, 2, 2), np.uint8))
    rollout.clear()
    with pytest.raises(ValueError, match=r"the fields are \['action', 'obs', 'reward'\], not \['obs'\]"):
        rollout.add(obs=np.zeros((3, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"obs must be \[3, 2, 2\], not \[2, 2, 2\]"):
        rollout.add(obs=np.zeros((2, 2, 2), np.uint8), action=torch.zeros(3), reward=np.zeros(3))


def test_a_field_of_a_later_version_is_filled_in_for_the_rows_that_are_there_and_only_then():
    old, read = filled(2).state_dict(), Rollout(4, 3)
    read.load_state_dict(old, chosen=torch.tensor([True, True, False]))
    assert read["chosen"].tolist() == [[True, True, False]] * 2

    empty = Rollout(4, 3)
    empty.load_state_dict(Rollout(4, 3).state_dict(), chosen=torch.ones(3, dtype=torch.bool))
    empty.add(action=torch.zeros(3))  # as it was, the one field "chosen" refused the first step
    assert empty.filled == 1
