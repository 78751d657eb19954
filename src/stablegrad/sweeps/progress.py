"""How far runs are, read from their folders alone, and how long the rest will take. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stablegrad.runs.files import read_last_line
from stablegrad.runs.reading import is_number, read_config, read_status


@dataclass(frozen=True)
class Progress:
    """One run as its folder tells it: state, steps made, and the newest row of metrics."""

    path: Path
    state: str
    step: int
    total: int
    row: Mapping[str, Any]
    reason: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training behind the newest row."""
        return float(self.row.get("seconds", 0.0))

    @property
    def seconds_per_step(self) -> float | None:
        """None before the first row."""
        step = int(self.row.get("step", 0))
        return self.seconds / step if step and self.seconds else None


def progress_of(path: Path, *, total: int | None = None) -> Progress:
    """What a run's folder says of it now; `total` where the caller knows the run's length."""
    if total is None:
        total = int(read_config(path).get("total_timesteps") or 0)
    status = read_status(path) or {"state": "created", "step": 0}
    row = {name: value for name, value in (read_last_line(path / "metrics.jsonl") or {}).items() if is_number(value)}
    step = max(int(status["step"]), int(row.get("step", 0)))
    return Progress(path, status["state"], step, total, row, status.get("reason"))


def seconds_left(runs: Sequence[tuple[str, Progress]], *, slots: int) -> float | None:
    """Wall-clock seconds until the unfinished of `runs` (shape, progress) are done, `slots` at a time.

    A run's speed is its own, or the mean of those of its shape, or the mean of all; None where none has a speed.
    """
    own = [(shape, progress.seconds_per_step) for shape, progress in runs]
    by_shape: dict[str, list[float]] = {}
    for shape, speed in own:
        if speed is not None:
            by_shape.setdefault(shape, []).append(speed)
    if not by_shape:
        return None
    overall = fmean(speed for speeds in by_shape.values() for speed in speeds)
    left = []
    for (shape, speed), (_, progress) in zip(own, runs, strict=True):
        if progress.state in ("done", "failed"):
            continue
        if speed is None:
            speed = fmean(by_shape[shape]) if shape in by_shape else overall
        left.append(max(0, progress.total - progress.step) * speed)
    return max(sum(left) / slots, max(left)) if left else 0.0
