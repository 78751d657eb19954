"""Milliseconds per update of five seeds: side by side (`--seeds 5`) against one run after the other.

    python benchmarks/stacked_seeds.py --threads 2 --json benchmarks/results/stacked_seeds.json

Both are real trainings in run folders (gradient norms by layer, rows, the check for non-finite numbers); evaluations
are left out on both sides. One after the other costs five times what one run's update costs. Rounds alternate, and the
fastest of each is printed: a busy machine then treats both alike. `--cpu_time` counts the process's own seconds instead
of the clock's, which only makes sense with one thread.
"""

import argparse
import itertools
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.seeds import StackedTraining, seed_configs
from stablegrad.supervised.training import SupervisedTraining

SEEDS = 5
ARMS = {
    "plain, adam": {"mlp_type": "default", "optimizer": "adam"},
    "multi-skip, norm, adam": {"mlp_type": "multiskip_residual", "use_ln": True, "optimizer": "adam"},
    "multi-skip, norm, kron": {"mlp_type": "multiskip_residual", "use_ln": True, "optimizer": "kron"},
}


def best_of(
    loops: dict[str, Callable[[], None]], rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, float]:
    """The fewest seconds per call of each loop."""
    best = dict.fromkeys(loops, float("inf"))
    for advance in loops.values():
        for _ in range(3):
            advance()
    for _ in range(rounds):
        for name, advance in loops.items():
            start = clock()
            for _ in range(steps):
                advance()
            best[name] = min(best[name], (clock() - start) / steps)
    return best


def measure(settings: dict[str, object], args: argparse.Namespace, folder: Path) -> dict[str, float]:
    base = {"batch_size": args.batch_size, "epochs": 10_000, "eval_epochs": 10_000, "log_every": 100, "seeds": SEEDS}
    config = RunConfig.resolve("cifar", {**base, **settings, "device": args.device})
    configs = seed_configs(config)
    together, alone = StackedTraining(configs), SupervisedTraining(config)
    together.attach([RunFolder.create(folder / str(one.run.seed), one) for one in configs])
    alone.attach(RunFolder.create(folder / "alone", config))
    for member in together.members:
        member.begin()
    clock = time.process_time if args.cpu_time else time.perf_counter
    best = best_of(
        {"together": together._advance, "one": alone._advance}, rounds=args.rounds, steps=args.steps, clock=clock
    )
    together.close()
    alone.close()
    in_turn = SEEDS * best["one"]
    return {
        "in turn": round(in_turn * 1e3, 2),
        "side by side": round(best["together"] * 1e3, 2),
        "ratio": round(in_turn / best["together"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=5, help="of each loop in each round")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--datasets", nargs="+", default=["digits", "fashion_mnist"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--cpu_time", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "device": args.device,
        "threads": args.threads,
        "clock": "processor time" if args.cpu_time else "wall",
        "batch_size": args.batch_size,
        "unit": f"ms per update of all {SEEDS} seeds, the fastest of the rounds",
        "cases": [],
    }
    cells = itertools.product(args.datasets, args.arms, args.widths, args.depths)
    with tempfile.TemporaryDirectory() as folder:
        for number, (dataset, arm, width, depth) in enumerate(cells):
            cell = {"dataset": dataset, "cnn_type": "none", "mlp_width": width, "mlp_depth": depth}
            times = measure({**cell, **ARMS[arm]}, args, Path(folder) / str(number))
            record["cases"].append({**cell, "arm": arm, **times})
            print(f"{dataset}, {arm}, width {width}, depth {depth}: {times}", flush=True)
            if args.json:  # after every case: what was measured stands, whatever comes next
                args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
