"""A file of the user's that breaks a promise or raises: one error, no traceback, and the run's record stands."""

import re
from pathlib import Path

import pytest

from stablegrad import load_run
from stablegrad.cli import main

CORRIDOR = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    observation_space = spaces.Box(0, 255, (6, 6, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        return self._obs(), float(action), self.t == 5, False, {}

    def _obs(self):
        return np.full((6, 6, 3), self.t, np.uint8)
"""
FAULTS = {
    "lossy": "def _obs(self): return np.full((6, 6, 3), self.t / 255 if self.t > 2 else self.t)",
    "raises": "def _obs(self): return {}[self.t] if self.t > 2 else np.zeros((6, 6, 3), np.uint8)",
    "quits": "def _obs(self): return exit(0) if self.t > 2 else np.zeros((6, 6, 3), np.uint8)",
    "first": "def _obs(self): return np.full((6, 6, 3), 0.5)",
}
SMALL = "--num_envs 2 --num_steps 4 --num_minibatches 2 --mlp_width 8 --cnn_size 2 --threads 1 --quiet --log_every 8"


@pytest.fixture
def env_id(tmp_path: Path):
    def write(fault: str) -> str:
        (tmp_path / f"{fault}.py").write_text(CORRIDOR + f"\n    {FAULTS.get(fault, '')}\n")
        return f"{tmp_path / fault}.py:Corridor"

    return write


def train(env_id: str, folder: Path, *more: str) -> int:
    line = f"pqn --env_id {env_id} {SMALL} --total_timesteps 64 --run_dir {folder}"
    return main([*line.split(), *more])


def one_error(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "lossy",
            r"at step 4: \S+lossy\.py:Corridor, environment 0, at step 3 of the episode .* is 0\.01\d+ \(float64\)",
        ),
        ("raises", r"step\(\d \(int\)\) ended with KeyError: 3 \(\S+raises\.py, line 23\)"),
        ("quits", r"ended with a call of sys\.exit\(0\) \(\S+quits\.py, line 23\)"),
    ],
)
def test_a_run_ends_with_one_error_and_its_record_stands(env_id, tmp_path, capsys, fault, said):
    assert train(env_id(fault), tmp_path / "run") == 1
    assert re.search(said, one_error(capsys))
    run = load_run(tmp_path / "run", trust=True)
    assert (run.status["state"], run.status["step"]) == ("failed", 4)
    assert re.search(said, f"at step 4: {run.status['reason']}")


def test_the_same_without_the_fault_is_done(env_id, tmp_path):
    assert train(env_id("none"), tmp_path / "run") == 0


def test_what_shows_before_the_first_step_is_bad_usage_and_leaves_no_folder(env_id, tmp_path, capsys):
    assert train(env_id("first"), tmp_path / "run") == 2
    assert "environment 0, at its reset" in one_error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_run_mended_goes_on(env_id, tmp_path, capsys):
    """The environment broke its promise: once it keeps it, `resume` goes on from the last checkpoint."""
    path = env_id("lossy")
    assert train(path, tmp_path / "run") == 1
    Path(path.rpartition(":")[0]).write_text(CORRIDOR)
    _forget_files()
    assert main(["resume", str(tmp_path / "run"), "--quiet", "--trust"]) == 0
    assert load_run(tmp_path / "run", trust=True).status["state"] == "done"


def _forget_files():
    import sys

    for name in [name for name in sys.modules if name.startswith("_stablegrad_user_")]:
        del sys.modules[name]


def test_an_evaluation_ends_with_one_error_too(env_id, tmp_path, capsys):
    path = env_id("none")
    assert train(path, tmp_path / "run") == 0
    Path(path.rpartition(":")[0]).write_text(CORRIDOR + f"\n    {FAULTS['lossy']}\n")
    _forget_files()
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), "--episodes", "2", "--trust"]) == 1
    assert "which the promised uint8 cannot hold" in one_error(capsys)


def test_check_says_what_comes(env_id, capsys):
    assert main(["check", env_id("none")]) == 0
    assert "every promise is kept" in capsys.readouterr().out
    assert main(["check", env_id("lossy")]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "which the promised uint8 cannot hold" in out


@pytest.mark.parametrize("code", ["", "0", "1", "'bye'"])
def test_a_file_that_ends_python_is_an_error(tmp_path, capsys, code):
    """As found, `sys.exit(0)` in it ended the command in silence, and with success."""
    (tmp_path / "quits.py").write_text(f"import sys\nsys.exit({code})\n")
    assert main(["pqn", "--env_id", f"{tmp_path}/quits.py:make"]) == 2
    assert f"quits.py could not be imported: a call of sys.exit({code.strip(chr(39))}) (" in one_error(capsys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("import sys\nsys.exit(0)", r"a call of sys\.exit\(0\) \(\S+quits\.py, line 2\)"),
        ("raise LookupError('no luck')", r"LookupError: no luck \(\S+quits\.py, line 1\)"),
        ("def (", "SyntaxError: invalid syntax"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(tmp_path, monkeypatch, capsys, content, said):
    """`quits:Env-v0` imports a module first: what it raised was a traceback, and `sys.exit(0)` a silent success."""
    (tmp_path / "quits.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["pqn", "--env_id", "quits:Env-v0"]) == 2
    assert re.search(f"quits:Env-v0: the module 'quits' could not be imported: {said}", one_error(capsys))
    assert main(["pqn", "--env_id", ".quits:Env-v0"]) == 2
    assert "the module '.quits' could not be imported: TypeError" in one_error(capsys)


MISTAKEN = Path(__file__).parent / "mistaken.py"
SHORT = "--env_id CartPole-v1 --num_envs 4 --total_timesteps 128 --mlp_width 8 --mlp_depth 1 --threads 1 --quiet"


def run_mistaken(command: str, folder: Path) -> int:
    return main([*command.replace("@", f"{MISTAKEN}:").split(), *SHORT.split(), "--run_dir", str(folder)])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train @NUMBER", "is not an agent: write a subclass of"),
        ("train @function", "is not an agent: write a subclass of"),
        ("train @Plain", "is not an agent: write a subclass of"),
        ("train @NoConfig", "has no Config: write a frozen dataclass"),
        ("train @Unbuildable", r"cannot be built: KeyError: 'key' \(\S+mistaken\.py, line \d+\)"),
        ("train @Leaves", r"cannot be built: a call of sys\.exit\(0\) \(\S+mistaken\.py, line \d+\)"),
        ("train @NoGroups", "its __init__ has to set `groups`"),
        ("train @NoModule", "the group 'q' is a ReLU, not an nn.Module with parameters to train"),
        ("train @Unstorable", "cannot store Random at /agent/chooser: a state is made of"),
        ("pqn --mlp_type @NUMBER", r"the trunk '\S+' cannot be built: TypeError: 'int' object is not callable"),
        ("pqn --mlp_type @TrunkRaises", r"cannot be built: LookupError: no such width \(\S+mistaken\.py, line \d+\)"),
        ("pqn --mlp_type @TrunkMismatch", r"the trunk '\S+' cannot read \[B, 4\]: RuntimeError: mat1 and mat2"),
        ("pqn --mlp_type @TrunkPair", r"must map \[B, 4\] to \[B, D\], but gives a tuple"),
        ("pqn --mlp_type @trunk_text", "the trunk .* is a str, not an nn.Module"),
        ("pqn --cnn_type @encoder_number", "the encoder .* is a int, not an nn.Module"),
        ("pqn --optimizer @NUMBER", "is a int, not a class or function that makes one"),
        ("pqn --optimizer @optimizer_raises", r"cannot be built: LookupError: no such optimizer \(\S+mistaken\.py"),
        ("pqn --optimizer @optimizer_text", "is a str without param_groups, step, zero_grad, state_dict"),
        ("pqn --track @NUMBER", r"tracker \S+ is a int, not a function of \(folder, config\)"),
        ("pqn --track @Deaf", r"tracker \S+ has no log: write log\(step, scalars\) and close\(\)"),
    ],
)
def test_what_is_wrong_before_training_is_one_error_and_no_folder(command, said, tmp_path, capsys):
    assert run_mistaken(command, tmp_path / "run") == 2
    assert re.search(said, one_error(capsys))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train @ActRaises", r"at step 0: ZeroDivisionError: a mistake of mine \(\S+mistaken\.py, line \d+\)"),
        ("train @ActLeaves", r"at step 0: a call of sys\.exit\(0\) \(\S+mistaken\.py, line \d+\)"),
        ("train @ActTensor", r"ActTensor\.act returned a Tensor, not a numpy array of shape \(4,\)"),
        ("train @ActShape", r"ActShape\.act returned actions of shape \(1,\), not \(4,\)"),
        ("train @ActHalves", r"ActHalves\.act returned actions of type float64, not whole numbers"),
        ("train @ActBeyond", r"ActBeyond\.act returned the action [23], which is not in Discrete\(2\)"),
        ("train @BatchList", r"BatchList\.batches gave a list, not a dict of tensors"),
        ("train @BatchBlind", r"BatchBlind\.batches gave a batch without 'obs'"),
        ("train @LossNone", r"LossNone\.loss returned None, not a LossOutput"),
        ("train @LossBare", r"LossBare\.loss returned a tensor of shape \[\] and type float32, not a LossOutput"),
        ("train @LossVector", r"LossVector\.loss returned a loss that is a tensor of shape \[4\] .*: take its mean"),
        ("train @LossDetached", r"LossDetached\.loss returned a loss that depends on no parameter"),
        ("train @LossWords", r"LossWords\.loss returned metrics that are not a dict of numbers"),
        ("train @MetricsWords", r"MetricsWords\.metrics returned a dict, not a dict of numbers"),
        ("train @EvaluateNone --eval_every 32", r"EvaluateNone\.evaluate returned a NoneType, not a numpy array"),
        ("pqn --num_steps 8 --num_minibatches 2 --optimizer @OptimizerStops", r"LookupError: no such step \(\S+mista"),
    ],
)
def test_what_shows_while_training_is_one_error_and_the_record_stands(command, said, tmp_path, capsys):
    assert run_mistaken(command, tmp_path / "run") == 1
    assert re.search(said, one_error(capsys))
    run = load_run(tmp_path / "run", trust=True)
    assert run.status["state"] == "failed"
    assert re.search(said.removeprefix("at step 0: "), run.status["reason"])


def test_evaluating_a_mistaken_agent_is_one_error(tmp_path, capsys):
    assert run_mistaken("train @EvaluateNone", tmp_path / "run") == 0
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), "--episodes", "2", "--trust"]) == 2
    assert "EvaluateNone.evaluate returned a NoneType" in one_error(capsys)
