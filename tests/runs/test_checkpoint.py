"""Checkpoints are whole or not there, and come back bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stablegrad.errors import UserError
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


def test_the_same_step_again_is_not_written_where_it_was_the_last(tmp_path):
    path = checkpoint.save(tmp_path, 5, {"w": torch.ones(2)}, keep=2)
    checkpoint.save(tmp_path, 5, {"w": torch.zeros(2)}, keep=2, previous=path)
    assert checkpoint.load(path)["w"].tolist() == [1.0, 1.0]  # a stop right after a save
    checkpoint.save(tmp_path, 5, {"w": torch.zeros(2)}, keep=2)
    assert checkpoint.load(path)["w"].tolist() == [0.0, 0.0]  # of an earlier try: replaced by a whole one


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


def test_a_file_of_an_unknown_format_is_refused_in_words(tmp_path):
    path = checkpoint.save(tmp_path, 1, {}, keep=1)
    signed(path, format=99)
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(path)


def signed(path: Path, **changes) -> None:
    """Change a manifest and sign it again, as a later version would have written it."""
    manifest = {**json.loads((path / "manifest.json").read_text()), **changes}
    del manifest["sha256"]
    text = json.dumps({**manifest, "sha256": checkpoint._checksum(manifest)})
    (path / "manifest.json").write_text(text)


def as_format_1(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    old = {name: value for name, value in manifest.items() if name not in ("sha256", "made_under")}
    (path / "manifest.json").write_text(json.dumps({**old, "format": 1}, indent=2) + "\n")


RING = {"w": torch.ones(4), "ring": [Segment("a", 3, np.arange(40, dtype=np.uint8))]}


def test_the_first_format_is_still_read(tmp_path):
    path = checkpoint.save(tmp_path, 1, RING, keep=1, made_under={"torch": "1"})
    as_format_1(path)
    newest = checkpoint.load_newest(tmp_path, warn=pytest.fail)
    assert newest.state["w"].tolist() == [1.0] * 4
    assert newest.state["ring"][0].version == 3
    assert newest.made_under is None


def test_what_it_was_made_under_comes_back(tmp_path):
    checkpoint.save(tmp_path, 1, {}, keep=1, made_under={"threads": 2})
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail).made_under == {"threads": 2}


def test_any_single_bit_of_a_manifest_may_flip(tmp_path):
    """Each is seen, and the one before is used: of 14 % of them every resume once ended with a traceback."""
    checkpoint.save(tmp_path, 1, {"w": torch.zeros(4)}, keep=2)
    path = checkpoint.save(tmp_path, 2, RING, keep=2) / "manifest.json"
    text = path.read_bytes()
    for bit in np.random.default_rng(0).permutation(8 * len(text))[:400].tolist():
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        assert checkpoint.load_newest(tmp_path, warn=lambda problem: None).path.name == "step_000000000001"
    path.write_bytes(text)
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail).path == path.parent


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "5", '"x"', "{}", '{"format": 1}', '{"format": 1, "files": [], "segments": {}}', "[" * 100_000,
     '{"format": 1, "step": 2, "files": {}, "segments": {}}', '{"format": 2, "files": {}, "segments": {}}',
     '{"format": 1, "files": {"state.json": 1, "tensors.safetensors": 2}, "segments": {}}',
     '{"format": 1, "files": {}, "segments": []}', '{"format": "1"}', '{"format": null, "sha256": 1}'],
)  # fmt: skip
def test_any_other_json_in_a_manifest_is_damage(tmp_path, text):
    checkpoint.save(tmp_path, 1, {"w": torch.zeros(4)}, keep=2)
    newest = checkpoint.save(tmp_path, 2, {"w": torch.ones(4)}, keep=2)
    (newest / "manifest.json").write_text(text)
    warnings: list[str] = []
    found = checkpoint.load_newest(tmp_path, warn=warnings.append)
    assert found.path.name == "step_000000000001"
    assert len(warnings) == 1


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "segment_00000.safetensors/../x", "state.json"]
)
@pytest.mark.parametrize("signed_again", [True, False])
def test_a_segment_s_name_cannot_leave_the_folder(tmp_path, name, signed_again):
    """Not even where somebody signed it: checksums are against accidents."""
    path = checkpoint.save(tmp_path / "checkpoints", 1, RING, keep=2)
    (tmp_path / "checkpoints" / "secret.safetensors").write_bytes((path / "segment_00000.safetensors").read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    entry = manifest["files"].pop("segment_00000.safetensors")
    (key,) = manifest["segments"]
    changes = {
        "files": {**manifest["files"], name: entry}, "segments": {key: {**manifest["segments"][key], "file": name}},
    }  # fmt: skip
    signed(path, **changes)
    if not signed_again:
        as_format_1(path)
    with pytest.raises(checkpoint.Damaged, match=r"no name of a segment|lists other files|checksum differs"):
        checkpoint.load(path)


def test_a_file_that_became_a_link_is_damage(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", 1, {"w": torch.ones(1)}, keep=1)
    (path / "state.json").rename(tmp_path / "elsewhere")
    (path / "state.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(checkpoint.Damaged, match="it is a link"):
        checkpoint.load(path)


def test_a_folder_of_checkpoints_that_became_a_link_is_not_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a link"):
        checkpoint.save(tmp_path / "checkpoints", 1, {}, keep=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("stray", ["step_foo", "step_9", "step_000000000009.bak", "step_000000000009"])
def test_what_has_another_name_or_is_no_folder_is_no_checkpoint(tmp_path, stray):
    """`step_foo` once counted as the newest, so the newest valid one was dropped in its place."""
    if stray.endswith("9"):
        (tmp_path / stray).write_text("a file")
    else:
        (tmp_path / stray).mkdir()
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"step": step}, keep=1)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["step_000000000002"]
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail).state == {"step": 2}
    assert (tmp_path / stray).exists()


def test_one_that_is_dropped_while_it_is_read_is_no_damage(tmp_path, monkeypatch):
    """A run at work drops old checkpoints; whoever reads finds the newer ones."""
    checkpoint.save(tmp_path, 1, {"step": 1}, keep=1)
    load = checkpoint._load

    def overtaken(path):
        if path.name.endswith("1"):
            checkpoint.save(tmp_path, 2, {"step": 2}, keep=1)
        return load(path)

    monkeypatch.setattr(checkpoint, "_load", overtaken)
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail).state == {"step": 2}
