"""What a replay takes, and the refusal of one that does not fit."""

import numpy as np
import pytest
from gymnasium import spaces

from stablegrad.errors import UserError
from stablegrad.replay.memory import available_bytes, check_memory, estimate_bytes, frame_stack, group_limits

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = spaces.Discrete(18)


@pytest.mark.parametrize("num_envs", [1, 8, 128])
def test_a_million_atari_transitions_take_at_most_7_5_gb_priorities_included(num_envs):
    needed = estimate_bytes(ATARI, ACTIONS, capacity=1_000_000, num_envs=num_envs, prioritized=True)
    frames = 84 * 84 * 1_000_000
    assert frames < needed < 7.5e9


def test_whole_observations_take_what_the_usual_buffer_halves_at_best():
    whole = estimate_bytes(ATARI, ACTIONS, capacity=1_000_000, stack=1)
    assert 28e9 < whole < 30e9


@pytest.mark.parametrize(
    ("shape", "dtype", "stack"),
    [
        ((4, 84, 84), np.uint8, 4),
        ((2, 64, 64), np.uint8, 2),
        ((3, 84, 84), np.uint8, 1),  # colours
        ((84, 84, 3), np.uint8, 1),
        ((4, 10, 10), np.uint8, 1),  # MinAtar's planes
        ((4, 84, 84), np.float32, 1),
        ((8,), np.float32, 1),
    ],
)
def test_which_observations_are_stacks(shape, dtype, stack):
    assert frame_stack(spaces.Box(0, 255, shape, dtype)) == stack


def test_a_replay_that_fits_is_accepted():
    needed = check_memory(ATARI, ACTIONS, capacity=1_000_000, available=9_000_000_000)
    assert needed == estimate_bytes(ATARI, ACTIONS, capacity=1_000_000)


def test_one_that_does_not_is_refused_with_the_capacity_that_would_fit():
    with pytest.raises(UserError) as caught:
        check_memory(ATARI, ACTIONS, capacity=1_000_000, num_envs=4, available=5_000_000_000)
    message = str(caught.value)
    assert "1,000,000 transitions needs 7.4 GB, but only 5.0 GB of memory are free" in message
    advised = int(message.split("--buffer_size ")[1].split()[0])
    check_memory(ATARI, ACTIONS, capacity=advised, num_envs=4, available=5_000_000_000)
    with pytest.raises(UserError):
        check_memory(ATARI, ACTIONS, capacity=int(advised * 1.03), num_envs=4, available=5_000_000_000)


def test_a_machine_without_room_for_any_says_so():
    with pytest.raises(UserError, match="no buffer would fit"):
        check_memory(ATARI, ACTIONS, capacity=1000, available=2**29)


def test_a_container_has_what_its_limits_leave_beside_what_it_uses(tmp_path):
    """Version 2, nested: the outer group has 9 of 10 GB in use, of which 2 are cached files; the inner has no limit."""
    (tmp_path / "pod" / "box").mkdir(parents=True)
    files = {"memory.max": "10000000000", "memory.current": "9000000000\n", "memory.stat": "inactive_file 2000000000"}
    for name, text in files.items():
        (tmp_path / "pod" / name).write_text(text)
    (tmp_path / "pod" / "box" / "memory.max").write_text("max")
    (tmp_path / "pod" / "box" / "memory.current").write_text("5")
    own = tmp_path / "own"
    own.write_text("0::/pod/box\n")
    assert group_limits(tmp_path, own) == [3_000_000_000]
    own.write_text("0::/elsewhere\n")  # the control: of another group
    assert group_limits(tmp_path, own) == []


def test_a_container_of_the_first_version(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("4000000000")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("1500000000")
    own = tmp_path / "own"
    own.write_text("11:cpu,cpuacct:/x\n9:memory:/docker/0123\n0::/\n")
    assert group_limits(tmp_path, own) == [2_500_000_000]
    assert group_limits(tmp_path, tmp_path / "none") == [2_500_000_000]


def test_this_machine_has_some_memory_and_not_more_than_exists():
    assert 2**26 < available_bytes() < 2**50
