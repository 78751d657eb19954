"""A local pool: run folders in, each trained by a process of its own, so that no crash takes others along.

A process is `stablegrad resume FOLDER`: it starts a fresh folder at step 0 and goes on in one that was stopped.
All that the pool knows of a run it reads from the run's folder, so killing the pool loses nothing.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablegrad.runs.files import read_json, read_last_line

_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Progress:
    """One run as its folder tells it: state, steps made, and the newest row of metrics."""

    path: Path
    state: str
    step: int
    total: int
    row: Mapping[str, Any]
    reason: str | None = None


def progress_of(path: Path) -> Progress:
    """What a run's folder says of it now."""
    config = read_json(path / "config.json")
    try:
        status = read_json(path / "status.json")
    except (OSError, ValueError):
        status = {"state": "created", "step": 0}
    row = read_last_line(path / "metrics.jsonl") or {}
    step = max(int(status["step"]), int(row.get("step", 0)))
    total = int(config.get("total_timesteps") or row.get("total") or 0)
    return Progress(path, status["state"], step, total, row, status.get("reason"))


@dataclass
class LocalPool:
    """`slots` runs at a time, `threads` CPU threads each; `environment` is added to each process's own."""

    slots: int
    threads: int = 1
    environment: Sequence[Mapping[str, str]] = ()
    _running: dict[int, tuple[Path, subprocess.Popen[bytes]]] = field(default_factory=dict)

    def run(
        self,
        folders: Sequence[Path],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_tick: Callable[[Sequence[Path]], None] = lambda running: None,
    ) -> dict[Path, int]:
        """Train every folder; exit code of each that was started. `stop` is asked all the time: once true,
        the runs at work save and end (exit code 75) and no further one starts."""
        waiting = deque(folders)
        codes: dict[Path, int] = {}
        try:
            while waiting or self._running:
                if stop():
                    waiting.clear()
                    break
                for slot in range(self.slots):
                    if waiting and slot not in self._running:
                        path = waiting.popleft()
                        self._running[slot] = (path, self._start(path, slot))
                codes.update(self._collect())
                on_tick([path for path, _ in self._running.values()])
                time.sleep(_POLL_SECONDS)
        finally:
            codes.update(self._stop_all())
        on_tick([])
        return codes

    def _start(self, path: Path, slot: int) -> "subprocess.Popen[bytes]":
        extra = self.environment[slot % len(self.environment)] if self.environment else {}
        threads = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        with (path / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "stablegrad", "resume", str(path), "--quiet"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads, **extra},
                start_new_session=True,
            )

    def _collect(self) -> dict[Path, int]:
        ended = {slot: entry for slot, entry in self._running.items() if entry[1].poll() is not None}
        for slot in ended:
            del self._running[slot]
        return {path: process.returncode for path, process in ended.values()}

    def _stop_all(self) -> dict[Path, int]:
        """Ask every process to save and end; one that does not is killed, its last checkpoint stands."""
        entries = list(self._running.values())
        self._running.clear()
        for _, process in entries:
            process.send_signal(signal.SIGTERM)
        codes = {}
        for path, process in entries:
            try:
                codes[path] = process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[path] = process.wait()
        return codes
