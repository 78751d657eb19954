"""Small sweeps, and a stand-in for the process of a run that does what a script in the run's folder says."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps import file

TINY = """
seeds = [1, 2]

[settings]
algo = "pqn"
env_id = "CartPole-v1"
total_timesteps = 512
num_envs = 4
num_steps = 8
num_minibatches = 2
mlp_width = 16
mlp_depth = 1
diagnostics = "off"
log_every = 32
"""

_STAND_IN = """
import json, os, pathlib, signal, sys, time

folder = pathlib.Path(sys.argv[1])
own = folder / "script.json"
if own.exists():
    script = json.loads(own.read_text())
else:
    config = json.loads((folder / "config.json").read_text())
    script = json.loads(os.environ.get("STAND_IN", "{}")).get(config["optimizer"], {})
(folder / "seen.json").write_text(json.dumps({
    "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ["OMP_NUM_THREADS"], "start": time.time(),
}))


def status(**record):
    (folder / "status.json").write_text(json.dumps({"state": "running", "step": 0, **record}))


if script.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: (status(state="stopped", step=7), os._exit(75)))
status(step=3)
time.sleep(script.get("seconds", 0))
print(script.get("says", "nothing to say"))
if "kill" in script:
    os.kill(os.getpid(), script["kill"])
if script.get("code", 0) == 0:
    status(state="done", step=512)
(folder / "end").write_text(str(time.time()))
sys.exit(script.get("code", 0))
"""


@pytest.fixture
def sweep_of() -> Callable[[str], file.SweepFile]:
    """A tiny sweep with `more` TOML behind its settings."""

    def build(more: str = "", *, name: str = "tiny") -> file.SweepFile:
        return file.parse(f'name = "{name}"\n{TINY}\n{textwrap.dedent(more)}', source="test.toml")

    return build


@pytest.fixture
def stand_in(tmp_path: Path) -> Mapping[str, str]:
    """Environment variables under which the process of a run is the stand-in.

    Where a run has no script of its own, `STAND_IN` holds one (JSON) for each optimizer.
    """
    package = tmp_path / "stand_in" / "stablegrad" / "sweeps"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "child.py").write_text(_STAND_IN)
    return {"PYTHONPATH": str(tmp_path / "stand_in")}


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., Path]:
    """A run's folder with a script for the stand-in."""

    def build(name: str, **script: Any) -> Path:
        import json

        config = RunConfig.resolve("pqn", {"env_id": "CartPole-v1", "total_timesteps": 512, "num_envs": 4})
        path = RunFolder.create(tmp_path / name, config).path
        (path / "script.json").write_text(json.dumps(script))
        return path

    return build
