"""A user's own agent, trunk, encoder and environment, from the command line to the report."""

import json
from pathlib import Path

import pytest

from stablegrad import load_run
from stablegrad.cli import main
from stablegrad.runs import checkpoint

AGENT = f"{Path(__file__).parents[2]}/examples/my_agent.py:MyAgent"
PARTS = '''
from collections import OrderedDict
import gymnasium
import numpy as np
from gymnasium import spaces
from torch import nn


class Corridor(gymnasium.Env):
    """Ten places; the reward is at the last."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(5))
        return self._obs(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        done = self.place == 9
        return self._obs(), float(done), done, False, {}

    def render(self):
        picture = np.zeros((10, 40, 3), np.uint8)
        picture[:, 4 * self.place : 4 * self.place + 4] = 255
        return picture

    def _obs(self):
        return np.array([self.place / 9, 1], np.float32)


class Trunk(nn.Sequential):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(linear(in_features, out_features), nn.Tanh())


class Encoder(nn.Sequential):
    def __init__(self, shape, *, spec):
        super().__init__(nn.Linear(shape[0], 6), nn.ReLU())
'''


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    (tmp_path / "parts.py").write_text(PARTS)
    parts = tmp_path / "parts.py"
    flags = f"--env_id {parts}:Corridor --mlp_type {parts}:Trunk --cnn_type {parts}:Encoder --max_episode_steps 40"
    flags += " --eval_max_episode_steps 40 --num_envs 4 --num_steps 8 --threads 1 --log_every 64"
    return flags.split()


def train(folder: Path, flags: list[str], steps: int = 512) -> None:
    assert main(["train", AGENT, *flags, "--total_timesteps", str(steps), "--run_dir", str(folder), "--quiet"]) == 0


def newest(folder: Path) -> Path:
    return checkpoint.paths(folder / "checkpoints")[0]


def test_train_judge_report_and_fork(tmp_path: Path, flags, capsys):
    train(tmp_path / "run", flags)
    run = load_run(tmp_path / "run", trust=True)
    assert run.status["state"] == "done"
    assert any(key.startswith(("units/", "ranks/", "network/")) for row in run.metrics for key in row), "no probes"
    assert [name for name, _ in run.agent().network.named_parameters() if name.startswith("encoder.net.0")]

    capsys.readouterr()
    video = tmp_path / "game.gif"
    assert main(["eval", str(run.path), "--trust", "--episodes", "3", "--json", "--video", str(video)]) == 0
    assert len(json.loads(capsys.readouterr().out)["scores"]) == 3
    assert video.stat().st_size > 0

    assert main(["report", str(run.path)]) == 0
    assert main(["doctor", str(run.path)]) in (0, 1)
    fork = ["fork", str(run.path), "--run_dir", str(tmp_path / "fork"), "--total_timesteps", "768"]
    assert main([*fork, "--epsilon", "0.3", "--quiet", "--trust"]) == 0
    forked = load_run(tmp_path / "fork", trust=True)
    assert (forked.status["step"], forked.config.agent.epsilon) == (768, 0.3)


def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path, flags):
    every = ["--checkpoint_every", "256", "--keep_checkpoints", "9"]
    train(tmp_path / "whole", [*flags, *every])
    train(tmp_path / "cut", [*flags, *every])
    whole = {path.name: path.read_bytes() for path in newest(tmp_path / "whole").glob("*.safetensors")}
    status = json.loads((tmp_path / "cut" / "status.json").read_text())
    (tmp_path / "cut" / "status.json").write_text(json.dumps({**status, "state": "running", "step": 256}))
    for path in checkpoint.paths(tmp_path / "cut" / "checkpoints")[:-1]:
        path.rename(tmp_path / path.name)
    assert main(["resume", str(tmp_path / "cut"), "--quiet", "--trust"]) == 0
    assert newest(tmp_path / "cut").name == newest(tmp_path / "whole").name
    resumed = {path.name: path.read_bytes() for path in newest(tmp_path / "cut").glob("*.safetensors")}
    assert resumed == whole


def test_a_sweep_over_an_agent_of_ones_own(tmp_path: Path, flags):
    settings = dict(zip((flag.removeprefix("--") for flag in flags[::2]), flags[1::2], strict=True))
    fixed = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    head = f'name = "study"\nseeds = [1]\n\n[settings]\nalgo = "{AGENT}"\ntotal_timesteps = 256\n'
    (tmp_path / "study.toml").write_text(f"{head}{fixed}\n\n[grid]\nepsilon = [0.1, 0.5]\n")
    out = tmp_path / "study"
    assert main(["sweep", str(tmp_path / "study.toml"), "--out", str(out), "--slots", "1"]) == 0
    folders = sorted(path.parent for path in out.rglob("config.json"))
    assert [load_run(folder).status["state"] for folder in folders] == ["done", "done"]
    assert main(["report", str(out)]) == 0
