"""Malformed command lines over every command, from a seed, and the world of files that they name.

A world is a folder with sound runs, TOML files and paths that cannot be used; runs whose files somebody edited are made
from the sound ones where a line names them. A line has one to three things wrong with it, or by chance none: what a
command does with it is for the tests to say.
"""

import json
import os
import random
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from stablegrad.cli import COMMANDS, main
from stablegrad.runs.config import section_types
from stablegrad.settings import annotations

_NETWORK = "--mlp_width 8 --mlp_depth 1 --threads 1 --diagnostics off --quiet"
_GAME = f"--env_id CartPole-v1 --num_envs 2 --total_timesteps 64 {_NETWORK}"
_ROLLOUT = f"{_GAME} --num_steps 8 --num_minibatches 2"
_REPLAY = f"{_GAME} --buffer_size 64 --batch_size 4 --learning_starts 8"
_IMAGES = f"--dataset textures --subset 20 --epochs 2 --batch_size 10 --cnn_type none {_NETWORK}"
BASE = {
    algo: line.split()
    for algo, line in (
        ("pqn", _ROLLOUT), ("ppo", _ROLLOUT), ("dqn", _REPLAY), ("rainbow", _REPLAY), ("cifar", _IMAGES)
    )
}  # fmt: skip

# Sizes are small, or impossible: between the two lies what a machine can do, slowly.
WHOLE = [
    "-1", "0", "1", "2", "3", "-0", "1.5", "1e1", "1e400", "nan", "inf", "-inf", "0x10", "1_0", "ten", "1,2", "[]",
    "{}", "true", "none", "18446744073709551615", "18446744073709551616", "-18446744073709551616", "1" + 29 * "0",
    "1000000000000", "", " ", "٣", "--3", "9" * 400,
]  # fmt: skip
# Where a large number means long work: none between what ends soon and what 64 bits do not hold.
SHORT = [text for text in WHOLE if not text.startswith("1") or len(text) < 4 or len(text) > 20]
FRACTIONS = [
    "-1", "0", "0.5", "1", "1.5", "-0.0", "1e-300", "1e300", "1e400", "nan", "inf", "-inf", "NaN", "Infinity", "none",
    "half", "1,5", "0x1p3", "", "٠.٥",
]  # fmt: skip
WORDS = [
    "", " ", "none", "x", "Ä", "-", "--", "true", "a,b", "a:b", "a.py:b", "/", "../..", "$\\frac{$", "[/bold]", "%s",
    '"><img src=x>', "=1+1", "\x1b[31mred", "\udcff\udcfe", "x" * 5000, "None", "🦙", "\n", "os:system", ".py:x",
]  # fmt: skip
GAMES = ["CartPole-v1", "CartPole-v9", "MinAtar/Breakout", "MinAtar/", "Breakout-v5+mode:x", "+", "nothing:Env-v0"]
PATHS = [
    "nowhere", "file", "file/below", "folder", ".", "", "/proc/nothing", "/dev/null", "good/config.json", "x" * 300,
    "d/" * 2100, "\udcff", "[/bold]", "\x1b[31m", "-", "~", "good/../good", "good", "a\nb", "~nobody/x",
]  # fmt: skip

_NO_OBJECTS = [b"[]", b"null", b"5", b'"x"', b"", b"{", b"{}", b"\xff\xfe{}", b"[" * 100_000, b'{"a": 1e999}', b"\0"]
_STATUS = [
    *_NO_OBJECTS, b'{"state": 5, "step": 64}', b'{"state": "running"}', b'{"state": "done", "step": "x"}',
    b'{"state": "done", "step": null}', b'{"state": "asleep", "step": 1}', b'{"state": "done", "step": 1e400}',
    b'{"state": "failed", "step": 1, "reason": ["\\u001b[31m"]}', b'{"state": [], "step": -5}',
]  # fmt: skip
_LINES = [
    *_NO_OBJECTS, b"[1]\n", b"\xff\n", b'{"step": "x"}\n', b'{"step": null, "losses/loss": 1}\n', b'{"step": 1e400}\n',
    b'{"step": 99999999999999999999, "losses/loss": 1.0}\n', b'{"step": [1]}\n', b'{"losses/loss": 1.0}\n',
    b'{"step": 1, "losses/loss": "high"}\n{"step": 2, "losses/loss": null}\n', b'{"step": 32, "seconds": "x"}\n',
    b'{"step": 1, "losses/loss": NaN}\n{"step": 2, "losses/loss": -Infinity}\n', b'{"step": true, "a": 1}\n',
    b'{"step": -5, "a": 1}\n{"step": 5, "a": 2}\n', b'{"step": 5, "score": "x"}\n{"step": "x", "score": 1}\n',
    b'{"step": 5, "score": null, "length": []}\n{"score": 1e999, "step": 3}\n', b'{"step": 2.5, "score": 1}\n',
    b'{"step": 5, "scores": ["x"]}\n{"step": "x", "scores": [1]}\n{"scores": [null, 1], "step": 5}\n',
    b'{"step": 5, "$\\\\frac{$": 1.0}\n{"step": 6, "$\\\\frac{$": 2.0}\n', b'{"step": 5, "../../x": 1.0}\n',
    b'{"step": 5, "x\\"><img src=x onerror=alert(1)>": 1.0}\n{"step": 9, "x\\"><img src=x onerror=alert(1)>": 2}\n',
    b'{"step": 5, "a/b/\\u001b[2J": 1}\n{"step": 5, "a/b/=1": 1}\n{"step": 5, "a/b/c": 1}\n{"step": 6, "a/b/d": 1}\n',
    b'{"step": 5, "": 1.0}\n', b'{"step": 5, "a\\u0000b": 1.0}\n', b'{"step": 5, "\\ud800": 1.0}\n',
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, -1, 0, 1.5, "x", "", [], {}, [None], [1], ["x"], {"a": 1}, 10**30, float("nan"), float("inf"), -1e308,
    10**12, "\x1b[31m", "missing.py:Thing", "os:system", "$\\frac{$",
]  # fmt: skip

_TOML = [
    b"", b"\xff\xfe", b"= 1", b"algo = 5", b'algo = "ppo"', b"seed = [1, 2]", b"track = 5", b"track = [1, [2]]",
    b"total_timesteps = 1979-05-27", b"learning_rate = nan", b"learning_rate = {a = 1}", b"[run]\nseed = 1",
    b"gamma = inf", b"task_schedule = true", b"task_schedule = [1]", b"env_id = []", b"env_id = {}", b"mlp_width = []",
    b"use_ln = 3", b"use_ln = []", b"change_points = 3", b"change_points = ['x']", b"x" * 3000, b"a = " + b"[" * 3000,
    b"seed = " + b"9" * 5000, b"seed = 99999999999999999999", b'"" = 1', b'"--x" = 1', b'seed = "1"', b"faithful = []",
    b"run_dir = 'x'", b"quiet = 1", b"num_envs = 0x10", b"device = 5", b"optimizer = []", b"protocol = {}",
    b"env_kwargs = 5", b"env_kwargs = [1]", b"[env_kwargs]\na = {b = []}", b"wrapper = []", b"wrapper = 'x.py:f'",
]  # fmt: skip
_SWEEP = (
    'name = "s"\nseeds = [1]\n[settings]\nalgo = "pqn"\nenv_id = "CartPole-v1"\ntotal_timesteps = 64\nnum_envs = 1\n'
)
_TUNE = "num_minibatches = 1\n[tune]\ntrials = 1\nseeds = [5]\n"
_MANY = "".join(f"{name} = {list(range(1, 60))}\n" for name in ("num_steps", "update_epochs", "mlp_width"))
_SWEEPS = [
    b"", b"\xff", b"name = 5", b'name = "../x"', b'name = "s"\nseeds = "x"', b'name = "s"\nseeds = [1.5]', b"seeds = 1",
    b'name = "s"\nseeds = 100000000000', b'name = "s"\nseeds = [18446744073709551616]\n[settings]\nalgo = "pqn"',
    b'name = "s"\ngrid = 5', b'name = "s"\ngrid = []', b'name = "s"\n[grid]\nalgo = 5', b'name = "s"\n[grid]\nseed = 1',
    b'name = "s"\narms = {}', b'name = "s"\narms = [1]', b'name = "s"\n[[arms]]\nname = 5', b'name = "s"\nexclude = 5',
    b'name = "s"\nnotes = [1]', b'name = "s"\nsettings = 1', b'name = "s"\ndescription = 2', b'name = "s"\ntune = []',
    *(
        (_SWEEP + more).encode()
        for more in (
            "[grid]\nenv_id = [1]\n", "[grid]\nenv_id = [[]]\n", "[grid]\nlearning_rate = [nan]\n", "num_steps = []\n",
            "[[arms]]\nname = 'a'\ngrid = 5\n", "[[arms]]\nname = \"\\u001b[31m\"\n", "[[arms]]\nname = '[/bold]'\n",
            "[[exclude]]\nseed = {}\n", "[[exclude]]\nx = 1\n", "[tune]\ntrials = 'x'\n", "threads = 1000000000000\n",
            "[tune]\ntrials = 1\nseeds = [5]\nspace = 5\n", "[tune]\ntrials = 1\nseeds = 5\n[tune.space]\ngamma = 3\n",
            f"{_TUNE}[tune.space]\ngamma = {{low = nan, high = 1}}\n", "[grid]\nseed = [5]\n",
            f"{_TUNE}[tune.space]\ngamma = {{low = 0.1, high = inf}}\n", "[grid]\ngamma = [0.5, 1979-05-27]\n",
            f"{_TUNE}metric = []\n[tune.space]\ngamma = {{choices = [[1]]}}\n", "mlp_width = 100000000\n",
            f"{_TUNE}batch = 0\n[tune.space]\ngamma = {{choices = [0.5]}}\n", "num_steps = 100000000000\n",
            f"[grid]\n{_MANY}",
        )
    ),
]  # fmt: skip


class World:
    """The files that lines name; `build` makes them in a folder, which becomes the working one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.toml = [f"t{number}.toml" for number in range(len(_TOML))]
        self.sweeps = [f"s{number}.toml" for number in range(len(_SWEEPS))]
        self.edits = self._edits(json.loads((root / "good/config.json").read_bytes()))

    @classmethod
    def build(cls, root: Path) -> "World":
        os.chdir(root)
        Path("own_env.py").write_text(
            "import gymnasium\ndef Small():\n    return gymnasium.make('CartPole-v1').unwrapped\n"
        )
        own = ["--env_id", "own_env.py:Small", "--max_episode_steps", "9", "--eval_max_episode_steps", "9"]
        for line in (
            ["pqn", *BASE["pqn"], "--log_every", "16", "--run_dir", "good"],
            ["cifar", *BASE["cifar"], "--run_dir", "images"],
            ["pqn", *BASE["pqn"], *own, "--run_dir", "own"],
        ):
            assert main(line) == 0, line
        world = cls(root)
        for names, contents in ((world.toml, _TOML), (world.sweeps, _SWEEPS)):
            for name, content in zip(names, contents, strict=True):
                Path(name).write_bytes(content)
        Path("file").write_text("a file")
        Path("folder").mkdir()
        return world

    def _edits(self, config: dict[str, Any]) -> dict[str, tuple[str, bytes]]:
        """Name -> (a file of a run, what stands in it instead)."""
        rng = random.Random(0)
        changed: list[dict[str, Any]] = [{"algo": 5}, {"algo": None}, {"algo": "nothing"}, {"algo": []}]
        changed += [{**config, name: value} for name in config for value in rng.sample(_VALUES, 2)]
        changed += [{**config, "x": 1}, {**config, "env_id": "missing.py:Env"}, {**config, "mlp_width": 10**8}]
        contents = {
            "config.json": [*_NO_OBJECTS, *(json.dumps(each).encode() for each in changed)],
            "status.json": _STATUS,
            "manifest.json": _NO_OBJECTS,
            "metrics.jsonl": _LINES,
            "episodes.jsonl": _LINES,
            "evaluations.jsonl": _LINES,
        }
        return {f"{file}-{n}": (file, each) for file, several in contents.items() for n, each in enumerate(several)}

    def prepare(self, line: list[str]) -> None:
        """Make the copies of runs that a line names."""
        for argument in line:
            source = argument.partition("=")[2]
            if not argument.startswith("copies/") or (self.root / argument).exists():
                continue
            shutil.copytree(self.root / ("good" if source in self.edits else source), self.root / argument)
            if source in self.edits:
                file, content = self.edits[source]
                (self.root / argument / file).write_bytes(content)


def lines(world: World, *, seed: int, count: int) -> Iterator[list[str]]:
    """`count` command lines, always the same ones for a seed."""
    rng = random.Random(seed)
    for number in range(count):
        yield _Line(world, rng, f"{seed}-{number}").arguments()


class _Line:
    """One line: a command, and what it is given. `name` tells what it makes from what others make."""

    def __init__(self, world: World, rng: random.Random, name: str) -> None:
        self.world, self.rng, self.name = world, rng, name

    def arguments(self) -> list[str]:
        kinds = [self._train] * 10 + [self._of_run] * 12 + [self._sweep] * 5 + [self._other] * 3
        line = self.rng.choice(kinds)()
        if self.rng.random() < 0.05:
            line.insert(self.rng.randrange(1, len(line) + 1), self.rng.choice(WORDS))
        return line

    def _train(self) -> list[str]:
        rng, algo = self.rng, self.rng.choice(list(BASE))
        fields = _fields(algo)
        line = [algo, *BASE[algo], "--run_dir", self._new()]
        for name in rng.sample(list(fields), rng.choice((1, 1, 2, 3))):
            flag = f"--{name.replace('_', '-') if rng.random() < 0.1 else name}"
            value = self._value(name, fields[name])
            line += rng.choice(([flag, value], [f"{flag}={value}"], [f"{flag}={value}"], [flag]))
        line += self._some(["config"], [*self.world.toml, *PATHS], 0.2)
        line += self._some(["run_dir"], PATHS, 0.1)
        return line + (["--faithful"] if rng.random() < 0.05 else [])

    def _of_run(self) -> list[str]:
        rng = self.rng
        edited = self._copy(rng.choice(list(self.world.edits)))
        run = rng.choice([edited] * 6 + [self._copy(name) for name in ("good", "images", "own")] + [rng.choice(PATHS)])
        command = rng.choice(
            ["resume", "resume", "eval", "eval", "doctor", "doctor", "fork", "watch", "upload", "report"]
        )
        line = [command, run, *getattr(self, f"_{command}")()]
        return line + (["--trust"] if command in ("resume", "eval", "fork", "doctor") and rng.random() < 0.3 else [])

    def _eval(self) -> list[str]:
        line = ["--episodes", "1", *self._some(["seed", "epsilon", "task"], WHOLE + FRACTIONS)]
        line += self._some(["video"], [f"{path}{end}" for path in PATHS for end in ("", ".gif")], 0.1)
        return line + self._some(["episodes"], SHORT, 0.2)

    def _fork(self) -> list[str]:
        fields = _fields("pqn")
        name = self.rng.choice(list(fields))
        line = ["--run_dir", self._new(), f"--{name}={self._value(name, fields[name])}", "--quiet"]
        line += self._some(["step"], WHOLE, 0.3) + self._some(["run_dir"], PATHS, 0.1)
        return line + self.rng.choice(([], ["--total_timesteps", "5"], ["--mlp_width", "77"]))

    def _resume(self) -> list[str]:
        return ["--quiet", *self._some(["quiet", "x"], WORDS, 0.1)]

    def _doctor(self) -> list[str]:
        second = self.rng.choice(([], ["--json"], [self._copy("good")], [self.rng.choice(PATHS)]))
        return second + self._some(["capacity"], SHORT, 0.2)

    def _watch(self) -> list[str]:
        return ["--once", *self._some(["every"], FRACTIONS)]

    def _upload(self) -> list[str]:
        return ["--to", self.rng.choice(["tensorboard", *WORDS])]

    def _report(self) -> list[str]:
        out = self.rng.choice([self._new(), *PATHS])
        return ["--no_files", "--out", out, *self._some(["title", "baseline"], WORDS, 0.3)]

    def _sweep(self) -> list[str]:
        rng, file = self.rng, self.rng.choice([*self.world.sweeps * 3, *self.world.toml, *PATHS])
        match rng.choice(("run", "run", "plan", "status", "tune", "presets")):
            case "status":
                return ["sweep", "status", file, *self._some(["out"], [*PATHS, "good"])]
            case "presets":
                line = ["sweep", "presets", "--write", rng.choice(["skip_k", "nothing", ""]), self._new()]
                line[-1] = rng.choice([line[-1], *PATHS])
                settings = [*WORDS, "seed=1", "gamma=", "=1", "gamma=nan", "env_id=", "use_ln=[[", "a b=1979-05-27"]
                return line + self._some(["set"], settings) + self._some(["slots"], WHOLE)
            case kind:
                line = ["sweep", *(["tune"] if kind == "tune" else []), file]
                line += ["--dry_run", "--calibration", rng.choice(("0s", "1h", "x", ""))] if kind == "plan" else []
        line += ["--out", rng.choice([self._new(), self._new(), rng.choice(PATHS)])]
        line += self._some(["slots", "threads", "runs_per_gpu"], WHOLE)
        return line + self._some(["gpus", "address", "time_budget"], [*WORDS, "0", "1,x", "40m", "1e9d"], 0.1)

    def _other(self) -> list[str]:
        rng = self.rng
        match rng.choice(("bench", "check", "list", "explain", "demo", "train", "none")):
            case "bench":
                line = ["bench", rng.choice(["pqn", "pqn", "nothing", ""]), *BASE["pqn"], "--repeats", "1"]
                line.remove("--quiet")
                vary = ["gamma=1,2", "gamma=", "=", "x=1", "gamma", "seed=1,x", "total_timesteps=x", "num_envs=1,inf"]
                line += self._some(["vary"], vary) + self._some(["json"], PATHS, 0.3)
                return line + self._some(["repeats"], SHORT)
            case "check":
                return ["check", rng.choice(["nothing.py:X", "own_env.py:Nothing", "CartPole-v9", "file:x", *WORDS])]
            case "list" | "explain" as command:
                return [command, rng.choice([*WORDS, "metrics", "ranks/srank"])]
            case "demo":
                line = ["demo", "--run_dir", rng.choice([self._new(), *PATHS])]
                return line + self._some(["seed", "slots", "total_timesteps"], WHOLE)
            case "train":
                name = rng.choice(["nothing.py:X", "own_env.py:Small", "own_env.py:Nothing", *WORDS])
                return ["train", name, *BASE["pqn"], "--run_dir", self._new()]
            case _:
                return [rng.choice([*WORDS, *(name for name in COMMANDS if name not in BASE)])]

    def _some(self, names: list[str], values: list[str], chance: float = 0.5) -> list[str]:
        rng = self.rng
        return [f"--{rng.choice(names)}={rng.choice(values)}"] if rng.random() < chance else []

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


def _fields(algo: str) -> dict[str, Any]:
    """Flag -> type."""
    return {name: hint for section in section_types(algo).values() for name, hint in annotations(section).items()}
