"""What a replay takes, computed before it is allocated, and what the machine has."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from stablegrad.errors import UserError
from stablegrad.text import in_bytes

SPARE_BYTES = 16 * 2**20
"""Spare frames cost nothing worth saving below this."""

TREE_FANOUT = 32
"""Children of a node of the sum tree."""

RESERVE_BYTES = 2**30
"""Left free for networks, environments and the system."""


MOST_ROWS = 2_000_000_000
"""A replay's largest capacity: with the spare frames, what addresses of 32 bits reach."""


def frame_stack(space: spaces.Box) -> int:
    """How many frames an observation is a stack of: its first axis for Atari's uint8 [4, 84, 84], else 1.

    Three planes are taken for colours, and small grids (MinAtar) for feature planes.
    """
    if space.dtype != np.uint8 or len(space.shape) != 3:
        return 1
    planes, height, width = space.shape
    return planes if planes in {2, *range(4, 17)} and min(height, width) >= 36 else 1


def frame_slots(space: spaces.Box, *, capacity: int, num_envs: int, stack: int) -> int:
    """Frames to hold for `capacity` rows: one each, those that the observations to act on may span, and spare
    ones for what episodes add, a final frame and at most `stack - 1` frames of padding (Atari: one, black).

    The spare ones are a twentieth, or as many as fit in 16 MiB up to what the shortest episodes could need.
    """
    frame_bytes = max(1, _bytes(space) // stack)
    spare = max(capacity // 20, min(capacity * stack, SPARE_BYTES // frame_bytes))
    return capacity + spare + (stack + 1) * (stack + 2) * num_envs


def row_dtype(action_space: spaces.Space[Any], stack: int) -> np.dtype:
    """A row of one environment; `frames` has the observation's addresses, then its successor's newest."""
    return np.dtype(
        [
            ("frames", np.int32, (stack + 1,)),
            ("action", action_space.dtype, action_space.shape),
            ("reward", np.float32),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("life_lost", np.bool_),
        ]
    )


def estimate_bytes(
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    *,
    capacity: int,
    num_envs: int = 1,
    stack: int | None = None,
    prioritized: bool = False,
) -> int:
    """Bytes of a full `ReplayRing` of these arguments, with its sum tree where `prioritized`."""
    stack = frame_stack(observation_space) if stack is None else stack
    capacity = capacity // num_envs * num_envs
    slots = frame_slots(observation_space, capacity=capacity, num_envs=num_envs, stack=stack)
    frames = slots * (_bytes(observation_space) // stack)
    tree = 8 * sum(tree_lengths(capacity)) if prioritized else 0
    return frames + capacity * row_dtype(action_space, stack).itemsize + tree


def tree_lengths(capacity: int) -> list[int]:
    """The lengths of a sum tree's levels, leaves first: multiples of the fan-out, the last equal to it."""
    lengths = [-(-capacity // TREE_FANOUT) * TREE_FANOUT]
    while lengths[-1] > TREE_FANOUT:
        lengths.append(-(-lengths[-1] // TREE_FANOUT**2) * TREE_FANOUT)
    return lengths


def available_bytes() -> int:
    """Memory that can be had without swapping: the kernel's estimate, or all there is where it gives none.

    What a container may still take counts too. What another process has asked for and not yet written to cannot be
    seen: two replays that fit one by one, but not together, are both let through.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    return min(limits + group_limits())


def group_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes that each limited control group (of either version) of this process may still take, outermost first.

    Files that the kernel would drop from its cache (`inactive_file`) count as free.
    """
    free = []
    for line in own.read_text().splitlines() if own.exists() else ["0::/", "1:memory:/"]:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            group = base.joinpath(*parts[:depth])
            most, used = _text(group / limit), _text(group / usage)
            if most.isdecimal() and used.isdecimal():
                stats = dict(stat.split() for stat in _text(group / "memory.stat").splitlines())
                free.append(int(most) - int(used) + int(stats.get("inactive_file", 0)))
    return free


def check_memory(
    observation_space: spaces.Box,
    action_space: spaces.Space[Any],
    *,
    capacity: int,
    num_envs: int = 1,
    stack: int | None = None,
    prioritized: bool = False,
    available: int | None = None,
) -> int:
    """`estimate_bytes` of these arguments; UserError, saying what would fit, where memory has no room for them.

    Call it before anything is allocated; `available` bytes are what the machine has free, unless given.
    """

    def needed(rows: int) -> int:
        return estimate_bytes(
            observation_space,
            action_space,
            capacity=rows,
            num_envs=num_envs,
            stack=stack,
            prioritized=prioritized,
        )

    available = available_bytes() if available is None else available
    usable = available - RESERVE_BYTES
    if needed(capacity) <= usable:
        return needed(capacity)
    fits, too_many = 0, capacity
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if needed(middle) <= usable else (fits, middle)
    rounded = fits - fits % 10 ** max(0, len(str(fits)) - 2)
    advice = f"--buffer_size {rounded} would fit" if rounded else "no buffer would fit"
    raise UserError(
        f"a replay of {capacity:,} transitions needs {in_bytes(needed(capacity))}, but only"
        f" {in_bytes(available)} of memory are free, of which 1 GB is kept for training: {advice}"
    )


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _bytes(space: spaces.Box) -> int:
    return int(np.prod(space.shape)) * np.dtype(space.dtype).itemsize
