"""What saving a full replay costs, and what saving it again costs once a little of it has changed.

    python benchmarks/replay_checkpoint.py --capacity 1000000 --later 100000 --folder /tmp/replay \
        --json benchmarks/results/replay_checkpoint.json

Fills the frame-sharing ring with made-up Atari observations that no compression helps, saves a checkpoint, goes on for
`later` steps, saves again, and loads it. Needs as much memory as the ring, and twice its size on the disk.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import StepBatch
from stablegrad.replay.ring import ReplayRing
from stablegrad.runs import checkpoint
from stablegrad.runs.folder import describe_machine

_EPISODE = 1000


def fill(ring: ReplayRing, steps: int, stack: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`steps` transitions of one environment whose games last 1,000 steps; the observation to act on next."""
    frames = rng.integers(256, size=(64, 84, 84), dtype=np.uint8)
    none = np.zeros(1, bool)
    for step in range(steps):
        ended = np.array([step % _EPISODE == _EPISODE - 1])
        frames[step % 64, 0, :4] = np.frombuffer(np.int32(step).tobytes(), np.uint8)  # no frame comes twice
        after = np.concatenate((stack[:, 1:], frames[None, None, step % 64]), axis=1)
        batch = StepBatch(
            obs=after, reward=np.ones(1, np.float32), terminated=ended, truncated=none, life_lost=none,
            final_obs=after[ended], episodes=(),
        )  # fmt: skip
        ring.add(np.zeros(1, np.int64), batch)
        stack = after
    return stack


def build(capacity: int) -> ReplayRing:
    return ReplayRing(spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6), capacity=capacity)


def written(path: Path, previous: Path | None) -> int:
    """Bytes of a checkpoint's files that the previous one does not share."""
    kept = set() if previous is None else {file.stat().st_ino for file in previous.iterdir()}
    return sum(file.stat().st_size for file in path.iterdir() if file.stat().st_ino not in kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--later", type=int, default=100_000, help="steps between the first checkpoint and the second")
    parser.add_argument("--folder", type=Path, required=True, help="scratch space, emptied at the end")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng, ring = np.random.default_rng(0), build(arguments.capacity)
    stack = np.zeros((1, 4, 84, 84), np.uint8)
    ring.begin(stack)
    stack = fill(ring, arguments.capacity, stack, rng)
    record = {"capacity": arguments.capacity, "later": arguments.later, "bytes_allocated": ring.nbytes}
    previous: Path | None = None
    for name, step in (("first", arguments.capacity), ("second", arguments.capacity + arguments.later)):
        start = time.perf_counter()
        path = checkpoint.save(arguments.folder, step, {"replay": ring.state_dict()}, keep=2, previous=previous)
        record[name] = {"seconds": time.perf_counter() - start, "bytes_written": written(path, previous)}
        print(name, record[name], flush=True)
        previous = path
        if name == "first":
            stack = fill(ring, arguments.later, stack, rng)
    del ring
    start = time.perf_counter()
    state = checkpoint.load(path)["replay"]
    build(arguments.capacity).load_state_dict(state)
    record["load"] = {"seconds": time.perf_counter() - start}
    print("load", record["load"])
    shutil.rmtree(arguments.folder)
    if arguments.json:
        arguments.json.write_text(json.dumps({**record, "machine": describe_machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
