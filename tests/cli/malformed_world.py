"""The files that malformed command lines name: sound runs and sweeps, edited copies of them, TOML, paths of all kinds.

Copies of runs whose files somebody edited are made from the sound ones where a line names them.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

from stablegrad.cli import main

_NETWORK = "--mlp_width 8 --mlp_depth 1 --threads 1 --diagnostics off --quiet"
_GAME = f"--env_id CartPole-v1 --num_envs 2 --total_timesteps 64 {_NETWORK}"
_ROLLOUT = f"{_GAME} --num_steps 8 --num_minibatches 2"
_REPLAY = f"{_GAME} --buffer_size 64 --batch_size 4 --learning_starts 8"
_IMAGES = f"--dataset textures --subset 20 --epochs 2 --batch_size 10 --cnn_type none {_NETWORK}"
_OWN = str(Path(__file__).parents[2] / "examples" / "my_agent.py") + ":MyAgent"
BASE = {
    algo: line.split()
    for algo, line in (
        ("pqn", _ROLLOUT), ("ppo", _ROLLOUT), ("dqn", _REPLAY), ("rainbow", _REPLAY), ("cifar", _IMAGES),
        (_OWN, f"{_GAME} --num_steps 8"),
    )
}  # fmt: skip
"""Algorithm -> the arguments of a short sound run."""

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
_MEMBERS = [
    *_NO_OBJECTS, b'["nowhere"]', b"[1]", b'["\\u0000"]', b'["../../x"]', b'[""]', b'["' + b"x" * 300 + b'"]', b"[[]]",
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
    b"\xef\xbb\xbfseed = 1", "seed = 1".encode("utf-16"), b"seed = 1\r\ngamma = 0.5\r", b"seed = 1\0",
    b"seed = 1\nseed = 2",
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


_GRID: dict[str, Any] = {
    "name": "grid", "slots": 1, "command": ["stablegrad"], "time": 0.0,
    "cells": [{"run": "cell", "arm": "a", "task": "CartPole-v1", "seed": 1, "total": 64, "shape": "x"}],
}  # fmt: skip
_STRANGER = """from pathlib import Path
import gymnasium

Path(__file__).with_suffix(".imported").touch()

def Thing(*arguments, **options):
    return gymnasium.make("CartPole-v1").unwrapped
"""
_CODE = ("stranger.py:Thing", "stranger:Thing-v0", ["stranger.py:Thing+flip_reward"], ["stranger.py:Thing"])


class Edit(NamedTuple):
    """What stands in a file of a copy of `source` instead of what belongs there."""

    source: str
    file: str
    content: bytes


class World:
    """A folder, which becomes the working one. `edits`: name -> edit, by the kind of what is edited."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.toml = [f"t{number}.toml" for number in range(len(_TOML))]
        self.sweeps = [f"s{number}.toml" for number in range(len(_SWEEPS))]
        self.edits = self._edits()

    @classmethod
    def build(cls, parent: Path) -> Self:
        """A world two folders below `parent`, so that what leads up from it finds nothing of the machine."""
        root = parent / "above" / "world"
        root.mkdir(parents=True)
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
        shutil.copytree("good", "grid/cell")
        Path("grid/sweep.json").write_text(json.dumps(_GRID))
        world = cls(root)
        for names, contents in ((world.toml, _TOML), (world.sweeps, _SWEEPS)):
            for name, content in zip(names, contents, strict=True):
                Path(name).write_bytes(content)
        Path("stranger.py").write_text(_STRANGER)
        Path("file").write_text("a file")
        Path("folder").mkdir()
        return world

    def _edits(self) -> dict[str, dict[str, Edit]]:
        rng = random.Random(0)
        checkpoint = min((self.root / "good/checkpoints").iterdir()).relative_to(self.root / "good")
        kinds = [
            ("status", "good", "status.json", _STATUS),
            ("manifest", "good", "manifest.json", _NO_OBJECTS),
            ("checkpoint", "good", f"{checkpoint}/manifest.json", _NO_OBJECTS),
            ("metrics", "good", "metrics.jsonl", _LINES),
            ("episodes", "good", "episodes.jsonl", _LINES),
            ("evaluations", "good", "evaluations.jsonl", _LINES),
            ("together", "images", "side_by_side.json", _MEMBERS),
            ("turns", "images", "in_turn.json", _MEMBERS),
            ("sweep", "grid", "sweep.json", [*_NO_OBJECTS, *map(_json, _changed_sweeps(rng))]),
        ]
        for source in ("good", "images"):
            config = json.loads((self.root / source / "config.json").read_bytes())
            changed = [{"algo": 5}, {"algo": None}, {"algo": "nothing"}, {"algo": []}, *_changed(config, rng)]
            changed += [{**config, "x": 1}, {**config, "env_id": "missing.py:Env"}, {**config, "mlp_width": 10**8}]
            codes = [{**config, name: code} for name in config for code in rng.sample(_CODE, 2)]
            kinds.append((f"{source}-config", source, "config.json", [*_NO_OBJECTS, *map(_json, changed)]))
            kinds.append((f"{source}-code", source, "config.json", list(map(_json, codes))))
        return {
            kind: {f"{kind}-{n}": Edit(source, file, content) for n, content in enumerate(several)}
            for kind, source, file, several in kinds
        }

    def prepare(self, line: list[str]) -> None:
        """Make the copies that a line names. A run that is to be resumed has been stopped."""
        for argument in line:
            name = argument.partition("=")[2]
            target = self.root / argument
            if not argument.startswith("copies/") or target.exists():
                continue
            edit = next((several[name] for several in self.edits.values() if name in several), None)
            shutil.copytree(self.root / (name if edit is None else edit.source), target)
            if line[0] == "resume" and (target / "status.json").exists():
                (target / "status.json").write_text('{"state": "stopped", "step": 64}')
            if edit is not None:
                (target / edit.file).write_bytes(edit.content)

    def imported(self) -> bool:
        """Whether a stranger's code, which runs alone name, was imported since this was asked last."""
        mark = self.root / "stranger.imported"
        found = mark.exists()
        mark.unlink(missing_ok=True)
        for module in [name for name in sys.modules if name.startswith(("stranger", "_stablegrad_user_stranger_"))]:
            del sys.modules[module]
        return found


def _changed(sound: dict[str, Any], rng: random.Random) -> list[dict[str, Any]]:
    """Copies, each with another value in one place: two for every place."""
    return [{**sound, name: value} for name in sound for value in rng.sample(_VALUES, 2)]


def _changed_sweeps(rng: random.Random) -> list[dict[str, Any]]:
    [cell] = _GRID["cells"]
    return _changed(_GRID, rng) + [{**_GRID, "cells": [other]} for other in _changed(cell, rng)]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
