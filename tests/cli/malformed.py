"""Malformed command lines over every command, from a seed.

A line has one to three things wrong with it, or by chance none: what a command does with it is for the tests to say.
The files that lines name are those of `malformed_world`.
"""

import itertools
import random
import types
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

from malformed_world import BASE, World

from stablegrad.agents import agent_kind
from stablegrad.cli import COMMANDS
from stablegrad.runs.config import section_types
from stablegrad.settings import annotations

Decks = dict[str, list[str]]

# Sizes are small, or impossible: between the two lies what a machine can do, slowly.
WHOLE = [
    "-1", "0", "1", "2", "3", "-0", "1.5", "1e1", "1e400", "nan", "inf", "-inf", "0x10", "1_0", "ten", "1,2", "[]",
    "{}", "true", "none", "18446744073709551615", "18446744073709551616", "-18446744073709551616", "1" + 29 * "0",
    "100000000", "1000000000000", "", " ", "٣", "--3", "9" * 400,
]  # fmt: skip
# Where a large number means long work: none between what ends soon and what 64 bits do not hold.
SHORT = [text for text in WHOLE if not text.startswith("1") or len(text) < 4 or len(text) > 20]
FRACTIONS = [
    "-1", "0", "0.5", "1", "1.5", "-0.0", "1e-300", "1e300", "1e400", "nan", "inf", "-inf", "NaN", "Infinity", "none",
    "half", "1,5", "0x1p3", "", "٠.٥",
]  # fmt: skip
WORDS = [
    "", " ", "none", "x", "Ä", "-", "--", "true", "a,b", "a:b", "a.py:b", "../..", "$\\frac{$", "[/bold]", "%s",
    '"><img src=x>', "=1+1", "\x1b[31mred", "\udcff\udcfe", "x" * 5000, "None", "🦙", "\n", "os:system", ".py:x",
]  # fmt: skip
GAMES = [
    "CartPole-v1", "CartPole-v9", "MinAtar/Breakout", "MinAtar/", "Breakout-v5+mode:x", "+", "nothing:Env-v0",
    ".x:Env-v0",
]  # fmt: skip
PATHS = [
    "nowhere", "file", "file/below", "folder", ".", "", "/proc/nothing", "/dev/null", "good/config.json", "x" * 300,
    "x" * 250, "d/" * 2100, "\udcff", "[/bold]", "\x1b[31m", "-", "~", "good/../good", "good", "a\nb", "~nobody/x",
]  # fmt: skip


def lines(world: World, *, seed: int) -> Iterator[list[str]]:
    """Command lines without end, always the same ones for a seed."""
    rng = random.Random(seed)
    decks: Decks = {}
    for number in itertools.count():
        yield _Line(world, rng, decks, f"{seed}-{number}").arguments()


class _Line:
    """One line: a command, and what it is given. `name` tells what it makes from what others make."""

    def __init__(self, world: World, rng: random.Random, decks: Decks, name: str) -> None:
        self.world, self.rng, self.decks, self.name = world, rng, decks, name

    def arguments(self) -> list[str]:
        kinds = [self._train] * 12 + [self._of_run] * 12 + [self._sweep] * 5 + [self._other] * 3
        line = self.rng.choice(kinds)()
        if self.rng.random() < 0.05:
            line.insert(self.rng.randrange(1, len(line) + 1), self.rng.choice(WORDS))
        return line

    def _train(self) -> list[str]:
        rng, algo = self.rng, self._next("algorithm", BASE)
        line = [*self._algorithm(algo), *BASE[algo], "--run_dir", self._new(), *self._settings(algo, "train")]
        line += self._some(["config"], [*self.world.toml, *PATHS], 0.2)
        line += self._some(["run_dir"], PATHS, 0.1)
        return line + (["--faithful"] if rng.random() < 0.1 else [])

    def _of_run(self) -> list[str]:
        rng = self.rng
        commands = ("eval", "doctor", "resume")
        command = self._next("of a run", (*commands, *commands, "resume", "fork", "watch", "upload", "report"))
        line = [command, self._run(), *getattr(self, f"_{command}")()]
        trusting = command in ("resume", "eval", "fork", "doctor") and rng.random() < 0.2
        return line + (["--trust"] if trusting else [])

    def _eval(self) -> list[str]:
        line = ["--episodes", "1", *self._some(["seed", "epsilon", "task"], WHOLE + FRACTIONS)]
        line += self._some(["video"], [f"{path}{end}" for path in PATHS for end in ("", ".gif")], 0.1)
        line += self._some(["max_episode_steps"], WHOLE, 0.2) + self._flags("no_record", "json")
        return line + self._some(["episodes"], SHORT, 0.2)

    def _fork(self) -> list[str]:
        line = ["--run_dir", self._new(), *self._settings("pqn", "fork"), "--quiet"]
        line += self._some(["step"], [*WHOLE, "64"], 0.3) + self._some(["run_dir"], PATHS, 0.1)
        return line + self.rng.choice(([], ["--total_timesteps", "5"], ["--mlp_width", "77"]))

    def _resume(self) -> list[str]:
        return ["--quiet", *self._flags("start_over", "accept_missing_rows"), *self._some(["quiet", "x"], WORDS, 0.1)]

    def _doctor(self) -> list[str]:
        second = self.rng.choice(([], ["--json"], [self._copy("good")], [self.rng.choice(PATHS)]))
        return second + self._some(["capacity"], SHORT, 0.2)

    def _watch(self) -> list[str]:
        return ["--once", *self._some(["every"], FRACTIONS)]

    def _upload(self) -> list[str]:
        return ["--to", self.rng.choice(["tensorboard", "tensorboard", *WORDS])]

    def _report(self) -> list[str]:
        out = self.rng.choice([self._new(), *PATHS])
        line = ["--out", out, *self._some(["title", "baseline"], WORDS, 0.3)]
        # Figures as files take a second.
        return line if self.rng.random() < 0.05 else ["--no_files", *line]

    def _sweep(self) -> list[str]:
        rng, file = self.rng, self.rng.choice([*self.world.sweeps * 3, *self.world.toml, *PATHS])
        match self._next("sweep", ("run", "run", "plan", "status", "tune", "presets")):
            case "status":
                folder = self._copy(rng.choice(list(self.world.edits["sweep"])))
                line = ["sweep", "status", rng.choice([file, folder, folder]), *self._flags("once")]
                return line + self._some(["out"], [*PATHS, "good", "grid"], 0.3)
            case "presets":
                line = ["sweep", "presets", "--write", rng.choice(["skip_k", "skip_k", "nothing", ""]), self._new()]
                line[-1] = rng.choice([line[-1], *PATHS])
                settings = [
                    *WORDS, "seed=1", "gamma=", "=1", "gamma=nan", "env_id=", "use_ln=[[", "a b=1979-05-27",
                    "x=" + "9" * 5000, "x=" + "[" * 3000, "gamma=1\nx = 2",
                ]  # fmt: skip
                line += self._some(["set"], settings) + self._some(["slots"], WHOLE)
                line += self._some(["scale"], [*FRACTIONS, "smoke"], 0.3)
                return [*line, "--calibration", rng.choice(["0s", "0s", "", "x", "9" * 400 + "d"])]
            case "tune":
                line = ["sweep", "tune", file]
            case kind:
                line = ["sweep", file, *self._flags("retry"), *(["--report"] if rng.random() < 0.1 else [])]
                line += ["--dry_run", f"--calibration={rng.choice(('0s', '1h', 'x', ''))}"] if kind == "plan" else []
        line += ["--out", rng.choice([self._new(), self._new(), rng.choice([*PATHS, "grid"])])]
        deck = "tune" if line[1] == "tune" else "run"
        line += self._some(["slots", "threads", "runs_per_gpu"], WHOLE, deck=deck)
        line += self._some(["executor"], ["local", "local", "", "x"], 0.3)
        times = [*WORDS, "0", "1,x", "40m", "1e9d", "9" * 400 + "d"]
        return line + self._some(["gpus", "address", "time_budget"], times, 0.4, deck=deck)

    def _other(self) -> list[str]:
        rng = self.rng
        match self._next("other", ("bench", "check", "list", "explain", "demo", "none")):
            case "bench":
                algo = rng.choice(list(BASE))
                line = ["bench", rng.choice([algo, algo, "nothing", ""]), *BASE[algo], "--repeats", "1"]
                line.remove("--quiet")
                vary = ["gamma=1,2", "gamma=", "=", "x=1", "gamma", "seed=1,x", "total_timesteps=x", "num_envs=1,inf"]
                line += self._some(["vary"], vary) + self._some(["json"], PATHS, 0.3) + self._settings(algo, "bench")
                return line + self._some(["repeats"], SHORT)
            case "check":
                names = ["nothing.py:X", "own_env.py:Nothing", "own_env.py:Small", "CartPole-v9", "file:x", *WORDS]
                return ["check", rng.choice([*names, *BASE]), *self._settings("pqn", "check")]
            case "list" | "explain" as command:
                return [command, rng.choice([*WORDS, "metrics", "ranks/srank"])]
            case "demo":
                line = ["demo", "--run_dir", rng.choice([self._new(), *PATHS])]
                return line + self._some(["seed", "slots", "total_timesteps"], WHOLE, 0.8)
            case _:
                name = rng.choice([*WORDS, *(name for name in COMMANDS if name not in BASE)])
                return [name, *rng.choice(([], [rng.choice(WORDS)]))]

    def _algorithm(self, algo: str) -> list[str]:
        if algo in COMMANDS:
            return [algo]
        names = ["nothing.py:X", "own_env.py:Small", "own_env.py:Nothing", *WORDS]
        return ["train", algo if self.rng.random() < 0.9 else self.rng.choice(names)]

    def _settings(self, algo: str, command: str) -> list[str]:
        """One to three settings with values that may be wrong."""
        rng, line, fields = self.rng, list[str](), settings_of(algo)
        for name in [self._next(f"{command} {algo}", fields) for _ in range(rng.choice((1, 2, 2, 3)))]:
            flag = f"--{name.replace('_', '-') if rng.random() < 0.1 else name}"
            if fields[name] is bool and rng.random() < 0.2:
                line.append(f"--no_{name}")
                continue
            value = self._value(name, fields[name])
            line += rng.choice(([flag, value], [f"{flag}={value}"], [f"{flag}={value}"], [flag]))
        return line

    def _next(self, deck: str, names: Iterable[str]) -> str:
        """One of the names at random, and none for a second time before all of them had their turn."""
        left = self.decks.setdefault(deck, [])
        if not left:
            left += self.rng.sample(list(names), len(list(names)))
        return left.pop()

    def _run(self) -> str:
        """A sound run or an edited one, or what is none."""
        rng = self.rng
        edited = rng.choice(list(self.world.edits[rng.choice(list(self.world.edits))]))
        sound = [self._copy(name) for name in ("good", "images", "own", "grid")]
        return rng.choice([*[self._copy(edited)] * 8, *sound, rng.choice(PATHS)])

    def _flags(self, *names: str) -> list[str]:
        return [f"--{name}" for name in names if self.rng.random() < 0.3]

    def _some(self, names: list[str], values: list[str], chance: float = 0.5, *, deck: str = "") -> list[str]:
        """By chance one of these options, each in its turn, with one of the values."""
        rng = self.rng
        name = self._next(f"{deck} {' '.join(names)}", names) if rng.random() < chance else None
        return [] if name is None else [f"--{name}={rng.choice(values)}"]

    def _value(self, name: str, hint: Any) -> str:
        rng = self.rng
        if rng.random() < 0.15:
            return rng.choice(rng.choice((WORDS, WHOLE, FRACTIONS)))
        if name in ("env_id", "task_schedule") and rng.random() < 0.7:
            return ",".join(rng.sample(GAMES, rng.choice((1, 2))))
        if get_origin(hint) in (Union, types.UnionType):
            hint = rng.choice(get_args(hint))
        if get_origin(hint) is tuple:
            hint = get_args(hint)[0]
        if get_origin(hint) is Literal:
            return rng.choice([*map(str, get_args(hint)), "x", ""])
        return rng.choice({int: WHOLE, float: FRACTIONS, bool: ["true", "no", "maybe", "", "2"]}.get(hint, WORDS))

    def _new(self) -> str:
        return f"new/{self.name}"

    def _copy(self, run: str) -> str:
        """A name for a copy of a run: what a line does to it concerns no other line."""
        return f"copies/{self.name}={run}"


def settings_of(algo: str) -> dict[str, Any]:
    """Flag -> type."""
    hints = {name: hint for section in section_types(algo).values() for name, hint in annotations(section).items()}
    return hints | {alias: hints[name] for alias, name in getattr(agent_kind(algo), "aliases", {}).items()}
