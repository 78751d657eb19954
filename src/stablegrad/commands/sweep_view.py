"""A sweep on the screen: one line an arm, the runs at work, the failures, the time left; plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stablegrad.sweeps.folder import Entry, SweepFolder
from stablegrad.sweeps.progress import Progress, seconds_left

_REDRAW_SECONDS = 2.0
_LINE_SECONDS = 60.0
_ROWS_LIVE = 24


class Watch:
    """Gathers how far a sweep's runs are. What is done is read once."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._settled: dict[str, Progress] = {}

    def now(self) -> dict[Entry, Progress]:
        """Every cell's progress."""
        found = {}
        for entry in self.folder.entries:
            progress = self._settled.get(entry.run) or self.folder.progress(entry)
            if progress.state == "done":
                self._settled[entry.run] = progress
            found[entry] = progress
        return found


class Board:
    """Give `update` to an executor as `on_tick`."""

    def __init__(self, folder: SweepFolder, console: Console) -> None:
        self._watch = Watch(folder)
        self._folder = folder
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._drawn = self._printed = time.monotonic()
        self._ended = {e.run for e, p in self._watch.now().items() if p.state in ("done", "failed")}

    def __enter__(self) -> "Board":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, running: Sequence[Path]) -> None:
        """Redraw, or print what ended since the last call; several times a second is not too often."""
        if running and time.monotonic() - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = time.monotonic()
        now = self._watch.now()
        if self._live is not None:
            self._live.update(render(self._folder, now, rows=_ROWS_LIVE), refresh=True)
        else:
            self._print(now)

    def _print(self, now: Mapping[Entry, Progress]) -> None:
        for entry, progress in now.items():
            if progress.state not in ("done", "failed"):
                self._ended.discard(entry.run)  # a failed run that is tried again may fail again
            elif entry.run not in self._ended:
                self._ended.add(entry.run)
                said = Text(f"[{len(self._ended)}/{len(now)}] {entry.label}: {_outcome(progress)}")
                self._console.print(said, soft_wrap=True)
                self._printed = time.monotonic()
        if time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            self._console.print(Text(headline(self._folder, now)))


def headline(folder: SweepFolder, now: Mapping[Entry, Progress]) -> str:
    """The sweep in one line."""
    states = Counter(progress.state for progress in now.values())
    parts = [f"{states['done']} of {len(now)} runs done"]
    parts += [f"{states[state]} {state}" for state in ("running", "stopped", "failed") if states[state]]
    left = seconds_left([(entry.shape, progress) for entry, progress in now.items()], slots=folder.slots)
    if left:
        parts.append(f"about {duration(left)} left with {folder.slots} at a time")
    return f"{folder.name}: " + ", ".join(parts)


def render(folder: SweepFolder, now: Mapping[Entry, Progress], *, rows: int | None = None) -> RenderableType:
    """The whole picture; at most `rows` arms, those at work first, where a terminal limits it."""
    arms: dict[str, list[tuple[Entry, Progress]]] = {}
    for entry, progress in now.items():
        arms.setdefault(entry.arm, []).append((entry, progress))
    shown = list(arms)
    if rows is not None and len(arms) > rows:
        shown = sorted(arms, key=lambda arm: -_interest(arms[arm]))[:rows]
    one_task = len({entry.task for entry in now}) == 1
    table = Table("arm", "done", "at work", "failed", "", "return" if one_task else "", box=None, pad_edge=False)
    for arm in shown:
        table.add_row(*_row(arm, arms[arm], one_task=one_task))
    more = [Text(f"… and {len(arms) - len(shown)} more arms", style="dim")] if len(shown) < len(arms) else []
    return Group(Text(headline(folder, now), style="bold"), table, *more, *_running(now), *failures(now))


def failures(now: Mapping[Entry, Progress]) -> list[Text]:
    """A line for each failed run: which, why, and where its log lies."""
    return [
        Text(f"failed: {entry.label}: {progress.reason} ({progress.path / 'log.txt'})", style="red")
        for entry, progress in now.items()
        if progress.state == "failed"
    ]


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 12 min, 3 h 5 min, 2 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _interest(runs: Sequence[tuple[Entry, Progress]]) -> int:
    states = {progress.state for _, progress in runs}
    return 2 * ("running" in states) + ("failed" in states)


def _row(arm: str, runs: Sequence[tuple[Entry, Progress]], *, one_task: bool) -> list[RenderableType]:
    states = Counter(progress.state for _, progress in runs)
    steps = sum(min(progress.step, entry.total) for entry, progress in runs)
    total = sum(entry.total for entry, _ in runs)
    returns = [p.row["train/episode_return"] for _, p in runs if p.row.get("train/episode_return") is not None]
    return [
        Text(arm),
        f"{states['done']}/{len(runs)}",
        str(states["running"] or ""),
        Text(str(states["failed"] or ""), style="red"),
        ProgressBar(total=total, completed=steps, width=20),
        f"{sum(returns) / len(returns):.2f}" if one_task and returns else "",
    ]


def _running(now: Mapping[Entry, Progress]) -> list[Text]:
    lines = []
    for entry, progress in now.items():
        if progress.state != "running":
            continue
        speed, value = progress.row.get("time/steps_per_second"), progress.row.get("train/episode_return")
        parts = [f"{progress.step:,} of {progress.total:,}"]
        parts += [f"{speed:,.0f} steps/s"] if speed is not None else []
        parts += [f"return {value:.2f}"] if value is not None else []
        lines.append(Text(f"  {entry.label}: " + ", ".join(parts), style="cyan"))
    return lines


def _outcome(progress: Progress) -> str:
    if progress.state == "failed":
        return f"failed: {progress.reason}"
    value = progress.row.get("train/episode_return")
    shown = "" if value is None else f", return {value:.2f}"
    return f"done in {duration(progress.seconds)}{shown}"
