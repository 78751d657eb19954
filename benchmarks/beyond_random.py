"""Does what was trained play better than chance? Each run's newest checkpoint beside random play, on the same games.

    python benchmarks/beyond_random.py runs/atari_agents --json benchmarks/results/atari_agents.json

30 whole games each, raw scores; exploration as the run's config says it for evaluation, and 1 for random play. The
intervals are percentile bootstraps over games (95 %, 20,000 resamples) and say nothing about other seeds of training.
A run learned where its interval lies wholly above that of random play; otherwise it 'did not learn in this budget'.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import stablegrad
from stablegrad.reports.arms import study
from stablegrad.reports.load import load_runs
from stablegrad.reports.stats import bootstrap_interval

RESAMPLES = 20_000


def measured(scores: list[float]) -> dict[str, Any]:
    """Mean and 95 % interval over the games, each of which counts as a run."""
    games, rng = np.array(scores)[:, None], np.random.default_rng(0)
    low, high, mean = bootstrap_interval(games, lambda s: s.mean((-2, -1)), rng=rng, resamples=RESAMPLES)
    return {"mean": float(mean), "interval": [float(low), float(high)], "scores": scores}


def words(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    return f"{result['mean']:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    play = {"episodes": arguments.episodes, "seed": arguments.seed}
    record: list[dict[str, Any]] = []
    print("| agent | seed | steps | evaluation | random play | |\n|---|---|---|---|---|---|")
    for arm in study([run for run in load_runs(arguments.runs) if run.state in ("done", "stopped")]).arms:
        for run in sorted(arm.runs, key=lambda run: run.config["seed"]):
            trained = stablegrad.load_run(run.path)
            results = {
                "evaluation": measured(trained.evaluate(**play).scores),
                "random": measured(trained.evaluate(**play, epsilon=1.0).scores),
            }
            learned = results["evaluation"]["interval"][0] > results["random"]["interval"][1]
            steps = trained.status["step"]
            record.append({"config": trained.config.flat(), "steps": steps, "learned": learned, **results})
            print(
                f"| {arm.label} | {run.config['seed']} | {steps:,} | {words(results['evaluation'])}"
                f" | {words(results['random'])} | {'learns' if learned else 'did not learn in this budget'} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({**play, "runs": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
