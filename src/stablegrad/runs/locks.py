"""Locks on files: each lasts until the process that holds it gives it up or is gone, by whatever cause. Torch-free."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from stablegrad.runs import files

_POLL_SECONDS = 0.02

LOCK = "lock"
"""The lock in a run's folder of the process that trains it."""
CLAIM = "claim"
"""That of whoever has it trained by another process (see `sweeps.process`)."""


def take(path: Path, *, patience: float = 0.0) -> int | None:
    """A handle that holds the lock on a file, made where there is none; None where another holds it for so long.

    Closing the handle gives the lock up. A look at who holds it (`is_held`) holds it for an instant, which is what
    patience is for.
    """
    until = time.monotonic() + patience
    while True:
        handle = files.open_to_append(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() >= until:
                return None
            time.sleep(_POLL_SECONDS)
        except BaseException:
            os.close(handle)
            raise
        else:
            if _is_at(handle, path):
                return handle
            os.close(handle)  # it was removed in the meantime: what lies there now is another lock


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold the lock on a file for moments that others wait for; the handle writes at the file's end."""
    handle = take(path, patience=float("inf"))
    assert handle is not None, "it waits for ever"
    try:
        yield handle
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock on a file now; not where there is no such file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def sign(handle: int) -> None:
    """Write into a lock who holds it; a disk that does not take it changes nothing about who does."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())


def holder(path: Path) -> str:
    """Who holds a lock, by what it wrote into it."""
    try:
        return files.read_bytes(path).decode(errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)
