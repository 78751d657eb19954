"""A live board of many runs: one bar each, read from their folders; plain lines where there is no terminal."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from stablegrad.sweeps.progress import progress_of

_LINE_SECONDS = 30.0


class Board:
    """Give `update` to a pool as `on_tick`. `labels` names every run's folder."""

    def __init__(self, labels: Mapping[Path, str], console: Console) -> None:
        self._labels = labels
        self._console = console
        self._printed = time.monotonic()
        self._tasks: dict[Path, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]:>7} steps/s  return {task.fields[value]:>7}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=60,
        )

    def __enter__(self) -> "Board":
        self._progress.start()
        width = max(map(len, self._labels.values()))
        for path, label in self._labels.items():
            self._tasks[path] = self._progress.add_task(f"{label:<{width}}", start=False, speed="-", value="-")
        self.update([])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update([])
        self._progress.stop()

    def update(self, running: Sequence[Path]) -> None:
        """Read the folders of the runs at work (and of all that moved) and redraw."""
        for path, task_id in self._tasks.items():
            task = self._progress.tasks[task_id]
            if path not in running and task.finished:
                continue
            now = progress_of(path)
            if path in running and not task.started:
                self._progress.start_task(task_id)
            self._progress.update(task_id, completed=now.step, total=now.total, **_fields(now.row))
        if not self._console.is_terminal and running and time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            for path in running:
                now = progress_of(path)
                shown = _fields(now.row)
                self._console.print(
                    f"{self._labels[path]}: step {now.step:,} of {now.total:,},"
                    f" {shown['speed']} steps/s, return {shown['value']}"
                )


def _fields(row: Mapping[str, float]) -> dict[str, Any]:
    value, speed = row.get("train/episode_return"), row.get("time/steps_per_second")
    return {
        "value": "-" if value is None else f"{value:.2f}",
        "speed": "-" if speed is None else f"{speed:,.0f}",
    }
