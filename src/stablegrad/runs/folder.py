"""One run's folder on disk: what it is, what it did, and whether somebody is at work in it. Torch-free."""

import contextlib
import fcntl
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from stablegrad import settings
from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig, unknown_settings
from stablegrad.runs.files import read_lines, read_object, write_json
from stablegrad.runs.reading import read_config, read_status
from stablegrad.runs.trust import Trust, check, names_of


class RunLocked(Exception):
    """Another process is at work in the run's folder."""


class RunFolder:
    """Paths and small records of one run. `create` starts one, `open` takes one that exists.

    `trust` says which code that its config names may be imported (see `trust.py`): what is created here is trusted.
    """

    def __init__(self, path: Path, *, trust: Trust = False) -> None:
        self.path, self.trust = path, trust
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.episodes = path / "episodes.jsonl"
        self.evaluations = path / "evaluations.jsonl"
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> "RunFolder":
        """A new run's folder, with its config and manifest. UserError if it holds a run or cannot be written."""
        cls.check_unused(path)
        folder = cls(path, trust=names_of(config.flat()))
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "manifest.json", describe_machine())
            write_json(path / "config.json", config.flat())
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
        folder.set_status("created", 0)
        return folder

    @staticmethod
    def check_unused(path: Path, *, minimum_free_bytes: int = 0) -> None:
        """UserError where `path` holds a run already, is a file, or its disk has less than that much room."""
        if (path / "config.json").exists():
            raise UserError(
                f"{path} holds a run already: continue it with `stablegrad resume {path}`, or name another --run_dir"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, not a folder for a run")
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
                    f"{self.path / 'config.json'} has settings that this version of stablegrad does not know"
                    f" ({', '.join(f'--{name}' for name in later)}): {self._maker} made it, so install that version"
                )
            return RunConfig.from_flat(flat)
        except (ValueError, KeyError) as error:
            raise UserError(f"{self.path / 'config.json'} cannot be read: {error}") from error

    @property
    def _maker(self) -> str:
        """The version that made the run, for a sentence."""
        try:
            return f"stablegrad {read_object(self.path / 'manifest.json')['stablegrad']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a later one"

    @property
    def status(self) -> dict[str, Any]:
        """{"state": created|running|done|stopped|failed, "step": n, "reason": …}."""
        return read_status(self.path) or {"state": "created", "step": 0}

    def set_status(self, state: str, step: int, *, reason: str | None = None) -> None:
        record = {"state": state, "step": step, "time": time.time()}
        write_json(self.path / "status.json", record if reason is None else {**record, "reason": reason})

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return list(read_lines(self.metrics))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process. RunLocked names who holds it; a killed holder holds nothing."""
        with (self.path / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunLocked(f"{self.path} is in use by {holder}: wait for it, or stop it first") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield


def describe_machine() -> dict[str, Any]:
    """What made the run: versions, hardware, git state, command."""
    packages = ("torch", "numpy", "gymnasium", "ale-py", "minatar", "safetensors")
    versions = {name: metadata.version(name) for name in packages if _installed(name)}
    return {
        "stablegrad": metadata.version("stablegrad") if _installed("stablegrad") else "source tree",
        "settings": settings.VERSION,
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cpu": _cpu(),
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


def _cpu() -> str:
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
