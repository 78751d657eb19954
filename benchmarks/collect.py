"""A set of run folders as one small file: what each run was, its curve, its final score.

    python benchmarks/collect.py runs/demo_500k --json benchmarks/results/demo_500k.json

Prints a table of arms: the mean over seeds of each run's mean over its last 200 training games (whole games, raw,
exploration included), every seed's own figure, and the 95 % percentile bootstrap interval over seeds.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from stablegrad.reports.arms import study
from stablegrad.reports.load import RunRecord, load_runs
from stablegrad.reports.stats import bootstrap_interval
from stablegrad.runs.files import read_json, read_lines

LAST_GAMES = 200
CURVE_POINTS = 40


def summary(run: RunRecord) -> dict:
    games = list(read_lines(run.path / "episodes.jsonl"))
    scores = np.array([game["score"] for game in games])
    steps = np.array([game["step"] for game in games])
    edges = np.linspace(0, run.config["total_timesteps"], CURVE_POINTS + 1)
    bins = [scores[(steps > low) & (steps <= high)] for low, high in itertools.pairwise(edges)]
    rows = list(read_lines(run.path / "metrics.jsonl"))
    names = dict.fromkeys(name for row in rows for name in row)  # a row without an update holds no norms
    raw = [name for name in names if name.startswith("gradients/raw/") and name != "gradients/raw/total"]
    return {
        "seed": run.config["seed"],
        "state": read_json(run.path / "status.json")["state"],
        "step": rows[-1]["step"],
        "updates": rows[-1]["update"],
        "minutes": round(rows[-1]["seconds"] / 60, 2),
        "games": len(scores),
        "final_score": float(scores[-LAST_GAMES:].mean()),
        "curve": [round(float(part.mean()), 3) if len(part) else None for part in bins],
        "gradient_norms": {name: float(np.mean([row[name] for row in rows if name in row])) for name in raw},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    compared = study([run for run in load_runs(arguments.runs) if (run.path / "episodes.jsonl").exists()])
    record = {"shared": compared.shared, "score": f"mean of the last {LAST_GAMES} training games", "arms": []}
    print("| arm | mean | 95 % interval | each seed |\n|---|---|---|---|")
    for arm in compared.arms:
        for task in compared.tasks:
            finished = [run for run in map(summary, arm.on(task)) if run["state"] == "done"]
            if not finished:
                continue
            scores = np.array([run["final_score"] for run in finished])
            interval = bootstrap_interval(scores[:, None], lambda s: s.mean((-2, -1)), rng=np.random.default_rng(0))
            shown = f"{interval.low:.2f} to {interval.high:.2f}" if len(scores) > 1 else "one seed"
            print(f"| {arm.label} | {scores.mean():.2f} | {shown} | {', '.join(f'{s:.2f}' for s in scores)} |")
            record["arms"].append({"label": arm.label, "task": task, "settings": arm.settings, "runs": finished})
    first = next(iter(compared.runs))
    manifest = read_json(first.path / "manifest.json")
    record["machine"] = {key: manifest[key] for key in manifest if key not in ("command", "host")}
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
