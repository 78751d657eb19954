"""Files that survive a kill at any instant: written aside, synced, renamed. Torch-free."""

import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stablegrad.errors import UserError


def sync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON, atomically."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync(path.parent)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError, which says in words what is wrong, for a file that holds anything else."""
    try:
        value = _parse(path.read_bytes())
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
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror}") from None
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
        raise UserError(f"{what} cannot be written: {error.strerror}") from None
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{what} cannot be written: {folder}: {error.strerror}") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file; what is not one is skipped: a line that a kill tore, or that was edited."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if (record := _record(line)) is not None:
                yield record


def read_last_line(path: Path) -> dict[str, Any] | None:
    """The newest whole record of a JSON-lines file, from its end: cheap however long the file is."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    return next((record for line in reversed(lines) if (record := _record(line)) is not None), None)


def _record(line: bytes) -> dict[str, Any] | None:
    """A line as a record: an object whose step, if it has one, is a whole number that 64 bits hold."""
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


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LineWriter:
    """Append-only JSON lines, one write a record; `cursor` and `cut` let a resumed run drop what it will redo."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")

    def cursor(self) -> int:
        """Bytes written so far, all of them on the disk."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def cut(self, cursor: int) -> None:
        """Drop everything behind `cursor`."""
        os.ftruncate(self._file.fileno(), cursor)

    def close(self) -> None:
        self._file.close()
