"""`stablegrad eval RUN`."""

import json
import sys

from stablegrad import api
from stablegrad.commands.parsing import Parser
from stablegrad.errors import DONE, UserError
from stablegrad.tables.scores import normaliser


def main(argv: list[str]) -> int:
    parser = Parser(
        "eval",
        "Play whole games with a run's newest checkpoint, on environments and seeds of their own; raw scores.",
        example="stablegrad eval runs/pqn-Breakout-1-0123456789 --episodes 30 --seed 7",
    )
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--episodes", type=int, default=30, help="whole games to play [30]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the games [0]")
    parser.add_argument("--epsilon", type=float, help="chance of a uniform action [the protocol's]")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every score")
    arguments = parser.parse(argv)
    problems = []
    if arguments.episodes < 1:
        problems.append(f"--episodes {arguments.episodes}: must be at least 1")
    if arguments.seed < 0:
        problems.append(f"--seed {arguments.seed}: must not be negative")
    if arguments.epsilon is not None and not 0 <= arguments.epsilon <= 1:
        problems.append(f"--epsilon {arguments.epsilon}: must be between 0 and 1")
    if problems:
        raise UserError(problems)

    run = api.load_run(arguments.run)
    result = run.evaluate(episodes=arguments.episodes, seed=arguments.seed, epsilon=arguments.epsilon)
    summary = result.summary()
    assert run.config.env is not None
    normalise = normaliser(run.config.env.env_id)
    if normalise is not None:
        summary["mean_hns"] = normalise(summary["mean"])
    if arguments.json:
        json.dump({"run": str(run.path), **summary, **result.record()}, sys.stdout)
        print()
    else:
        for name, value in summary.items():
            print(f"{name}: {value:.4g}" if abs(value) < 1 else f"{name}: {value:.2f}")
        print(f"episodes: {arguments.episodes}", f"epsilon: {result.epsilon}", f"seed: {result.seed}", sep="\n")
    return DONE
