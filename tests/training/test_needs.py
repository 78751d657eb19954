"""What no memory holds is refused with the size that it would take, before anything of it is allocated."""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from stablegrad.envs import EnvSpec
from stablegrad.errors import UserError
from stablegrad.replay import memory
from stablegrad.runs.config import RunConfig
from stablegrad.training.loop import Training
from stablegrad.training.memory import check_environments, check_learning

CARTPOLE = {"env_id": "CartPole-v1", "num_envs": 4}
OBS, ACTIONS = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2)
GB = 10**9


def config(algo: str = "pqn", **settings) -> RunConfig:
    return RunConfig.resolve(algo, {**CARTPOLE, **settings})


@pytest.mark.parametrize(
    ("algo", "settings", "named"),
    [
        ("pqn", {"mlp_width": 10**8}, "--mlp_width 100000000"),
        ("pqn", {"mlp_depth": 10**8}, "--mlp_depth 100000000"),
        ("pqn", {"num_steps": 10**11, "num_minibatches": 1}, "--num_envs 4 --num_steps 100000000000"),
        ("ppo", {"num_steps": 10**11, "num_minibatches": 1}, "--num_steps 100000000000"),
        ("dqn", {"batch_size": 10**12}, "--batch_size 1000000000000"),
        ("rainbow", {"n_atoms": 10**10}, "--n_atoms 10000000000"),
    ],
)
def test_a_size_that_no_memory_holds_is_refused_by_its_flag(algo, settings, named):
    with pytest.raises(UserError, match="would take at least") as refused:
        check_learning(config(algo, **settings), OBS, ACTIONS, available=8 * GB)
    assert named in str(refused.value)
    assert "8.0 GB are free" in str(refused.value)
    check_learning(config(algo), OBS, ACTIONS, available=8 * GB)


def test_a_batch_of_long_stacks_names_the_stack():
    """2 x 32 observations of 100,000 frames of 84 x 84 bytes: 45.2 GB, and it was the batch alone that was named."""
    stacked = RunConfig.resolve("dqn", {"env_id": "Breakout-v5", "frame_stack": 100_000})
    frames = spaces.Box(0, 255, (100_000, 84, 84), np.uint8)
    with pytest.raises(UserError, match=r"45\.2 GB of it for experience \(--batch_size 32 --frame_stack 100000\)"):
        check_learning(stacked, frames, ACTIONS, available=8 * GB)


def test_the_size_is_the_one_that_it_would_take():
    """A width of 100,000: 4 inputs, two square layers, 512 features; four numbers of four bytes each with Adam.

    Beside them a block is 10,000 bytes, and a step of the rollout 40.
    """
    wide = config(mlp_width=10**5, mlp_depth=1, optimizer="adam", use_ln=False)
    w = 10**5
    parameters = (4 * w + w) + 2 * (w * w + w) + (w * 512 + 512) + (512 * 2 + 2)
    rollout = 4 * 32 * (4 * 4 + 24)
    exact = 16 * parameters + 10_000 + rollout
    check_learning(wide, OBS, ACTIONS, available=exact)
    with pytest.raises(UserError, match=r"at least 320\.8 GB of memory"):
        check_learning(wide, OBS, ACTIONS, available=exact - 1)
    check_learning(
        wide, OBS, ACTIONS, learns=False, available=4 * parameters + 10_000
    )  # to play, the weights are enough
    with pytest.raises(UserError, match=r"at least 641\.7 GB"):
        check_learning(wide, OBS, ACTIONS, runs=2, available=exact)


def test_blocks_are_counted_that_hold_hardly_a_parameter():
    """A million blocks of width 8 are 2.4 GB of numbers with Adam, and took some 20 GB."""
    deep = config(mlp_depth=10**6, mlp_width=8, optimizer="adam", use_ln=False)
    with pytest.raises(UserError, match=r"at least 12\.3 GB .*--mlp_depth 1000000"):
        check_learning(deep, OBS, ACTIONS, available=8 * GB)


def test_environments_are_counted_with_their_frames():
    atari = EnvSpec.resolve({"env_id": "Breakout-v5"})
    check_environments(atari, 128, available=8 * GB)
    with pytest.raises(UserError, match=r"at least 1\.2 TB .*--num_envs 1000000 --frame_stack 4"):
        check_environments(atari, 1_000_000, available=8 * GB)
    stacked = dataclasses.replace(atari, frame_stack=100_000)
    with pytest.raises(UserError, match="--frame_stack 100000"):
        check_environments(stacked, 8, available=8 * GB)
    check_environments(EnvSpec.resolve({"env_id": "CartPole-v1"}), 1_000_000, available=8 * GB)


def test_nothing_is_allocated_for_what_is_refused(monkeypatch):
    """The negative control: with memory that would hold it, the environments are built."""
    built = []
    monkeypatch.setattr("stablegrad.training.loop.make", lambda *args, **rest: built.append(rest) or 1 / 0)
    many = config(num_envs=10**7, num_steps=1, num_minibatches=1)
    monkeypatch.setattr(memory, "available_bytes", lambda: 8 * GB)
    with pytest.raises(UserError, match="--num_envs 10000000"):
        Training(many)
    assert built == []
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**15)
    with pytest.raises(ZeroDivisionError):
        Training(many)
    assert built == [{"num_envs": 10**7, "seed": 1}]
