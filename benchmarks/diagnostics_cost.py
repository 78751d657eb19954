"""What `--diagnostics light | full` costs: processor time of training with probes, over that of training without.

    python benchmarks/diagnostics_cost.py MinAtar/Breakout --repeats 3
    python benchmarks/diagnostics_cost.py Breakout-v5 --repeats 2

Levels take turns. A run is too short to see its own cadence, so the two parts are measured apart and put together: c,
the time of all but the probes for each update, and p, the time of a probe, after the run's first rollout. At the
interval of n updates that the level keeps by itself, training costs (n c + p) / (n c_off) - 1 more than without, c_off
from the same turn. Processor time, because other processes on the machine do not count in it. Each call replaces its
environment's part of benchmarks/results/diagnostics_cost.json.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stablegrad.agents.base import Batch
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import read_json, write_json
from stablegrad.runs.folder import RunFolder, describe_machine
from stablegrad.training.loop import Training
from stablegrad.training.probing import LIMIT, updates_between
from stablegrad.training.stop import StopRequest

RESULTS = Path("benchmarks/results/diagnostics_cost.json")
LEVELS = ("off", "light", "full")

MINATAR = {"num_envs": 64, "num_minibatches": 8, "total_timesteps": 10_240, "mlp_width": 256, "mlp_depth": 3}
ATARI = {"num_envs": 16, "num_minibatches": 4, "total_timesteps": 2048}
SHARED = {"num_steps": 32, "update_epochs": 2, "threads": 1, "checkpoint_every": 10**9}


class Timed(Training):
    """A run that keeps the processor time at the end of each rollout's updates, and that of each probe."""

    def __init__(self, config: RunConfig) -> None:
        self.marks: list[tuple[int, float, float]] = []
        self.probes: list[float] = []
        super().__init__(config)

    def _learn(self) -> None:
        before = self.learner.updates
        super()._learn()
        if self.learner.updates > before:
            self.marks.append((self.learner.updates, time.process_time(), sum(self.probes)))

    def _probe(self, seen: Sequence[Batch], before: nn.Module | None) -> None:
        start = time.process_time()
        super()._probe(seen, before)
        self.probes.append(time.process_time() - start)


def measure(env_id: str, level: str, seed: int) -> dict[str, float]:
    """Seconds for each update without probes, and for a probe behind the first, of one run."""
    settings = {**SHARED, **(MINATAR if env_id.startswith("MinAtar") else ATARI)}
    settings |= {"log_every": settings["num_envs"] * SHARED["num_steps"], "seed": seed}
    config = RunConfig.resolve("pqn", {**settings, "env_id": env_id, "diagnostics": level})
    with tempfile.TemporaryDirectory() as scratch, StopRequest() as stop:
        training = Timed(config)
        try:
            training.attach(RunFolder.create(Path(scratch) / "run", config))
            training.run(stop)
        finally:
            training.close()
    (first, began, probed), (last, ended, probed_in_all) = training.marks[0], training.marks[-1]
    update = (ended - began - (probed_in_all - probed)) / (last - first)
    return {"update": update, "probe": statistics.median(training.probes[1:] or [0.0])}


def costs(turn: Mapping[str, Mapping[str, float]], interval: Mapping[str, int]) -> dict[str, float]:
    """Of one turn: level -> additional time, as a share of that of training without diagnostics."""
    off = turn["off"]["update"]
    return {
        level: (turn[level]["update"] + turn[level]["probe"] / interval[level]) / off - 1
        for level in LEVELS
        if level != "off"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env_id")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape: dict[str, Any] = MINATAR if options.env_id.startswith("MinAtar") else ATARI
    minibatch = shape["num_envs"] * SHARED["num_steps"] // shape["num_minibatches"]
    rows = min(RunConfig.resolve("pqn", {"env_id": options.env_id}).run.diagnostics_batch, 2 * shape["num_envs"] * 32)
    interval = {level: updates_between(level, rows, minibatch) for level in LIMIT}
    turns = []
    for seed in range(options.repeats):
        turns.append({level: measure(options.env_id, level, seed) for level in LEVELS})
        print(seed, {level: f"{cost:.2%}" for level, cost in costs(turns[-1], interval).items()}, flush=True)
    found = [costs(turn, interval) for turn in turns]
    shares = [{lv: t[lv]["probe"] / (interval[lv] * t[lv]["update"] + t[lv]["probe"]) for lv in LIMIT} for t in turns]
    record = {
        "settings": {**SHARED, **shape},
        "updates_between_probes": interval,
        "additional_time": {lv: _spread([one[lv] for one in found]) for lv in LIMIT},
        "share_of_probes": {lv: _spread([one[lv] for one in shares]) for lv in LIMIT},
        "probe_in_updates": {lv: _spread([t[lv]["probe"] / t["off"]["update"] for t in turns]) for lv in LIMIT},
        "turns": turns,
        "machine": describe_machine(),
    }
    known = read_json(RESULTS) if RESULTS.exists() else {}
    write_json(RESULTS, {**known, options.env_id: record})
    for name in ("additional_time", "share_of_probes", "probe_in_updates"):
        print(name, record[name])


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    main()
