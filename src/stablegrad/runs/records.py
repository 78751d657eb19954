"""The lines that a run records, and what becomes of them where the run goes on from an earlier point. Torch-free.

`metrics.jsonl` and `episodes.jsonl` belong to the process that trains. `evaluations.jsonl` has two writers: the run
itself, and `stablegrad eval`, whose lines say so (`"by": "eval"`) and stay whatever the run does.

A checkpoint says how far each file was (`cursors`). Nothing after that is lost when a run goes on from there: it is
moved into `superseded/step_<where it goes on>/`, later checkpoints too.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stablegrad.runs import files, locks

METRICS, EPISODES, EVALUATIONS = "metrics.jsonl", "episodes.jsonl", "evaluations.jsonl"
NAMES = (METRICS, EPISODES, EVALUATIONS)
"""In the order of a checkpoint's cursors."""
SUPERSEDED = "superseded"
BY_EVAL = "eval"
"""`by` of a line that `stablegrad eval` wrote."""


class SharedLines:
    """JSON lines with several writers: every record is added under a lock and on the disk at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, record: dict[str, Any]) -> None:
        """Add a record: all of it or, with a DiskError, nothing."""
        with locks.held(self.path) as handle:
            size = self.path.stat().st_size
            torn = size > 0 and files.read_part(self.path, size - 1, size) != b"\n"
            files.append(handle, self.path, b"\n" * torn + json.dumps(record).encode() + b"\n")
        files.sync(self.path)
        files.sync(self.path.parent)

    def check(self) -> None:
        """DiskError where no record can be added."""
        os.close(files.open_to_append(self.path))

    def cursor(self) -> int:
        """Bytes so far, all of them on the disk."""
        return self.path.stat().st_size if self.path.exists() else 0


def missing(folder: Path, cursors: Sequence[int]) -> list[str]:
    """What the files in `folder` lack of what a checkpoint with these cursors counts, one sentence each."""
    found = []
    for path, cursor in zip((folder / name for name in NAMES), cursors, strict=True):
        if path.is_symlink():
            found.append(f"{path.name} is a link, and a run touches nothing outside its folder")
            continue
        size = path.stat().st_size if path.is_file() else 0
        if size < cursor:
            have = f"has {size:,} bytes" if path.exists() else "is not there"
            found.append(f"{path.name} {have}, and the checkpoint counts {cursor:,}")
        elif cursor and files.read_part(path, cursor - 1, cursor) != b"\n":
            found.append(f"{path.name} is not the file that the checkpoint counts: no line ends at byte {cursor:,}")
    return found


def usable(folder: Path, cursors: Sequence[int]) -> list[int]:
    """The cursors that what is there allows: whole lines, and no more than a checkpoint with these cursors counts."""
    ends = [min(cursor, _size(folder / name)) for name, cursor in zip(NAMES, cursors, strict=True)]
    return [
        files.read_part(folder / name, 0, end).rfind(b"\n") + 1 if end else 0
        for name, end in zip(NAMES, ends, strict=True)
    ]


def rewind(
    folder: Path, cursors: Sequence[int], checkpoints: Sequence[Path], *, step: int, all_evaluations: bool = False
) -> Path | None:
    """Let the records end where a checkpoint's cursors say, and move what comes after (and `checkpoints`, the later
    ones, newest first) into a folder of its own; that folder, or None where nothing comes after.

    The lines of `stablegrad eval` stay, or with `all_evaluations` go along. Nothing is cut before a copy is on the
    disk; ended at any point and done again, it ends the same.
    """
    tails = [
        (folder / name, cursor)
        for name, cursor in zip(NAMES, cursors, strict=True)
        if _size(folder / name) > cursor and (all_evaluations or _of_the_run(folder / name, cursor))
    ]
    if not tails and not checkpoints:
        return None
    aside = _new_folder(folder / SUPERSEDED, f"step_{step:012d}", tails)
    if checkpoints:
        files.make_folder(aside / "checkpoints")
    for checkpoint in checkpoints:
        files.rename(checkpoint, aside / "checkpoints" / checkpoint.name)
    for path, cursor in tails:
        if path.name == EVALUATIONS:
            with locks.held(path):
                lines = [] if all_evaluations else _lines_from(path, cursor)
                kept = b"".join(line for line in lines if _is_by_eval(line))
                files.write_bytes(path, files.read_part(path, 0, cursor) + kept)
        else:
            files.cut(path, cursor)
    return aside


def _of_the_run(path: Path, cursor: int) -> bool:
    """Whether anything after `cursor` is not of `stablegrad eval`."""
    return path.name != EVALUATIONS or not all(map(_is_by_eval, _lines_from(path, cursor)))


def _lines_from(path: Path, cursor: int) -> list[bytes]:
    return files.read_part(path, cursor, _size(path)).splitlines(keepends=True)


def _is_by_eval(line: bytes) -> bool:
    record = files.record_of(line)
    return not line.strip() if record is None else record.get("by") == BY_EVAL


def _new_folder(parent: Path, name: str, tails: Sequence[tuple[Path, int]]) -> Path:
    """A folder with the tails of these files; it is there when all of them are."""
    files.make_folder(parent)
    for leftover in files.names_in(parent):
        if leftover.startswith("."):
            files.remove(parent / leftover)
    taken = files.names_in(parent)
    number = next(n for n in range(1, len(taken) + 2) if _numbered(name, n) not in taken)
    target, preparing = parent / _numbered(name, number), parent / f".{name}"
    files.make_folder(preparing)
    for path, cursor in tails:
        files.copy(path, preparing / path.name, start=cursor)
    files.sync(preparing)
    files.rename(preparing, target)
    return target


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}.{number}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0


def recorded(folder: Path) -> list[str]:
    """The names of the files that hold lines."""
    return [name for name in NAMES if _size(folder / name)]
