"""A fork with settings that its checkpoint does not fit: refused in words of ours, with no folder left behind."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stablegrad import load_run
from stablegrad.cli import main
from stablegrad.runs.tree import misfit

_LINE = "--env_id CartPole-v1 --num_envs 2 --num_steps 8 --num_minibatches 2 --mlp_width 8 --mlp_depth 2 --threads 1"
SMALL = [*_LINE.split(), "--diagnostics", "off", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fork") / "run"
    assert main(["pqn", *SMALL, "--total_timesteps", "64", "--run_dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--total_timesteps", "5"], "the run would end at step 5, and the checkpoint stands at 64: let it run longer"),
        (["--mlp_width", "77"], "its network trunk.0.linear.weight has the shape [8, 4], where [77, 4] is wanted"),
        (["--mlp_depth", "3"], "has the shape [512, 8], where [8, 8] is wanted"),
        (["--mlp_type", "residual"], "it has no network trunk.stem.linear.weight"),
        (["--use_ln", "false"], "it has network trunk.0.norm.weight, for which there is no place"),
    ],
)
def test_what_does_not_fit_is_said_in_words_of_ours(run, tmp_path, capsys, settings, said):
    new = tmp_path / "new"
    assert main(["fork", str(run), "--run_dir", str(new), "--quiet", "--total_timesteps", "96", *settings]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("error: ") == 1
    assert "state_dict" not in error
    assert not new.exists()


def test_torch_says_it_in_its_own():
    """The negative control: what the user was shown."""
    before, now = torch.nn.Linear(4, 8), torch.nn.Linear(4, 77)
    with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict for Linear"):
        now.load_state_dict(before.state_dict())


def test_what_fits_is_forked(run, tmp_path):
    new = tmp_path / "new"
    line = ["fork", str(run), "--run_dir", str(new), "--quiet", "--total_timesteps", "96", "--learning_rate", "1e-3"]
    assert main(line) == 0
    assert load_run(new).status == {**load_run(new).status, "state": "done", "step": 96}


def test_where_two_states_differ():
    a = {"net": {"w": torch.zeros(2, 3)}, "n": 5, "list": [np.zeros(4)], "rollout": {}}
    assert misfit(a, a) is None
    assert misfit(a, {**a, "n": 6, "rollout": {"obs": torch.zeros(1)}}) is None
    assert misfit(a, {**a, "list": [np.zeros(5)]}) == "its list 0 has the shape [4], where [5] is wanted"
    assert misfit(a, {**a, "net": {}}) is None
    assert misfit(a, {**a, "net": {"v": torch.zeros(1)}}) == "it has no net v"
