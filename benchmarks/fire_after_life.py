"""Breakout with and without FIRE pressed after every lost life: training scores by window, and an evaluation.

    python benchmarks/fire_after_life.py run pqn --seed 1 --stop_at 500000 --out runs/fire
    python benchmarks/fire_after_life.py run pqn --seed 1 --stop_at 500000 --out runs/fire --without
    python benchmarks/fire_after_life.py table runs/fire --json benchmarks/results/fire_after_life.json

Every run is planned for a million steps with the published defaults, on one thread, and stopped on the way; asked for
again, it goes on. Training scores are of whole episodes, raw, exploration included. The evaluation plays 30 episodes
with the checkpoint at the end of the run, each run under the handling of lost lives that it was trained with.
"""

import argparse
import itertools
import json
import os
import signal
from pathlib import Path

import numpy as np

from stablegrad.api import load_run, resolve, resume, train
from stablegrad.reports.load import find_runs
from stablegrad.runs.files import read_json, read_lines
from stablegrad.training.recorder import Observer

PLANNED = 1_000_000
EDGES = [0, 25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 350, 400, 450, 500]
"""Of the windows, in thousands of steps."""


class StopAt(Observer):
    """Asks the run to stop, as Ctrl-C would, at the first progress at or after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_progress(self, step: int, total: int) -> None:
        if step >= self.step:
            os.kill(os.getpid(), signal.SIGTERM)
            self.step = total + 1  # once: a second signal would not wait for the checkpoint


def run(arguments: argparse.Namespace) -> None:
    values = {"algo": arguments.algo, "env_id": "Breakout-v5", "seed": arguments.seed, "total_timesteps": PLANNED}
    values |= {"threads": 1, "checkpoint_every": 100_000}
    if arguments.without:
        values["fire_after_life"] = False
    if arguments.algo in ("dqn", "rainbow"):
        values["buffer_size"] = max(arguments.stop_at, 10_000)  # none of its transitions is ever overwritten
    config = resolve(values)
    path = arguments.out / config.name
    stop = StopAt(arguments.stop_at)
    found = resume(path, observers=[stop]) if path.exists() else train(config, run_dir=path, observers=[stop])
    print(found.path, found.status)


def cell(path: Path) -> dict:
    """One run as the table shows it."""
    config = read_json(path / "config.json")
    episodes = list(read_lines(path / "episodes.jsonl"))
    step = np.array([episode["step"] for episode in episodes]) / 1000
    score = np.array([episode["score"] for episode in episodes])
    length = np.array([episode["length"] for episode in episodes])
    windows = {}
    for low, high in itertools.pairwise(EDGES):
        inside = (step > low) & (step <= high)
        if inside.any() and high <= step[-1] + 1:
            windows[f"{low}-{high}"] = {
                "score": round(float(score[inside].mean()), 3),
                "length": round(float(length[inside].mean()), 1),
                "episodes": int(inside.sum()),
            }
    played = load_run(path)
    evaluation = played.evaluate(episodes=30, seed=7)
    summary = evaluation.summary()
    return {
        "algo": config["algo"],
        "seed": config["seed"],
        "fire_after_life": config.get("fire_after_life", False),
        "step": played.status["step"],
        "windows": windows,
        "evaluation": {**{name: round(value, 4) for name, value in summary.items()}, **evaluation.record()},
        "machine": {key: read_json(path / "manifest.json")[key] for key in ("cpu", "torch", "ale-py", "stablegrad")},
    }


def table(arguments: argparse.Namespace) -> None:
    cells = [cell(path) for path in find_runs(arguments.runs)]
    cells.sort(key=lambda one: (one["algo"], one["seed"], not one["fire_after_life"]))
    heads = [f"{one['algo']} {one['seed']} {'with' if one['fire_after_life'] else 'without'}" for one in cells]
    print("| steps, thousands |", " | ".join(heads), "|")
    print("|---" * (len(cells) + 1) + "|")
    for low, high in itertools.pairwise(EDGES):
        found = [one["windows"].get(f"{low}-{high}") for one in cells]
        if any(found):
            row = [f"{each['score']:.2f} ({each['length']:.0f})" if each else "" for each in found]
            print(f"| {low} to {high} |", " | ".join(row), "|")
    for name, of in (
        ("stopped at", lambda one: f"{one['step']:,}"),
        (
            "evaluation: mean ± standard error",
            lambda one: "{mean:.2f} ± {standard_error:.2f}".format(**one["evaluation"]),
        ),
        ("evaluation: idle steps", lambda one: f"{one['evaluation']['idle_share']:.1%}"),
    ):
        print(f"| {name} |", " | ".join(map(of, cells)), "|")
    if arguments.json:
        arguments.json.write_text(json.dumps({"cells": cells}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("algo", choices=("pqn", "ppo", "dqn", "rainbow"))
    running.add_argument("--seed", type=int, default=1)
    running.add_argument("--stop_at", type=int, required=True)
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--without", action="store_true", help="FIRE is not pressed after a lost life")
    running.set_defaults(call=run)
    tabling = commands.add_parser("table")
    tabling.add_argument("runs", nargs="+", type=Path)
    tabling.add_argument("--json", type=Path)
    tabling.set_defaults(call=table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
