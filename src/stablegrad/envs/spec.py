"""What the environments of a run are, as one frozen record of flat flags. Torch-free.

A protocol is a named preset of the fields below; what is recorded is the fields, not the name alone.

- `published`: the published PQN and PPO, which ran on EnvPool: no-ops and FIRE after every lost life too. The rows
that EnvPool made up at automatic resets are not reproduced. Its scores are those of the exploring policy, whose final
epsilon is taken for evaluation.
- `machado2018`: Machado et al. (2018), with all 18 actions; epsilon of evaluation as in Dopamine.
- `cleanrl`: the wrappers of CleanRL's DQN and Rainbow (`NoFrameskip-v4`): a no-op, FIRE and action 2 after every
lost life.
- `atari100k`: Kaiser et al. (2020) as it is commonly run: a lost life is signalled, nothing is fired.

What is pressed after a lost life, and how, is in `presses.py`.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self

import gymnasium

from stablegrad.envs.arguments import as_texts
from stablegrad.envs.ids import Backend, EnvId, backend_of, parse
from stablegrad.envs.schedule import GameTask, equal_change_points, first_game, parse_schedule
from stablegrad.errors import UserError
from stablegrad.registry import is_user_file, load_user_object
from stablegrad.settings import annotations, coerce, setting
from stablegrad.text import quoted

_ATARI = {
    "frame_skip": 4,
    "frame_stack": 4,
    "full_action_space": False,
    "max_episode_steps": 27_000,
    "eval_max_episode_steps": 27_000,
    "reward_clip": True,
}

PROTOCOLS: dict[str, dict[str, Any]] = {
    "published": {
        **_ATARI,
        "repeat_action_probability": 0.0,
        "life_loss": "signal",
        "noop_max": 30,
        "fire_reset": True,
        "fire_after_life": True,
        "fire_sequence": "envpool",
        "eval_epsilon": 0.005,
    },
    "machado2018": {
        **_ATARI,
        "repeat_action_probability": 0.25,
        "life_loss": "none",
        "noop_max": 0,
        "fire_reset": False,
        "fire_after_life": False,
        "fire_sequence": "fire",
        "full_action_space": True,
        "eval_epsilon": 0.001,
    },
    "cleanrl": {
        **_ATARI,
        "repeat_action_probability": 0.0,
        "life_loss": "signal",
        "noop_max": 30,
        "fire_reset": True,
        "fire_after_life": True,
        "fire_sequence": "wrappers",
        "eval_epsilon": 0.01,
    },
    "atari100k": {
        **_ATARI,
        "repeat_action_probability": 0.0,
        "life_loss": "signal",
        "noop_max": 30,
        "fire_reset": False,
        "fire_after_life": False,
        "fire_sequence": "fire",
        "eval_epsilon": 0.001,
    },
}
"""Protocol of Atari -> field -> value. 27,000 agent steps are 108,000 frames, half an hour of play."""

_MINATAR: dict[str, Any] = {
    "repeat_action_probability": 0.1,
    "max_episode_steps": 10_000,
    "eval_max_episode_steps": 10_000,
    "reward_clip": False,
    "eval_epsilon": 0.0,
}

_GYM: dict[str, Any] = {
    "life_loss": "none",
    "max_episode_steps": None,
    "eval_max_episode_steps": None,
    "reward_clip": False,
    "eval_epsilon": 0.0,
    "env_kwargs": (),
    "wrapper": None,
    "image_layout": "auto",
    "check_bounds": True,
}


_EVERYWHERE = ("env_id", "task_schedule", "change_points")
"""Fields that apply to every back end."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """The environments, field by field. `EnvSpec.resolve` makes one from what a user gave.

    A field that does not apply to the back end keeps its neutral default, which is also the truth: CartPole
    has a frame skip of 1 and no sticky actions.
    """

    env_id: str = setting(
        "Breakout-v5",
        "an Atari game (Breakout-v5, ALE/Breakout-v5, BreakoutNoFrameskip-v4, breakout), MinAtar/Breakout"
        " (-v0 or nothing: 6 actions, -v1: those that do something), any Gymnasium id, or path/to/file.py:Name,"
        " a callable that returns a Gymnasium environment",
    )
    env_backend: Literal["auto", "envpool"] = setting(
        "auto", "auto: ale-py for Atari; envpool: EnvPool for Atari (an extra; runs do not resume exactly)"
    )
    protocol: Literal["published", "machado2018", "cleanrl", "atari100k"] | None = setting(
        None,
        "Atari: the preset of the fields below that are not given (none: published; elsewhere it has no use)",
    )
    repeat_action_probability: float = setting(
        0.0, "sticky actions: the chance that the last action is repeated (Atari: by protocol; MinAtar: 0.1)"
    )
    life_loss: Literal["none", "signal"] = setting(
        "none",
        "signal: a lost life ends the return that is learnt from, while the game plays on (by protocol)",
    )
    full_action_space: bool = setting(
        False, "Atari: all actions of the console (18; in Skiing 9), not those of the game alone (by protocol)"
    )
    noop_max: int = setting(0, "Atari: an episode begins with fewer than this many random no-op frames (by protocol)")
    fire_reset: bool = setting(False, "Atari: press FIRE at the start of an episode, where there is one (by protocol)")
    fire_after_life: bool = setting(
        False, "Atari: press FIRE for the agent after every lost life, in games that have it (by protocol)", since=2
    )
    fire_sequence: Literal["fire", "envpool", "wrappers"] = setting(
        "fire",
        "Atari: what is pressed then: fire: FIRE; envpool: fewer than --noop_max no-op frames, in whole steps, then"
        " FIRE; wrappers: a no-op, FIRE, action 2 (by protocol)",
        since=2,
    )
    frame_skip: int = setting(1, "Atari: frames per agent step, the newest two maximised (by protocol: 4)")
    frame_stack: int = setting(1, "Atari: newest frames in an observation (by protocol: 4)")
    max_episode_steps: int | None = setting(
        None,
        "agent steps after which an episode is cut (Atari: 27000, MinAtar: 10000, Gymnasium: the id's own)",
    )
    eval_max_episode_steps: int | None = setting(
        None, "the same for evaluation, so that a training limit does not cap the scores (defaults as above)"
    )
    mode: int | None = setting(
        None, "Atari: the game's mode, as its manual numbers them (none: 0, what everybody plays)", since=2
    )
    difficulty: int | None = setting(None, "Atari: the difficulty switch (none: 0)", since=2)
    env_kwargs: tuple[str, ...] = setting(
        (),
        "Gymnasium: arguments of the environment, key=value, separated by commas or given again and again; values as in"
        " TOML (5, 0.5, true, 'text', [1, 2]), other words are text",
        since=2,
    )
    wrapper: str | None = setting(
        None, "Gymnasium: path/to/file.py:f, which takes the environment and returns the one to play", since=2
    )
    image_layout: Literal["auto", "channels_first", "channels_last", "flat", "shorter"] = setting(
        "auto",
        "Gymnasium: which axis of an image (an array of three axes) its channels are; auto: told by the shape, and an"
        " error where it does not tell; flat: nothing is an image, every observation is one vector; shorter: as runs of"
        " the first version read it: bytes that are alone are an image, the shorter of its first and last axis the"
        " channels",
        since=2,
        before="shorter",
        renames=False,
    )
    check_bounds: bool = setting(
        True,
        "Gymnasium: an observation outside the bounds of its space ends the run (what is not finite always does)",
        identity=False,
        since=2,
        before=False,
    )
    reward_clip: bool = setting(False, "agents learn from rewards clipped to -1 … 1; scores stay raw (Atari: true)")
    eval_epsilon: float = setting(
        0.0,
        "chance of a uniform action in evaluation (published: .005, cleanrl: .01, others: .001; elsewhere 0)",
    )

    task_schedule: tuple[str, ...] = setting(
        (),
        "games that change while the agent learns: tasks GAME[+CHANGE…], separated by commas; changes are flip_reward,"
        " permute_actions:N, permute_obs:N and, for Atari, mode:M and difficulty:D. --env_id is the first game",
    )
    change_points: tuple[int, ...] | None = setting(
        None, "steps at which the tasks after the first begin (none: all tasks are equally long)"
    )

    def __post_init__(self) -> None:
        problems = _range_problems(dataclasses.asdict(self))
        if problems:
            raise UserError(problems)

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> Self:
        """Fill what `values` (flag name -> value; None or absent: unset) leaves open from the protocol.

        Keys that are no field are not looked at: they are other rooms' settings. Raises UserError with every
        problem at once; imports, but does not build, what the id names. Resolving twice changes nothing.
        """
        problems: list[str] = []
        given: dict[str, Any] = {}
        values = {**values, **_as_texts(values.get("env_kwargs"), problems)}
        for name, annotation in annotations(cls).items():
            if values.get(name) is None:
                continue
            try:
                given[name] = coerce(values[name], annotation)
            except ValueError as error:
                problems.append(f"--{name} {quoted(values[name])}: {error}")
        problems += _range_problems(given)
        tasks = _tasks(given, problems)
        env_id = _parsed(given, problems)
        if env_id is not None:
            preset = _preset(env_id, given.get("protocol"))
            if len({task.env_id for task in tasks}) > 1 and env_id.backend == "atari":
                preset = {**preset, "full_action_space": True}
            if given.get("fire_after_life", preset.get("fire_after_life")) is False:
                preset = {**preset, "fire_sequence": "fire"}
            problems += _inapplicable(cls, env_id, preset, given)
            problems += _envpool_problems(env_id, {**preset, **given})
            problems += _wrapper_problems(given.get("wrapper"))
            problems += _schedule_problems(env_id, tasks, preset, given)
        if problems or env_id is None:
            raise UserError(problems)
        named = {"env_id": env_id.text, "task_schedule": tuple(task.text for task in tasks)}
        return cls(**{**preset, **given, **named})

    def scheduled_over(self, total_steps: int, *, num_envs: int = 1) -> Self:
        """With change points for a run of so many steps: those given, or equal parts. Nothing without a schedule.

        Raises UserError where they do not fit tasks and run, or a task ends before every environment made a step.
        """
        if not self.task_schedule:
            return self
        points, changes = self.change_points, len(self.task_schedule) - 1
        if points is None:
            points = equal_change_points(len(self.task_schedule), total_steps)
        problems = []
        if len(points) != changes:
            problems.append(f"--change_points has {len(points)} steps, the schedule's tasks begin at {changes}")
        shortest = min(later - earlier for earlier, later in pairwise((0, *points, total_steps)))
        if shortest <= 0:
            problems.append(f"--change_points {points} are not rising steps inside a run of {total_steps}")
        elif shortest < num_envs:
            problems.append(
                f"a task of {shortest} steps is over before each of {num_envs} environments has made one: move"
                " --change_points apart, or lower --num_envs"
            )
        if problems:
            raise UserError(problems)
        return dataclasses.replace(self, change_points=points)

    @cached_property
    def tasks(self) -> tuple[GameTask, ...]:
        """The tasks of the schedule; none without one."""
        return parse_schedule(self.task_schedule) if self.task_schedule else ()

    def task_at(self, step: int) -> int:
        """The task (from 0) that the agent step number `step` (from 0) belongs to."""
        return sum(point <= step for point in self.change_points or ())

    def task_behind(self, step: int, *, num_envs: int) -> int | None:
        """The task (from 0) of the vector step of `num_envs` that ended at `step`; None without a schedule."""
        return self.task_at(max(0, step - num_envs)) if self.task_schedule else None

    @property
    def game(self) -> str:
        """The environment, and the switches of the console where they are set: `Breakout-v5+mode:12`."""
        return GameTask(env_id=self.env_id, mode=self.mode, difficulty=self.difficulty).text

    @property
    def backend(self) -> Backend:
        """The module of this package that builds the environments."""
        return "envpool" if self.env_backend == "envpool" else backend_of(self.env_id)

    def for_evaluation(self) -> Self:
        """The same environments under the time limit of evaluation."""
        return dataclasses.replace(self, max_episode_steps=self.eval_max_episode_steps)


def _tasks(given: Mapping[str, Any], problems: list[str]) -> tuple[GameTask, ...]:
    try:
        return parse_schedule(given["task_schedule"]) if given.get("task_schedule") else ()
    except UserError as error:
        problems.extend(error.problems)
        return ()


def _schedule_problems(
    env_id: EnvId, tasks: Sequence[GameTask], preset: Mapping[str, Any], given: Mapping[str, Any]
) -> list[str]:
    """What does not fit together in a schedule and the fields beside it."""
    fields = {**preset, **given}
    if not tasks:
        alone = fields.get("change_points") and not fields.get("task_schedule")
        return ["--change_points needs a --task_schedule"] if alone else []
    problems = []
    games = list(dict.fromkeys(task.env_id for task in tasks))
    if env_id.text != games[0]:
        problems.append(f"--env_id {env_id.text} is not the first game of --task_schedule, {games[0]}: leave it out")
    problems += [
        f"--{name} {fields[name]}: say it in the tasks of --task_schedule ({games[0]}+{name}:{fields[name]})"
        for name in ("mode", "difficulty")
        if fields.get(name) is not None
    ]
    if env_id.backend == "atari" and fields["env_backend"] == "envpool":
        problems.append("--env_backend envpool knows no --task_schedule: leave it out")
    if env_id.backend == "atari" and len(games) > 1 and not fields["full_action_space"]:
        problems.append("--full_action_space false: the games of the schedule would have different actions")
    limits = {_preset(parse(game), None)["max_episode_steps"] for game in games}
    if len(limits) > 1 and "max_episode_steps" not in given:
        problems.append("the games of the schedule have different time limits: give one with --max_episode_steps")
    return problems


def _parsed(given: Mapping[str, Any], problems: list[str]) -> EnvId | None:
    if given.get("task_schedule") and "env_id" not in given:
        given = {"env_id": first_game(given["task_schedule"])}
    try:
        return parse(given.get("env_id", EnvSpec.env_id))
    except UserError as error:
        problems.extend(error.problems)
        return None


def _preset(env_id: EnvId, protocol: str | None) -> dict[str, Any]:
    """What holds where the user says nothing. Its keys are the fields that apply to the back end."""
    if env_id.backend == "atari":
        name = protocol or "published"
        return {"env_backend": "auto", "protocol": name, "mode": None, "difficulty": None, **PROTOCOLS[name]}
    if env_id.backend == "minatar":
        return _MINATAR
    if env_id.backend == "file":
        return _GYM
    limit = gymnasium.registry[env_id.text.rpartition(":")[2]].max_episode_steps
    return {**_GYM, "max_episode_steps": limit, "eval_max_episode_steps": limit}


def _inapplicable(cls: type[EnvSpec], env_id: EnvId, preset: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    neutral = {field.name: field.default for field in dataclasses.fields(cls)}
    return [
        f"--{name} does not apply to {env_id.text}: leave it out"
        for name, value in given.items()
        if name not in (*preset, *_EVERYWHERE) and value != neutral[name]
    ]


def _as_texts(given: Any, problems: list[str]) -> dict[str, Any]:
    """`env_kwargs` in the one way to write them, whether a table, a list or text was given."""
    try:
        return {} if given is None else {"env_kwargs": as_texts(given)}
    except UserError as error:
        problems.extend(error.problems)
        return {"env_kwargs": None}


def _wrapper_problems(wrapper: str | None) -> list[str]:
    if wrapper is None:
        return []
    if not is_user_file(wrapper):
        return [f"--wrapper {wrapper}: say path/to/file.py:name"]
    try:
        found = load_user_object(wrapper)
    except UserError as error:
        return [f"--wrapper: {problem}" for problem in error.problems]
    return [] if callable(found) else [f"--wrapper {wrapper} is a {type(found).__name__}, not a function"]


def _envpool_problems(env_id: EnvId, fields: Mapping[str, Any]) -> list[str]:
    if env_id.backend != "atari" or fields["env_backend"] != "envpool":
        return []
    problems = []
    if importlib.util.find_spec("envpool") is None:
        problems.append("--env_backend envpool: EnvPool is not installed (pip install 'stablegrad[envpool]')")
    problems += [
        f"--env_backend envpool cannot set --{name}: leave one of them out"
        for name in ("mode", "difficulty")
        if fields.get(name) is not None
    ]
    if fields["noop_max"] == 0:
        problems.append("--noop_max 0: EnvPool plays at least one frame at a reset (--noop_max 1)")
    return problems


def _range_problems(fields: Mapping[str, Any]) -> list[str]:
    """What is wrong with numbers that are out of range, and with presses that nothing asks for, one sentence each."""
    problems = []
    if fields.get("fire_after_life") is False and fields.get("fire_sequence", "fire") != "fire":
        problems.append(f"--fire_sequence {fields['fire_sequence']} needs --fire_after_life true")
    for name in ("repeat_action_probability", "eval_epsilon"):
        if name in fields and not 0 <= fields[name] <= 1:
            problems.append(f"--{name} {fields[name]}: must be a probability, 0 to 1")
    least = {
        "noop_max": 0,
        "frame_skip": 1,
        "frame_stack": 1,
        "max_episode_steps": 1,
        "eval_max_episode_steps": 1,
        "mode": 0,
        "difficulty": 0,
    }
    for name, minimum in least.items():
        if fields.get(name) is not None and fields[name] < minimum:
            problems.append(f"--{name} {fields[name]}: must be at least {minimum}")
    return problems
