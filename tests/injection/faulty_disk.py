"""A disk that fails, a process that ends, and a machine that loses its power, at any one file operation.

`Disk` stands in for `os` where the house reads and writes files (`runs.files`, `runs.locks`). It counts the operations
that pass through it and, at the one it was told, raises an error of the operating system (`Failing`), or ends the
process (`Killing`): a BaseException, after which nothing of the process reaches the disk any more. `Noting` lets all of
them pass and can afterwards say what a disk may hold if the power goes between any two of them (`power_cut`).
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stablegrad.runs import files, locks

WRITING = frozenset({"write", "fsync", "ftruncate", "rename", "replace", "link", "unlink", "mkdir", "rmdir"})
OPERATIONS = WRITING | {"open", "read", "listdir"}


class Killed(BaseException):
    """The process ended here."""


class Disk:
    """Passes everything on to `os`, and counts. Nothing has to survive a test: `fsync` does not wait for any disk."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in OPERATIONS:
            return real

        def call(*given: Any, **more: Any) -> Any:
            self.count += 1
            self.names.append(name)
            return self.at(name, (lambda *_, **__: None) if name == "fsync" else real, given, more)

        return call

    def at(self, name: str, real: Callable[..., Any], given: tuple[Any, ...], more: dict[str, Any]) -> Any:
        return real(*given, **more)


class Failing(Disk):
    """From operation `at` on, `times` operations of writing (or of any kind that `at` is) fail with `number`.

    With `midway` a write takes half of its data first, as a disk does that becomes full.
    """

    def __init__(self, at: int, number: int, *, times: int = 1, midway: bool = False) -> None:
        super().__init__()
        self._at, self._number, self._left, self._midway = at, number, times, midway
        self._kinds: frozenset[str] = frozenset()
        self.failed = 0

    def at(self, name: str, real: Callable[..., Any], given: tuple[Any, ...], more: dict[str, Any]) -> Any:
        if self.count == self._at:
            self._kinds = WRITING | {name, "open"} if name in WRITING | {"open"} else frozenset({name})
            if self._midway and name == "write" and len(given[1]) > 1:
                return real(given[0], bytes(given[1])[: len(given[1]) // 2])  # the rest of it meets the full disk
        reading = name == "open" and not given[1] & (os.O_WRONLY | os.O_RDWR) and self.count != self._at
        if self.count >= self._at and self._left and name in self._kinds and not reading:
            self._left -= 1
            self.failed += 1
            raise OSError(self._number, os.strerror(self._number))
        return real(*given, **more)


class Killing(Disk):
    """The process ends before operation `at`, or `midway`: a write leaves half of its data."""

    def __init__(self, at: int, *, midway: bool = False, end: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._at, self._midway, self._end = at, midway, end

    def at(self, name: str, real: Callable[..., Any], given: tuple[Any, ...], more: dict[str, Any]) -> Any:
        if self.count < self._at:
            return real(*given, **more)
        if self.count == self._at and self._midway and name == "write":
            real(given[0], bytes(given[1])[: len(given[1]) // 2])
        if self._end is not None:
            self._end()
        raise Killed


@contextlib.contextmanager
def in_place(disk: Any) -> Iterator[Any]:
    """Let the house's files go through `disk`."""
    files.os = locks.os = disk  # type: ignore[attr-defined]
    try:
        yield disk
    finally:
        files.os = locks.os = os  # type: ignore[attr-defined]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but locks, and what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("lock", "claim")
    }
