"""A sweep on disk: its file, its list of cells, and one folder a run, named by the run's configuration alone.

    <out>/sweep.toml                    the file as last asked for
    <out>/sweep.json                    its cells: which run each is, in running order
    <out>/<algo>-<env>-<seed>-<hash>/   a run's folder

Nothing here says how far a sweep is: that is read from the runs themselves. A file that grew new cells, or the same
file on another day, therefore goes on where the folder stands.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import in_words, make_folder, read_object, write_json, write_text
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.reading import is_number, read_config
from stablegrad.runs.trust import check, names_of
from stablegrad.sweeps.grid import Plan
from stablegrad.sweeps.progress import Progress, progress_of
from stablegrad.text import quoted

WAITING = "waiting"
_LIST = "sweep.json"


@dataclass(frozen=True)
class Entry:
    """A cell as `sweep.json` lists it: `run` is its folder's name, `total` its length in steps, `shape` tells how
    much a step costs (see `cost.shape_of`)."""

    run: str
    arm: str
    task: str
    seed: int
    total: int
    shape: str

    @property
    def label(self) -> str:
        return f"{self.arm} · {self.task} · seed {self.seed}"


@dataclass(frozen=True)
class SweepFolder:
    """`create` writes the list of a plan's cells, `open` reads it back."""

    path: Path
    name: str
    slots: int
    entries: tuple[Entry, ...]

    @classmethod
    def create(cls, path: Path, plan: Plan, *, text: str, slots: int) -> Self:
        """Make or renew the folder of a plan; `text` is the sweep's file. Runs that are there stay untouched."""
        folder = cls(path, plan.name, slots, entries_of(plan))
        if (path / "config.json").exists():
            raise UserError(f"{path} is the folder of a run: name another --out for the sweep")
        try:
            make_folder(path)
            write_text(path / "sweep.toml", text)
            write_json(path / _LIST, {
                "name": plan.name,
                "slots": slots,
                "command": sys.argv,
                "time": time.time(),
                "cells": [asdict(entry) for entry in folder.entries],
            })  # fmt: skip
        except OSError as error:
            raise UserError(f"{path} cannot be written: {in_words(error)}") from error
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """The sweep in a folder. UserError when there is none."""
        try:
            record = read_object(path / _LIST)
            entries = tuple(_entry(cell) for cell in record["cells"])
            return cls(path, str(record["name"]), max(1, int(record["slots"])), entries)
        except FileNotFoundError:
            raise UserError(f"{path} holds no sweep: it has no {_LIST}") from None
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"{path / _LIST} cannot be read: {error}") from error

    def run_path(self, entry: Entry) -> Path:
        return self.path / entry.run

    def progress(self, entry: Entry) -> Progress:
        """How far a cell is: created, running, done, stopped or failed, or `waiting` where nothing was started."""
        path = self.run_path(entry)
        if not (path / "config.json").exists():
            return Progress(path, WAITING, 0, entry.total, {})
        return progress_of(path, total=entry.total)

    def missing(self, plan: Plan, *, retry: bool) -> Iterator[Path]:
        """The folders of the cells that are not done, each made when it is asked for; `retry` takes in failed ones.

        What another process finished in the meantime is passed over.
        """
        for cell in plan.cells:
            path = ensure_run(self.path, cell.config)
            state = RunFolder(path).status["state"]
            if state == "failed" and retry:
                RunFolder(path).set_status("stopped", progress_of(path).step)
            if state not in ("done", "failed") or (state == "failed" and retry):
                yield path


def _entry(cell: Any) -> Entry:
    """A cell of the list. ValueError where it is none: names are shown, and a run lies in the sweep's folder."""
    entry = Entry(**cell)
    texts, counts = (entry.run, entry.arm, entry.task, entry.shape), (entry.seed, entry.total)
    if not all(isinstance(text, str) for text in texts) or not all(is_number(count) for count in counts):
        raise ValueError(f"{quoted(cell)} is no cell")
    if Path(entry.run).name != entry.run:
        raise ValueError(f"{quoted(entry.run)} is no name of a folder")
    return dataclasses.replace(entry, seed=int(entry.seed), total=int(entry.total))


def entries_of(plan: Plan) -> tuple[Entry, ...]:
    from stablegrad.sweeps.cost import shape_of, total_steps  # brings torch, which looking at a sweep can do without

    return tuple(
        Entry(
            run=cell.config.name,
            arm=cell.arm,
            task=cell.task,
            seed=cell.seed,
            total=total_steps(cell.config),
            shape=shape_of(cell.config),
        )
        for cell in plan.cells
    )


def ensure_run(parent: Path, config: RunConfig) -> Path:
    """The folder of a run inside `parent`, named by its configuration; made where it is not there yet.

    UserError where one is there that names other code than the configuration does: it is going to be trained.
    """
    path = RunFolder.ensure(parent / config.name, config).path
    check(path, read_config(path), names_of(config.flat()))
    return path
