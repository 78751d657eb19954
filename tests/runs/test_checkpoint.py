"""Checkpoints are whole or not there, and come back bit for bit."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from stablegrad.replay.segments import Segment
from stablegrad.runs import checkpoint
from stablegrad.runs.tree import decode, encode

TREE = {
    "step": 7,
    "loss": 0.1 + 0.2,
    "nan": float("nan"),
    "none": None,
    "name": "x",
    "big": 2**100,
    "pair": (1, (2.5, "y")),
    "moments": {0: {"exp_avg": torch.randn(3, 2, generator=torch.Generator().manual_seed(0))}, 1: {}},
    "numbers": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": torch.tensor(1.5, dtype=torch.float64),
    "listed": [torch.tensor([1, 2]), [], {}],
}


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor | np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert (a == b).all()
    else:
        assert a == b or (a != a and b != b)


def test_a_tree_survives_json_and_safetensors_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path, 7, TREE, keep=1)
    assert_same(checkpoint.load(tmp_path / "step_000000000007"), TREE)


def test_no_pickle_is_written(tmp_path):
    path = checkpoint.save(tmp_path, 7, TREE, keep=1)
    assert sorted(p.suffix for p in path.iterdir()) == [".json", ".json", ".safetensors"]


def test_a_leaf_that_cannot_be_stored_is_named():
    with pytest.raises(TypeError, match="object at /a/1"):
        encode({"a": [1, object()]})


def test_a_view_is_stored_as_it_was_when_the_tree_was_taken():
    weights = torch.zeros(3)
    encoded = encode({"w": weights[1:]})
    weights += 1
    assert decode(*encoded)["w"].tolist() == [0.0, 0.0]


def test_the_newest_are_kept(tmp_path):
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["step_000000000030", "step_000000000020"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    checkpoint.save(tmp_path, 1, {"w": torch.ones(4)}, keep=2)
    newest = checkpoint.save(tmp_path, 2, {"w": torch.zeros(4)}, keep=2)
    file = newest / ("manifest.json" if damage == "manifest" else "tensors.safetensors")
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(data[:-3])
    elif damage == "manifest":
        file.write_text("{")
    else:
        data[-1] ^= 1
        file.write_bytes(data)
    warnings: list[str] = []
    newest = checkpoint.load_newest(tmp_path, warn=warnings.append)
    assert newest.path.name == "step_000000000001"
    assert newest.state["w"].tolist() == [1.0] * 4
    assert len(warnings) == 1
    assert "step_000000000002" in warnings[0]


def test_the_same_step_again_replaces_only_a_damaged_checkpoint(tmp_path):
    path = checkpoint.save(tmp_path, 5, {"w": torch.ones(2)}, keep=2)
    checkpoint.save(tmp_path, 5, {"w": torch.zeros(2)}, keep=2)
    assert checkpoint.load(path)["w"].tolist() == [1.0, 1.0]  # valid: left alone
    (path / "state.json").write_text("{}")
    checkpoint.save(tmp_path, 5, {"w": torch.zeros(2)}, keep=2)
    assert checkpoint.load(path)["w"].tolist() == [0.0, 0.0]


def test_segments_that_did_not_change_are_shared_with_the_checkpoint_before(tmp_path):
    first, second = np.arange(1000, dtype=np.uint8) % 7, np.zeros(1000, np.uint8)
    tree = {"ring": [Segment("a", 1, first), Segment("b", 1, second)]}
    old = checkpoint.save(tmp_path, 1, tree, keep=2)
    changed = {"ring": [Segment("a", 1, first), Segment("b", 2, second + 1)]}
    new = checkpoint.save(tmp_path, 2, changed, keep=1, previous=old)
    assert not old.exists()  # dropping the old one must not take the shared file along
    inodes = {p.name: p.stat().st_nlink for p in new.glob("segment_*")}
    assert len(inodes) == 2
    ring = checkpoint.load(new)["ring"]
    assert (ring[0].data == first).all()
    assert (ring[1].data == 1).all()
    assert (ring[1].key, ring[1].version) == ("b", 2)


def _save_in_a_child_that_dies(folder: Path, fatal: int) -> tuple[int, int]:
    """Save step 2 in a forked child that dies at its `fatal`-th system call: (exit code, calls it made)."""
    counter = folder / "calls"
    child = os.fork()
    if child == 0:
        calls = 0

        def counted(function):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == fatal:
                    os._exit(9)
                return function(*args, **kwargs)

            return call

        os.fsync, os.open, os.rename, os.replace = map(counted, (os.fsync, os.open, os.rename, os.replace))
        checkpoint.save(folder, 2, {"w": torch.full((1000,), 2.0)}, keep=2)
        counter.write_text(str(calls))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(counter.read_text()) if counter.exists() else 0


def test_a_kill_at_any_moment_of_saving_leaves_a_valid_newest_checkpoint(tmp_path):
    """Die at the n-th system call of a save, for every n: what is loaded is the old state or the new one."""

    def save_and_die_at(call: int) -> tuple[Path, int, int]:
        folder = tmp_path / str(call)
        checkpoint.save(folder, 1, {"w": torch.full((1000,), 1.0)}, keep=2)
        return folder, *_save_in_a_child_that_dies(folder, call)

    _, code, total = save_and_die_at(10**6)
    assert code == 0
    assert total >= 8
    seen = []
    for call in range(1, total + 1):
        folder, code, _ = save_and_die_at(call)
        assert code == 9
        newest = checkpoint.load_newest(folder, warn=pytest.fail)
        seen.append(float(newest.state["w"].mean()))
        checkpoint.save(folder, 3, {"w": torch.zeros(1)}, keep=2)
        assert not list(folder.glob(".step_*"))  # what the dead process left is swept away
    assert seen == sorted(seen)  # the old state until the rename, the new one from there on
    assert {1.0, 2.0} == set(seen)


def test_a_file_of_an_unknown_format_is_refused_in_words(tmp_path):
    path = checkpoint.save(tmp_path, 1, {}, keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(Exception, match="format 99"):
        checkpoint.load(path)
