"""Files that survive a kill or a power cut at any instant: written aside, synced, renamed. Torch-free.

Whatever the house writes goes through here, and from here through `os`, call by call, so that the tests can put
something in its place that fails, ends the process, or notes what a disk may have lost, at any of these calls.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from stablegrad.errors import UserError

_CHUNK = 2**20
_MOST_AT_ONCE = 2**30  # a single write takes no more than 2 GiB
_NAME_BYTES = 200  # of the 255 that a name may have
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
# Not through a link, and without waiting for the other end of a pipe.
_APPEND = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_written = itertools.count()

_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk reports an error",
    errno.ELOOP: "it is a link, and a run touches nothing outside its folder",
}


class DiskError(OSError):
    """A file that cannot be read or written: `str` is one sentence with its name, `words` only why."""

    def __init__(self, path: Path, doing: Literal["read", "written"], error: OSError) -> None:
        super().__init__(error.errno, error.strerror, str(path))
        self.words = in_words(error)
        self._doing = doing

    def __str__(self) -> str:
        return f"{self.filename} cannot be {self._doing}: {self.words}"


def in_words(error: OSError) -> str:
    """Why, for a sentence."""
    if isinstance(error, DiskError):
        return error.words
    return _WORDS.get(error.errno or 0) or error.strerror or str(error)


@contextlib.contextmanager
def _naming(path: Path, doing: Literal["read", "written"]) -> Iterator[None]:
    """Every error of the disk as a DiskError; that there is no such file to read stays what it is."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        if doing == "read" and isinstance(error, FileNotFoundError):
            raise
        raise DiskError(path, doing, error) from error


def sync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    with _naming(path, "written"):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder, and its parents, where they are not there; on the disk when this returns."""
    missing = list(itertools.takewhile(lambda folder: not folder.is_dir(), (path, *path.parents)))
    for folder in reversed(missing or [path]):
        if folder.is_symlink() and not folder.is_dir():
            raise DiskError(folder, "written", OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
        if missing:
            with _naming(folder, "written"):
                try:
                    os.mkdir(folder)
                except FileExistsError:
                    if not folder.is_dir():
                        raise
        # Also where it was there: whoever made it may have been killed before this.
        if folder.parent != folder and os.access(folder.parent, os.R_OK):
            sync(folder.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, in a folder that nobody looks into yet; the folder is not synced."""
    with _naming(path, "written"):
        _create(path, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, atomically: whoever reads sees all of the old or all of the new."""
    # Cut, so that whatever the disk takes as a name can be written.
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    aside = path.with_name(f".{name}.{os.getpid()}.{next(_written)}")
    with _naming(path, "written"):
        try:
            _create(aside, data)
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_bytes(path: Path, *, follow: bool = True) -> bytes:
    """All of a file; without `follow` a link is an error. FileNotFoundError where there is none."""
    with _naming(path, "read"):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        try:
            size = os.fstat(handle).st_size
            parts = []
            while part := os.read(handle, min(size + 1, _MOST_AT_ONCE)):
                parts.append(part)
        finally:
            os.close(handle)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_json(path: Path) -> Any:
    """ValueError where it is not JSON in UTF-8."""
    return json.loads(read_bytes(path).decode())


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError, which says in words what is wrong, for a file that holds anything else."""
    try:
        value = _parse(read_bytes(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The table in a TOML file that the user named; UserError, which begins with `what`, where it cannot be read."""
    try:
        text = read_bytes(path).decode()
    except OSError as error:
        raise UserError(f"{what} cannot be read: {in_words(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} cannot be read: it is not UTF-8 text") from None
    return parse_toml(text, what)


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """The table in `text`; UserError, which begins with `what`, where it is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{what} is not usable TOML: it is nested too deeply") from None
    except ValueError as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise UserError(f"{what} is not valid TOML: {error}") from None


def check_writable(path: Path, what: str) -> None:
    """UserError, which begins with `what`, where no file can be written at `path`: asked before the work for it."""
    try:
        if path.is_dir():
            raise UserError(f"{what}: it is a folder, name a file")
        os.lstat(path)  # a name that is too long shows here, whatever else is there
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{what} cannot be written: {in_words(error)}") from None
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{what} cannot be written: {folder}: {in_words(error)}") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file, none where there is no file; what is not one is skipped: a line that a kill
    tore, or that was edited."""
    for line in _lines(path):
        if (record := record_of(line)) is not None:
            yield record


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with _naming(path, "read"):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rest = b""
        while part := _read(handle, path):
            *whole, rest = (rest + part).split(b"\n")
            yield from whole
        yield rest
    finally:
        os.close(handle)


def _read(handle: int, path: Path) -> bytes:
    with _naming(path, "read"):
        return os.read(handle, _CHUNK)


def read_last_line(path: Path) -> dict[str, Any] | None:
    """The newest whole record of a JSON-lines file, from its end: cheap however long the file is."""
    try:
        size = path.stat().st_size
        text = read_part(path, max(0, size - 65536), size)
    except OSError:
        return None
    return next((record for line in reversed(text.split(b"\n")) if (record := record_of(line)) is not None), None)


def record_of(line: bytes) -> dict[str, Any] | None:
    """A line as a record: an object whose step, if it has one, is a whole number that 64 bits hold; else None."""
    try:
        value = _parse(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    step = value.get("step", 0)
    sound = isinstance(step, int | float) and not isinstance(step, bool) and abs(step) < 2**63 and step == int(step)
    return value if sound else None


def _parse(content: bytes) -> Any:
    """JSON in UTF-8. A whole number of more digits than anything here counts becomes a float, which may be infinite."""
    return json.loads(content.decode(), parse_int=lambda text: int(text) if len(text) <= 20 else float(text))


def read_part(path: Path, start: int, end: int) -> bytes:
    """The bytes from `start` to `end` (or the end of the file)."""
    with _naming(path, "read"):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.lseek(handle, start, os.SEEK_SET)
            parts = []
            while start < end and (part := os.read(handle, min(end - start, _MOST_AT_ONCE))):
                parts.append(part)
                start += len(part)
        finally:
            os.close(handle)
    return b"".join(parts)


def sha256(path: Path) -> str:
    """The checksum of a file that is no link."""
    digest = hashlib.sha256()
    with _naming(path, "read"):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while part := os.read(handle, _CHUNK):
                digest.update(part)
        finally:
            os.close(handle)
    return digest.hexdigest()


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, sorted; nothing where there is none."""
    try:
        with _naming(folder, "read"):
            return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def rename(source: Path, target: Path, *, synced: bool = True) -> None:
    """Give a file or folder another name; on the disk when this returns, unless not `synced`."""
    with _naming(target, "written"):
        os.rename(source, target)
    if synced:
        for folder in {target.parent, source.parent}:
            sync(folder)


def copy(source: Path, target: Path, *, start: int = 0, end: int | None = None) -> None:
    """Write the bytes of `source` from `start` to `end` to a new file, synced; the folder is not."""
    end = source.stat().st_size if end is None else end
    with _naming(target, "written"):
        handle = os.open(target, _NEW, 0o666)
        try:
            while start < end and (part := read_part(source, start, min(end, start + 64 * _CHUNK))):
                _write_all(handle, part)
                start += len(part)
            os.fsync(handle)
        finally:
            os.close(handle)


def link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy of it on a disk that has no such thing; the folder is not synced."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        copy(source, target)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing where there is none."""
    with _naming(path, "written"), contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            for name in os.listdir(path):
                remove(path / name)
            os.rmdir(path)
        else:
            os.unlink(path)


def remove_empty(folder: Path) -> None:
    """Remove a folder; DiskError where something is in it."""
    with _naming(folder, "written"):
        os.rmdir(folder)


def open_to_append(path: Path) -> int:
    """A handle on a regular file, made where there is none, that writes at its end; the folder is not synced."""
    with _naming(path, "written"):
        handle = os.open(path, _APPEND | os.O_CREAT, 0o666)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is no regular file")
    return handle


def append(handle: int, path: Path, data: bytes) -> None:
    """Write at the end of a file that no other process writes to now: all of `data`, or nothing."""
    written = 0
    with _naming(path, "written"):
        try:
            view = memoryview(data)
            while written < len(view):
                written += os.write(handle, view[written:])
        except OSError:
            if written:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, os.fstat(handle).st_size - written)
            raise


def cut(path: Path, size: int) -> None:
    """Drop what lies after the first `size` bytes; on the disk when this returns."""
    with _naming(path, "written"):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.ftruncate(handle, size)
            os.fsync(handle)
        finally:
            os.close(handle)


def _create(path: Path, data: bytes) -> None:
    handle = os.open(path, _NEW, 0o666)
    try:
        _write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    view, written = memoryview(data), 0
    while written < len(view):
        written += os.write(handle, view[written : written + _MOST_AT_ONCE])


class LineWriter:
    """Append-only JSON lines of a single process, one write a record; `cursor` says how far they are on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = open_to_append(path)
        sync(path.parent)

    def write(self, record: dict[str, Any]) -> None:
        """Add a record: all of it or, with a DiskError, nothing."""
        append(self._open, self.path, json.dumps(record).encode() + b"\n")

    def cursor(self) -> int:
        """Bytes written so far, all of them on the disk."""
        with _naming(self.path, "written"):
            os.fsync(self._open)
            return os.fstat(self._open).st_size

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @property
    def _open(self) -> int:
        assert self._handle is not None, "a closed record takes no more lines"
        return self._handle
