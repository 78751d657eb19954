"""Files: whole or not at all, one kind of error, and every writer of the house goes through one door."""

import ast
import errno
import json
import os
from pathlib import Path

import pytest

from stablegrad.runs import files, locks
from stablegrad.runs.records import SharedLines

SOURCES = sorted(Path(files.__file__).parents[1].rglob("*.py"))

_WRITERS = {"write_text", "write_bytes", "mkdir", "touch", "unlink", "rmdir", "symlink_to", "hardlink_to", "rename"}
_MODULES = {
    "os": {
        "open",
        "rename",
        "replace",
        "remove",
        "unlink",
        "mkdir",
        "makedirs",
        "rmdir",
        "link",
        "symlink",
        "truncate",
    },
    "shutil": {"copyfile", "copy", "copy2", "copytree", "move", "rmtree"},
}
_EXEMPT = {"runs/files.py", "runs/locks.py"}
"""The door itself, and locks, which hold nothing that has to last."""


def writes(source: str) -> list[tuple[int, str]]:
    """Calls that write files by themselves: line and name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            found.append((node.lineno, "open"))
        elif isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else None
            if owner in _MODULES:
                if function.attr in _MODULES[owner]:
                    found.append((node.lineno, f"{owner}.{function.attr}"))
            elif owner != "files" and function.attr in _WRITERS:
                found.append((node.lineno, function.attr))
            elif function.attr == "open" and any(
                isinstance(a, ast.Constant) and isinstance(a.value, str) and set(a.value) & set("wax+")
                for a in node.args
            ):
                found.append((node.lineno, "open"))
    return found


def test_nothing_of_the_house_writes_files_by_itself():
    """So that the tests see every write of it, and it fails in one way."""
    root = Path(files.__file__).parents[1]
    found = {
        f"{path.relative_to(root)}:{line} {name}"
        for path in SOURCES
        if str(path.relative_to(root)) not in _EXEMPT
        for line, name in writes(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "line", ["path.write_text('x')", "path.open('ab')", "os.replace(a, b)", "open(p, 'w')", "p.mkdir()"]
)
def test_a_write_past_the_door_is_seen(line):
    assert writes(line)


@pytest.mark.parametrize(
    "line", ["files.rename(a, b)", "RunFolder.open(path)", "tarfile.open(place)", "path.open('rb')"]
)
def test_reading_and_the_door_itself_are_not(line):
    assert writes(line) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(files.DiskError, match=r"a\.json cannot be written: the disk is full") as told:
        files.write_json(path, {"new": 2})
    assert told.value.words == "the disk is full"
    assert told.value.errno == errno.ENOSPC
    assert json.loads(path.read_text()) == {"old": 1}
    assert [other.name for other in tmp_path.iterdir()] == ["a.json"]


def test_missing_is_not_unreadable(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "a.json")
    assert list(files.read_lines(tmp_path / "a.jsonl")) == []
    assert files.names_in(tmp_path / "b") == []
    with pytest.raises(files.DiskError, match="cannot be read: Is a directory"):
        files.read_bytes(tmp_path)


def test_a_line_that_finds_no_room_leaves_no_half_of_it(tmp_path, monkeypatch):
    writer = files.LineWriter(tmp_path / "rows.jsonl")
    writer.write({"step": 1})
    write = os.write

    def almost_full(handle, data):
        monkeypatch.setattr(os, "write", full)
        return write(handle, bytes(data)[:5])

    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", almost_full)
    with pytest.raises(files.DiskError, match="the disk is full"):
        writer.write({"step": 2})
    monkeypatch.setattr(os, "write", write)
    writer.write({"step": 3})
    writer.close()
    assert (tmp_path / "rows.jsonl").read_text() == '{"step": 1}\n{"step": 3}\n'


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_lines_go_into_regular_files_of_the_folder_alone(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    if kind == "link":
        (tmp_path / "elsewhere").write_text("untouched")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    with pytest.raises(files.DiskError, match="it is a link" if kind == "link" else "it is no regular file"):
        files.LineWriter(path)
    if kind == "link":
        assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_records_are_objects_on_lines_of_their_own(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n[1]\n5\nnull\n\xff\xfe\n{"b": 2}\n{"torn')
    assert list(files.read_lines(path)) == [{"a": 1}, {"b": 2}]
    assert files.read_last_line(path) == {"b": 2}
    path.write_bytes(b"".join(b'{"n": %d}\n' % n for n in range(200_000)))  # more than is read at once
    assert [line["n"] for line in files.read_lines(path)] == list(range(200_000))


def test_half_a_line_of_another_writer_does_not_spoil_the_next(tmp_path):
    (tmp_path / "evaluations.jsonl").write_bytes(b'{"a": 1}\n{"torn')
    SharedLines(tmp_path / "evaluations.jsonl").write({"b": 2})
    assert list(files.read_lines(tmp_path / "evaluations.jsonl")) == [{"a": 1}, {"b": 2}]


def test_a_lock_that_was_removed_in_the_meantime_is_not_taken_for_the_new_one(tmp_path):
    first = locks.take(tmp_path / "lock")
    assert first is not None
    (tmp_path / "lock").unlink()
    second = locks.take(tmp_path / "lock")
    assert second is not None, "there is a new file, which nobody holds"
    assert locks.take(tmp_path / "lock") is None
    os.close(first)
    assert locks.is_held(tmp_path / "lock")
    os.close(second)
    assert not locks.is_held(tmp_path / "lock")


def test_a_name_as_long_as_the_disk_takes_is_written(tmp_path):
    """255 letters; aside, under a longer name, it could not be written, which came out after all the work for it."""
    for name in ("x" * 255, "Ä" * 127):
        files.write_text(tmp_path / name, "here")
        assert (tmp_path / name).read_text() == "here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x" * 255, "Ä" * 127]
    with pytest.raises(files.DiskError):
        files.write_text(tmp_path / ("x" * 256), "there")


def test_folders_deeper_than_calls_may_be_are_made(tmp_path, few_calls):
    deep = tmp_path.joinpath(*["d"] * 200)
    with few_calls:
        files.make_folder(deep)
    assert deep.is_dir()
