"""The grammar of `--task_schedule`: which games follow each other, and what is changed about each. Torch-free.

A schedule is a list of tasks (separated by commas on the command line, a list in TOML), each `GAME[+CHANGE…]`:

    MinAtar/Breakout, MinAtar/Asterix, MinAtar/Breakout
    MinAtar/Breakout, MinAtar/Breakout+flip_reward, MinAtar/Breakout+permute_actions:1+permute_obs:7
    Breakout-v5, Breakout-v5+mode:12+difficulty:1

The changes:

flip_reward         every reward changes its sign, and so does the score.
permute_actions:N   button k does what button pi(k) did; N (0 or more) names the permutation pi.
permute_obs:N       the places of an image [C, H, W], or the entries of a vector, are shown in another order.
mode:M              Atari: the game's mode, as its manual numbers them (0 is what everybody plays).
difficulty:D        Atari: the difficulty switch.

A task is what its text says and nothing else: the same text later in the schedule is the same task again, for every
seed of a run.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stablegrad.envs.ids import parse
from stablegrad.errors import UserError, nearest

NUMBERED = ("permute_actions", "permute_obs", "mode", "difficulty")
CHANGES = ("flip_reward", *NUMBERED)


@dataclass(frozen=True, kw_only=True)
class GameTask:
    """One task of a schedule: a game in its canonical spelling, and what is changed about it."""

    env_id: str
    flip_reward: bool = False
    permute_actions: int | None = None
    permute_obs: int | None = None
    mode: int | None = None
    difficulty: int | None = None

    @property
    def text(self) -> str:
        """The one way to write the task."""
        numbers = [(name, getattr(self, name)) for name in NUMBERED]
        changes = ["flip_reward"] if self.flip_reward else []
        return "+".join([self.env_id, *changes, *(f"{name}:{n}" for name, n in numbers if n is not None)])

    @property
    def asks_of_console(self) -> bool:
        """Whether it sets a switch of the Atari console."""
        return self.mode is not None or self.difficulty is not None


def parse_task(text: str) -> GameTask:
    """The task that `text` names. Raises UserError with everything that is wrong with it."""
    game, *changes = (part.strip() for part in text.split("+"))
    problems: list[str] = []
    backend = None
    try:
        game, backend = parse(game)
    except UserError as error:
        problems += [f"task '{text}': {problem}" for problem in error.problems]
    found: dict[str, Any] = {}
    for change in changes:
        name, colon, number = change.partition(":")
        if name not in CHANGES:
            problems.append(f"task '{text}': unknown change '{name}'{nearest(name, CHANGES)}; {_known()}")
        elif name in found:
            problems.append(f"task '{text}': {name} is there twice")
        elif name == "flip_reward":
            found[name] = True
            if colon:
                problems.append(f"task '{text}': flip_reward takes no number")
        elif not number.isascii() or not number.isdigit():
            problems.append(f"task '{text}': {name} needs a number of 0 or more, as in {name}:1")
        else:
            found[name] = int(number)
    if backend not in (None, "atari"):
        problems += [
            f"task '{text}': {name} is a switch of the Atari console, which {game} has not"
            for name in ("mode", "difficulty")
            if name in found
        ]
    if problems:
        raise UserError(problems)
    return dataclasses.replace(GameTask(env_id=game), **found)


def parse_schedule(texts: Sequence[str]) -> tuple[GameTask, ...]:
    """The tasks of a schedule. Raises UserError with every problem of every task, and of all of them together."""
    tasks, problems = [], []
    for text in texts:
        try:
            tasks.append(parse_task(text))
        except UserError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if len(tasks) > 1 or not problems:
        problems += _together(tasks)
    if problems:
        raise UserError(problems)
    return tuple(tasks)


def first_game(texts: Sequence[str]) -> str:
    """The game that a schedule begins with, as it is written there."""
    return texts[0].partition("+")[0].strip()


def equal_change_points(tasks: int, total_steps: int) -> tuple[int, ...]:
    """The steps at which tasks 2 … n begin when all are equally long.

    >>> equal_change_points(4, 1000)
    (250, 500, 750)
    """
    return tuple(task * total_steps // tasks for task in range(1, tasks))


def _together(tasks: Sequence[GameTask]) -> list[str]:
    if len(tasks) < 2:
        return ["--task_schedule needs at least two tasks, separated by commas"]
    games = list(dict.fromkeys(task.env_id for task in tasks))
    backends = {parse(game).backend for game in games}
    if len(backends) > 1:
        return [f"--task_schedule mixes {' and '.join(sorted(backends))} games: they have no observations in common"]
    if len(games) > 1 and backends == {"minatar"} and any(game.endswith("-v1") for game in games):
        return ["--task_schedule: the buttons of -v1 differ from game to game; leave -v1 out, and all games have six"]
    return []


def _known() -> str:
    return "known: flip_reward, " + ", ".join(f"{name}:N" for name in NUMBERED)
