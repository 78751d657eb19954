"""Where runs are trained: the executor's interface, and the local pool.

All that an executor knows of a run it reads from the run's folder, so killing it loses nothing.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stablegrad.errors import DONE, FAILED
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.process import RunProcess, claim

_POLL_SECONDS = 0.25

Stop = Callable[[], bool]
Tick = Callable[[Sequence[Path]], None]


class Executor(Protocol):
    """Trains run folders, each in a process of its own, so that no crash takes others along.

    `slots`: how many at a time.
    """

    @property
    def slots(self) -> int: ...

    def run(self, folders: Iterable[Path], *, stop: Stop = ..., on_tick: Tick = ...) -> dict[Path, int]:
        """Train every folder, taking the next one only when there is room for it; the exit code of each that
        was started: 0 done, 1 failed (the folder says why), 75 stopped.

        `stop` is asked all the time: once true, the runs at work save and end and no further one starts.
        `on_tick` is told several times a second which runs are at work.
        """
        ...


def never() -> bool:
    """The `stop` of a pool that runs to the end."""
    return False


def unwatched(running: Sequence[Path]) -> None:
    """The `on_tick` of a pool that nobody watches."""


@dataclass
class LocalPool:
    """`slots` runs at a time on this machine, `threads` CPU threads each.

    `environment` holds further environment variables, one mapping a slot (the GPU it uses, say), in turn.
    """

    slots: int
    threads: int = 1
    environment: Sequence[Mapping[str, str]] = ()

    def run(self, folders: Iterable[Path], *, stop: Stop = never, on_tick: Tick = unwatched) -> dict[Path, int]:
        """See `Executor.run`. A run that another process is at work on is waited for, at no slot's expense."""
        waiting = iter(folders)
        elsewhere: list[Path] = []
        running: dict[int, RunProcess] = {}
        codes: dict[Path, int] = {}
        exhausted = False
        try:
            while not stop():
                for slot in (slot for slot in range(self.slots) if slot not in running):
                    started = self._start_next(waiting, elsewhere, codes, slot)
                    if started is None:
                        exhausted = True
                        break
                    running[slot] = started
                for slot, process in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        codes[process.folder] = code
                        del running[slot]
                on_tick([process.folder for process in running.values()])
                if exhausted and not running and not elsewhere:
                    break
                time.sleep(_POLL_SECONDS)
        finally:
            for process in running.values():
                process.ask_to_stop()
            codes.update({process.folder: process.finish() for process in running.values()})
        on_tick([])
        return codes

    def _start_next(
        self, waiting: Iterator[Path], elsewhere: list[Path], codes: dict[Path, int], slot: int
    ) -> RunProcess | None:
        """The next run that can be had, started; None when `waiting` is at its end and the rest are elsewhere."""
        environment = self.environment[slot % len(self.environment)] if self.environment else {}
        for folder in list(elsewhere):
            claimed = claim(folder)
            if claimed is None:
                continue
            elsewhere.remove(folder)
            state = RunFolder(folder).status["state"]
            if state not in ("done", "failed"):
                return RunProcess.start(folder, claimed, threads=self.threads, environment=environment)
            os.close(claimed)
            codes[folder] = DONE if state == "done" else FAILED
        for folder in waiting:
            claimed = claim(folder)
            if claimed is not None:
                return RunProcess.start(folder, claimed, threads=self.threads, environment=environment)
            elsewhere.append(folder)
        return None
