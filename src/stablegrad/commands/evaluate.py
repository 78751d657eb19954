"""`stablegrad eval RUN`."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from stablegrad import api
from stablegrad.commands.parsing import Parser, add_trust, finite, whole
from stablegrad.commands.progress import EvaluationLine
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import DONE, FAILED, UserError
from stablegrad.tables.scores import normaliser
from stablegrad.text import say
from stablegrad.training.session import RunFailed


def main(argv: list[str]) -> int:
    parser = Parser(
        "eval",
        "Play whole games with a run's newest checkpoint, on environments and seeds of their own; raw scores."
        " What comes of it is recorded in the run's evaluations.jsonl, and reports show it."
        " A run with a task schedule is judged on each of its tasks. A run on images is judged on the task it stands"
        " at: accuracies.",
        example="stablegrad eval runs/pqn-Breakout-1-0123456789 --episodes 30 --seed 7",
    )
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--episodes", type=whole, help="whole games to play [30]")
    parser.add_argument("--seed", type=whole, help="seed of the games [0]")
    parser.add_argument("--epsilon", type=finite, help="chance of a uniform action [the protocol's]")
    parser.add_argument(
        "--max_episode_steps", type=whole, help="agent steps after which an episode is ended [the protocol's, or 27000]"
    )
    parser.add_argument("--no_record", action="store_true", help="write nothing into the run's folder")
    parser.add_argument("--task", type=whole, help="of a task schedule only this one, counted from 1 [each of them]")
    parser.add_argument("--video", metavar="FILE", help="also draw the first of the games: a name in .mp4 or .gif")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every score")
    add_trust(parser)
    arguments = parser.parse(argv)
    problems = []
    if arguments.episodes is not None and arguments.episodes < 1:
        problems.append(f"--episodes {arguments.episodes}: must be at least 1")
    if arguments.seed is not None and arguments.seed < 0:
        problems.append(f"--seed {arguments.seed}: must be 0 or more")
    if arguments.epsilon is not None and not 0 <= arguments.epsilon <= 1:
        problems.append(f"--epsilon {arguments.epsilon}: must be between 0 and 1")
    if arguments.max_episode_steps is not None and arguments.max_episode_steps < 1:
        problems.append(f"--max_episode_steps {arguments.max_episode_steps}: must be at least 1")
    if problems:
        raise UserError(problems)

    run = api.load_run(arguments.run, trust=arguments.trust)
    if run.config.env is None:
        return _judge_classifier(run, arguments)
    unrecorded: list[str] = []
    try:
        judged = [
            _judge_agent(run, run.config.env, task, arguments, unrecorded)
            for task in _tasks(run.config.env, arguments.task)
        ]
    except RunFailed as error:
        return _conclude(str(error))
    if arguments.json:
        found = {"tasks": judged} if len(judged) > 1 else judged[0]
        say(json.dumps({"run": str(run.path), **found}))
    else:
        say("\n\n".join(map(_lines, judged)))
    return _conclude(next(iter(unrecorded), None))


def _tasks(env: EnvSpec, chosen: int | None) -> list[int | None]:
    """The tasks to play, from 1: the chosen one, or each of a schedule once, however often it comes back."""
    if chosen is not None or not env.task_schedule:
        return [chosen]
    return [env.task_schedule.index(task) + 1 for task in dict.fromkeys(env.task_schedule)]


def _judge_agent(
    run: api.Run, env: EnvSpec, task: int | None, arguments: argparse.Namespace, unrecorded: list[str]
) -> dict[str, Any]:
    """The scores of a run's newest checkpoint, and what they come to; why they are `unrecorded`, if they are."""
    episodes = 30 if arguments.episodes is None else arguments.episodes
    line = EvaluationLine(episodes)
    try:
        result = run.evaluate(
            episodes=episodes,
            seed=arguments.seed or 0,
            epsilon=arguments.epsilon,
            task=task,
            max_episode_steps=arguments.max_episode_steps,
            video=arguments.video,
            progress=line,
            record=not arguments.no_record,
        )
    except api.Unrecorded as error:
        unrecorded.append(str(error))
        result = error.evaluation
    finally:
        line.close()
    named = (
        {"step": result.step}
        if task is None
        else {"step": result.step, "task": task, "game": env.task_schedule[task - 1]}
    )
    summary = result.summary()
    normalise = None if env.task_schedule else normaliser(env.game)
    if normalise is not None:
        summary["mean_hns"] = normalise(summary["mean"])
    return {**named, **summary, **result.record()}


def _lines(judged: Mapping[str, Any]) -> str:
    """One `name: value` a line, single scores and lengths left out."""
    lines = []
    for name, value in judged.items():
        if name == "scores":
            lines.append(f"episodes: {len(value)}")
        elif name == "capped":
            lines.append(f"capped: {value} of {len(judged['scores'])} episodes")
        elif name in ("step", "task", "game", "epsilon", "seed", "max_episode_steps"):
            lines.append(f"{name}: {value}")
        elif name not in ("lengths", "idle_steps"):
            lines.append(f"{name}: {value:.4g}" if abs(value) < 1 else f"{name}: {value:.2f}")
    return "\n".join(lines)


def _judge_classifier(run: api.Run, arguments: argparse.Namespace) -> int:
    """Accuracies of a supervised run's newest checkpoint, on all images of the task it stands at."""
    options = ("episodes", "seed", "epsilon", "max_episode_steps", "task", "video")
    games = [name for name in options if getattr(arguments, name) is not None]
    if games:
        raise UserError([f"--{name} is for games: {run.path} was trained on images" for name in games])
    unrecorded = None
    try:
        found = run.judge(record=not arguments.no_record)
    except api.Unrecorded as error:
        found, unrecorded = error.evaluation, str(error)
    if arguments.json:
        say(json.dumps({"run": str(run.path), **found}))
    else:
        images = found.pop("images")
        say(*(f"{name}: {value:.4g}" for name, value in found.items()), f"images: {images}")
    return _conclude(unrecorded)


def _conclude(error: str | None) -> int:
    """The exit code; what went wrong, if something did."""
    if error is None:
        return DONE
    say(f"error: {error}", file=sys.stderr)
    return FAILED
