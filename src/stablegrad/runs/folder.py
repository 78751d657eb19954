"""One run's folder on disk: what it is, what it did, and whether somebody is at work in it. Torch-free."""

import contextlib
import functools
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from stablegrad import settings
from stablegrad.errors import UserError
from stablegrad.runs import files, locks, records
from stablegrad.runs.config import RunConfig, unknown_settings
from stablegrad.runs.files import read_lines, read_object, write_json
from stablegrad.runs.locks import LOCK
from stablegrad.runs.reading import read_config, read_status
from stablegrad.runs.trust import Trust, check, names_of

_CONFIG, _MANIFEST, _STATUS, _CHECKPOINTS = "config.json", "manifest.json", "status.json", "checkpoints"
# In a folder that is being made and is no run yet: from the beginning, and once only the last rename is missing.
_BEGUN, _READY = ".creating", ".config.json"
_OURS = (_MANIFEST, _STATUS, _CHECKPOINTS, *records.NAMES)
_PATIENCE_SECONDS = 1.0


class RunLocked(Exception):
    """Another process is at work in the run's folder."""


class RunFolder:
    """Paths and small records of one run. `create` starts one, `open` takes one that exists.

    A folder is a run once it has a `config.json`, which is the last thing that a start or a fork writes. `trust` says
    which code that this config names may be imported (see `trust.py`): what is created here is trusted.
    """

    def __init__(self, path: Path, *, trust: Trust = False) -> None:
        self.path, self.trust = path, trust
        self.checkpoints = path / _CHECKPOINTS
        self.metrics = path / records.METRICS
        self.episodes = path / records.EPISODES
        self.evaluations = path / records.EVALUATIONS
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> "RunFolder":
        """A new run's folder, with its config and manifest. UserError if it holds a run or cannot be written."""
        with cls.creating(path, config) as folder:
            folder.publish()
        return folder

    @classmethod
    def ensure(cls, path: Path, config: RunConfig) -> "RunFolder":
        """The run's folder, made where it is not there yet; several processes may ask for it at once."""
        while not (path / _CONFIG).exists():
            try:
                return cls.create(path, config)
            except RunLocked:
                continue  # another one makes it now: it has it soon, or is gone
            except UserError:
                if not (path / _CONFIG).exists():
                    raise
        return cls(path, trust=names_of(config.flat()))

    @classmethod
    @contextlib.contextmanager
    def creating(cls, path: Path, config: RunConfig | Mapping[str, Any]) -> Iterator["RunFolder"]:
        """A new folder, held for this process, that becomes a run by `publish`; without that it goes away again.

        `config` may be a flat mapping too, for somebody else's run.
        UserError if it holds a run or cannot be written, RunLocked where another process is making one.
        """
        cls.check_unused(path)
        flat = dict(config.flat()) if isinstance(config, RunConfig) else dict(config)
        folder, new = cls(path, trust=names_of(flat)), not path.exists()
        try:
            files.make_folder(path)
            with folder.lock():
                cls.check_unused(path)  # somebody may have been faster
                try:
                    folder._begin(flat)
                    yield folder
                finally:
                    if not folder.is_run:
                        with contextlib.suppress(OSError):
                            folder._clear()
                            files.remove(path / LOCK)
                            if new:
                                files.remove_empty(path)
        except OSError as error:
            if folder.is_run:
                raise
            raise UserError(f"{path} cannot be written: {files.in_words(error)}") from error

    def prepare(self) -> None:
        """Of several folders that become runs together: nothing but `publish` is missing any more."""
        files.rename(self.path / _BEGUN, self.path / _READY)

    def publish(self) -> None:
        """Make a folder that `creating` gave, or that was prepared, a run; one that is a run stays as it is."""
        if not self.is_run:
            files.rename(self.path / (_READY if self.is_prepared else _BEGUN), self.path / _CONFIG)

    @property
    def is_run(self) -> bool:
        return (self.path / _CONFIG).is_file()

    @property
    def is_prepared(self) -> bool:
        """Whether a process ended between `prepare` and `publish`."""
        return (self.path / _READY).is_file() and not self.is_run

    @staticmethod
    def check_unused(path: Path, *, minimum_free_bytes: int = 0) -> None:
        """UserError where `path` holds a run or parts of one, is a file, or its disk has less than that much room."""
        _check_name(path)
        if (path / _CONFIG).exists():
            raise UserError(
                f"{path} holds a run already: continue it with `stablegrad resume {path}`, or name another --run_dir"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, not a folder for a run")
        parts = [name for name in _OURS if os.path.lexists(path / name)]
        if parts and not _is_unfinished(path):
            raise UserError(f"{path} has {', '.join(parts)} but no {_CONFIG}: put that back, or name another --run_dir")
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < minimum_free_bytes:
            raise UserError(
                f"{path}: {free / 1e6:.0f} MB are free on that disk, a checkpoint of this run may take"
                f" {minimum_free_bytes / 1e6:.0f} MB: free some, or name another --run_dir"
            )

    @classmethod
    def open(cls, path: Path, *, trust: Trust = False) -> "RunFolder":
        """An existing run's folder. UserError when there is none."""
        _check_name(path)
        read_config(path)
        return cls(path, trust=trust)

    @property
    def config(self) -> RunConfig:
        """What the run was asked for. UserError where it names code that is not trusted, which is then not imported."""
        flat = read_config(self.path)
        check(self.path, flat, self.trust)
        try:
            if later := unknown_settings(flat):
                raise UserError(
                    f"{self.path / _CONFIG} has settings that this version of stablegrad does not know"
                    f" ({', '.join(f'--{name}' for name in later)}): {self._maker} made it, so install that version"
                )
            return RunConfig.from_flat(flat)
        except (ValueError, KeyError) as error:
            raise UserError(f"{self.path / _CONFIG} cannot be read: {error}") from error

    @property
    def _maker(self) -> str:
        """The version that made the run, for a sentence."""
        try:
            return f"stablegrad {read_object(self.path / 'manifest.json')['stablegrad']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a later one"

    @property
    def status(self) -> dict[str, Any]:
        """{"state": created|running|done|stopped|failed, "step": n, "reason": …}; see `read_status`."""
        return read_status(self.path) or {"state": "created", "step": 0}

    def set_status(self, state: str, step: int, *, reason: str | None = None) -> None:
        record = {"state": state, "step": step, "time": time.time()}
        write_json(self.path / _STATUS, record if reason is None else {**record, "reason": reason})

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return list(read_lines(self.metrics))

    @contextlib.contextmanager
    def lock(self) -> Iterator["RunFolder"]:
        """Hold the folder for this process. RunLocked names who holds it; a killed holder holds nothing."""
        handle = locks.take(self.path / LOCK, patience=_PATIENCE_SECONDS)
        if handle is None:
            holder = locks.holder(self.path / LOCK)
            raise RunLocked(f"{self.path} is in use by {holder}: wait for it, or stop it first")
        try:
            locks.sign(handle)
            _remove_leftovers(self.path)
            yield self
        finally:
            os.close(handle)

    def _begin(self, config: Mapping[str, Any]) -> None:
        """Make room for a new run where the making of another was cut off, and write what stands beside its config."""
        self._clear()
        write_json(self.path / _BEGUN, config)
        write_json(self.path / _MANIFEST, describe_machine())
        self.set_status("created", 0)

    def _clear(self) -> None:
        """Remove what the making of a run wrote; nothing of it was ever recorded by training."""
        if _is_unfinished(self.path):
            for name in _OURS:
                files.remove(self.path / name)
            files.sync(self.path)
            for mark in (_READY, _BEGUN):  # last: as long as one is there, this can be done again
                files.remove(self.path / mark)


def _is_unfinished(path: Path) -> bool:
    """Whether a process was cut off while it made a run of this folder."""
    return not (path / _CONFIG).exists() and ((path / _BEGUN).exists() or (path / _READY).exists())


def _remove_leftovers(path: Path) -> None:
    """Files that a process which is gone wrote aside, and did not rename any more."""
    with contextlib.suppress(OSError):
        for name in files.names_in(path):
            match = re.fullmatch(r"\..+\.(\d{1,9})\.\d+", name)
            if match and not _lives(int(match[1])):
                files.remove(path / name)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


VERSIONS = ("torch", "numpy", "gymnasium", "ale-py", "minatar", "safetensors")
"""The packages whose versions a manifest records."""


@functools.cache
def versions() -> dict[str, str]:
    """Those of them that are installed."""
    return {name: metadata.version(name) for name in VERSIONS if _installed(name)}


def _check_name(path: Path) -> None:
    """UserError where a folder's name is not UTF-8: tensors could be written there, and never read again."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: a run's folder needs a name in UTF-8, and this is none: rename it") from None


def describe_machine() -> dict[str, Any]:
    """What made the run: versions, hardware, git state, command."""
    return {
        "stablegrad": metadata.version("stablegrad") if _installed("stablegrad") else "source tree",
        "settings": settings.VERSION,
        "python": platform.python_version(),
        **versions(),
        "platform": platform.platform(),
        "cpu": processor(),
        "cpu_count": os.cpu_count(),
        "git": _git(),
        "command": sys.argv,
        "host": socket.gethostname(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@functools.cache
def processor() -> str:
    """The processor's model, as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git() -> dict[str, Any] | None:
    """Commit and whether the tree was changed, of the package's own checkout; None outside one."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "changed": bool(dirty.stdout.strip())}
