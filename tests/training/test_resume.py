"""A run that is stopped anywhere and resumed ends with the same bits as one that was not."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from small_runs import DQN, PPO, PQN, RAINBOW, TINY_ATARI, assert_identical

from stablegrad.replay.segments import SegmentedArray
from stablegrad.runs import checkpoint

LEARNING = Path(__file__).parents[1] / "learning"
PROBED = {"diagnostics": "full", "diagnostics_every": 192}
TWO_SENSES = f"{LEARNING}/tiny_envs.py:TwoSenses"

CASES = [
    pytest.param("pqn", {"env_id": "CartPole-v1", "optimizer": optimizer, **PQN}, id=f"pqn-{optimizer}")
    for optimizer in ("adam", "adamw", "radam", "sgd", "rmsprop", "kron")
] + [
    pytest.param("pqn", {"env_id": "MinAtar/Breakout", "optimizer": "kron", **PQN}, id="pqn-minatar-kron"),
    pytest.param("ppo", {"env_id": "CartPole-v1", "optimizer": "adam", **PPO}, id="ppo-adam"),
    pytest.param("ppo", {"env_id": "CartPole-v1", "optimizer": "kron", **PPO}, id="ppo-kron"),
    pytest.param("ppo", {"env_id": "CartPole-v1", "optimizer": "radam", **PPO}, id="ppo-radam"),
    pytest.param("ppo", {"env_id": f"{LEARNING}/tiny_envs.py:Locks", **PPO}, id="ppo-choices"),
    pytest.param("ppo", {"env_id": "Pendulum-v1", "optimizer": "radam", **PPO}, id="ppo-continuous"),
    *(
        pytest.param(algo, {"env_id": "CartPole-v1", "optimizer": optimizer, **replayed}, id=f"{algo}-{optimizer}")
        for algo, replayed in (("dqn", DQN), ("rainbow", RAINBOW))
        for optimizer in ("adam", "radam", "kron")
    ),
    pytest.param("rainbow", {"env_id": "MinAtar/Breakout", **RAINBOW, "noisy": "head"}, id="rainbow-minatar"),
    pytest.param("dqn", {**DQN, **TINY_ATARI, "double": True}, id="dqn-atari"),
    *(
        pytest.param(algo, {"env_id": TWO_SENSES, "cnn_size": 2, **settings}, id=f"{algo}-parts")
        for algo, settings in (("pqn", {**PQN, **PROBED}), ("ppo", PPO), ("dqn", DQN), ("rainbow", RAINBOW))
    ),
]


@pytest.mark.parametrize(("algo", "settings"), CASES)
def test_stopped_anywhere_and_resumed_is_bit_identical(run, request, algo, settings):
    stops = tuple(np.random.default_rng(zlib.crc32(request.node.name.encode())).integers(1, 32, 4).tolist())
    whole = run(algo, {**settings, "total_timesteps": 384}, name="whole")
    pieces = run(algo, {**settings, "total_timesteps": 384}, stops=stops, name="pieces")
    assert_identical(whole, pieces)
    strip = [{k: v for k, v in row.items() if not k.startswith("time/") and k != "seconds"} for row in whole.rows()]
    assert [{k: row[k] for k in ref} for row, ref in zip(pieces.rows(), strip, strict=True)] == strip


@pytest.mark.parametrize(
    ("algo", "settings"),
    [("dqn", {**DQN, "optimizer": "kron"}), ("rainbow", {**RAINBOW, "optimizer": "radam"})],
)
def test_torn_out_of_the_loop_and_resumed_from_the_last_checkpoint_is_bit_identical(run, monkeypatch, algo, settings):
    """A replay of 120 comes around between the checkpoints, which share the segments that were not written to."""
    monkeypatch.setitem(SegmentedArray.__init__.__kwdefaults__, "segment_bytes", 500)
    settings = {"env_id": "CartPole-v1", **settings, "total_timesteps": 320, "checkpoint_every": 64}
    whole = run(algo, settings, name="whole")
    torn = run(algo, settings, crashes=(35, 27), name="torn")  # 4 steps each: at 140, and at 128 + 108
    assert run.began == [0, 0, 128, 192]
    assert_identical(whole, torn)
    newest, before = checkpoint.paths(torn.checkpoints)
    shared = [path for path in newest.glob("segment_*") if path.stat().st_nlink == 2]
    assert before.name == "step_000000000256"
    assert 0 < len(shared) < len(list(newest.glob("segment_*")))


def test_a_segment_that_hides_a_write_would_be_seen(run, monkeypatch):
    """The control: a checkpoint that shares it has the rows of an earlier one."""
    monkeypatch.setitem(SegmentedArray.__init__.__kwdefaults__, "segment_bytes", 500)
    settings = {"env_id": "CartPole-v1", **DQN, "total_timesteps": 320, "checkpoint_every": 64}
    whole = run("dqn", settings, name="whole")

    def write(array, index, rows):
        array.data[index] = rows
        array._versions[index // array._rows] = 1

    monkeypatch.setattr(SegmentedArray, "write", write)
    torn = run("dqn", settings, crashes=(35, 27), name="torn")
    with pytest.raises(AssertionError):
        assert_identical(whole, torn)


def test_another_seed_is_not_identical(run):
    """The control: the comparison can fail."""
    settings = {"env_id": "CartPole-v1", **PQN, "total_timesteps": 256}
    one, other = run("pqn", settings, name="one"), run("pqn", {**settings, "seed": 2}, name="other")
    with pytest.raises(AssertionError):
        assert_identical(one, other)
