"""The progress bar of a run, silent where standard output is not a terminal, and the progress line of an evaluation."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from stablegrad.commands.terminal import Terminal
from stablegrad.runs.config import RunConfig

_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 10.0


class ProgressBar:
    """An observer: steps, steps/s, the newest mean return, time left."""

    def __init__(self, path: Path, config: RunConfig, *, quiet: bool = False) -> None:
        console = Terminal()
        self._shown = (console.is_terminal or console.is_jupyter) and not quiet
        self._latest: Mapping[str, Any] = {}
        self._drawn = 0.0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]:>7} steps/s  {task.fields[label]} {task.fields[value]:>8}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not self._shown,
        )
        self._label = "return" if config.env is not None else "accuracy"
        self._task = self._progress.add_task(path.name, total=None, speed="-", label=self._label, value="-")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_row(self, row: Mapping[str, Any]) -> None:
        self._latest = {**self._latest, **row}

    def on_progress(self, step: int, total: int) -> None:
        now = time.monotonic()
        if not self._shown or (now - self._drawn < _REDRAW_SECONDS and step < total):
            return
        self._drawn = now
        value = self._latest.get("train/episode_return", self._latest.get("train/accuracy"))
        speed = self._latest.get("time/steps_per_second")
        self._progress.update(
            self._task,
            completed=step,
            total=total,
            speed="-" if speed is None else f"{speed:,.0f}",
            value="-" if value is None else f"{value:.2f}",
        )

    def close(self) -> None:
        pass


class EvaluationLine:
    """How far an evaluation is, on standard error: one line that changes, or off a terminal a line now and then."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._terminal = sys.stderr.isatty()
        self._every = _REDRAW_SECONDS if self._terminal else _LINE_SECONDS
        self._said = time.monotonic()
        self._width = 0

    def __call__(self, ended: int, steps: int) -> None:
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            text = f"evaluation: {ended} of {self._episodes} episodes, {steps:,} steps"
            self._show(f"\r{text}" if self._terminal else f"{text}\n")
            self._width = len(text)

    def close(self) -> None:
        """Take the line that changes away."""
        if self._terminal and self._width:
            self._show(f"\r{' ' * self._width}\r")

    def _show(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
