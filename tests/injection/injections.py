"""Every injection, and what has to hold after each; tests draw some, `benchmarks/reliability.py` makes all."""

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from faulty_disk import Disk, Failing, Killing, in_place, tree
from power import WAYS, Noting, Way
from scenes import SCENES, Ended, Reference, lines, references

from stablegrad.runs import records
from stablegrad.runs.folder import RunFolder

Kind = Literal["ENOSPC", "EIO", "EACCES", "full", "half a write", "kill", "kill midway"]
"""An error of one operation; a disk that stays full from there on; a write that the disk takes half of; a process that
ends before an operation, or with half a write done."""
_ONCE: tuple[Kind, ...] = ("ENOSPC", "EIO", "EACCES")


class Injection(NamedTuple):
    scene: str
    at: int
    """The operation, from 1."""
    kind: Kind


class PowerCut(NamedTuple):
    scene: str
    after: int
    """Events that happened before the power went."""
    way: Way
    seed: int


class Workplace:
    """A folder with what all injections need: finished runs to compare with, and each scene prepared once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = itertools.count()
        self.runs = references(root / "references")
        self._operations: dict[str, list[str]] = {}
        self._noted: dict[str, Noting] = {}

    def operations(self, scene: str) -> list[str]:
        """The file operations of a scene that nothing happens to."""
        if scene not in self._operations:
            place = self.place(scene)
            with in_place(Disk()) as disk:
                ended = SCENES[scene].act(place)
            assert ended.code == 0, ended.said
            self._operations[scene] = disk.names
        return self._operations[scene]

    def injections(self, scene: str) -> Iterator[Injection]:
        """All of a scene: (a) every operation fails, (b) the process ends at every operation."""
        for at, name in enumerate(self.operations(scene), 1):
            kinds: tuple[Kind, ...] = (*_ONCE, "full", "kill")
            for kind in (*kinds, *(("half a write", "kill midway") if name == "write" else ())):
                yield Injection(scene, at, kind)

    def noted(self, scene: str) -> Noting:
        """What a scene that nothing happens to does to the disk."""
        if scene not in self._noted:
            root = self.place(scene)
            with in_place(Noting(root)) as disk:
                assert SCENES[scene].act(root).code == 0
            self._noted[scene] = disk
        return self._noted[scene]

    def power_cuts(self, scene: str, *, seeds: int) -> Iterator[PowerCut]:
        """(c): after every event, what was not synced being gone, there in part, or there in another order."""
        for after in range(len(self.noted(scene).events) + 1):
            for way in WAYS:
                for seed in range(seeds if way in ("prefix", "some") else 1):
                    yield PowerCut(scene, after, way, seed)

    def forget(self, scene: str) -> None:
        """Note a scene anew: the house does it in another way now."""
        self._noted.pop(scene, None)

    def place(self, scene: str) -> Path:
        """A new folder in which the scene is prepared."""
        template = self.root / "prepared" / scene
        if not template.exists():
            template.mkdir(parents=True)
            SCENES[scene].prepare(template)
        place = self.root / str(next(self._numbers))
        shutil.copytree(template, place)
        return place

    def inject(self, injection: Injection) -> Ended:
        """Do it, and see that what has to hold holds: AssertionError where it does not."""
        scene, place = SCENES[injection.scene], self.place(injection.scene)
        reference = Reference(self.runs, tree(place))
        with in_place(_disk(injection)) as disk:
            ended = scene.act(place)
        if injection.kind.startswith("kill"):
            assert ended.code is None, f"it was not killed but ended with {ended.code}"
        else:
            _assert_told(ended, one_run=injection.scene != "sweep")
            assert disk.failed or injection.kind == "half a write", "nothing failed"
            for run in _runs_in(place):
                assert run.status["state"] in ("created", "stopped", "failed", "done"), run.status
                for name in records.NAMES:
                    lines(run.path / name)
        scene.check(place, reference, ended)
        shutil.rmtree(place)
        return ended

    def cut_power(self, cut: PowerCut) -> None:
        """As `inject`, for a machine that lost its power."""
        scene, place = SCENES[cut.scene], self.root / str(next(self._numbers))
        rng = np.random.default_rng((cut.after, WAYS.index(cut.way), cut.seed))
        noted = self.noted(cut.scene)
        noted.power_cut(cut.after, cut.way, rng, place)
        before = tree(self.root / "prepared" / cut.scene)
        if cut.after == len(noted.events) and scene.trains and cut.scene != "sweep":
            assert RunFolder(place / "run").status["state"] == "done", "what the command said was done is not"
        scene.check(place, Reference(self.runs, before), Ended(None, ""))
        shutil.rmtree(place)


def _disk(injection: Injection) -> Any:
    match injection.kind:
        case "kill":
            return Killing(injection.at)
        case "kill midway":
            return Killing(injection.at, midway=True)
        case "full":
            return Failing(injection.at, errno.ENOSPC, times=10**9)
        case "half a write":
            return Failing(injection.at, errno.ENOSPC, times=1, midway=True)
        case name:
            return Failing(injection.at, getattr(errno, name))


def _assert_told(ended: Ended, *, one_run: bool) -> None:
    """A failure is one error and no traceback; what was borne is none."""
    assert ended.code is not None
    assert "Traceback" not in ended.said, ended.said
    if ended.code == 0:
        assert ended.errors == [], ended.said
    elif one_run:
        assert len(ended.errors) == 1, ended.said
    assert ended.code in (0, 1, 2) or not one_run


def _runs_in(place: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in place.rglob("config.json")]


def drawn(all_of_them: list[Any], count: int, seed: int) -> list[Any]:
    """Some of them, drawn by a seeded generator."""
    chosen = np.random.default_rng(seed).choice(len(all_of_them), size=min(count, len(all_of_them)), replace=False)
    return [all_of_them[number] for number in sorted(chosen.tolist())]


def killed_for_real(work: Workplace, injection: Injection) -> None:
    """The same with a process of its own and SIGKILL, in place of an exception."""
    scene, place = SCENES[injection.scene], work.place(injection.scene)
    reference = Reference(work.runs, tree(place))
    child = os.fork()
    if child == 0:
        try:
            with in_place(Killing(injection.at, midway=True, end=lambda: os.kill(os.getpid(), 9))):
                scene.act(place)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -9
    scene.check(place, reference, Ended(None, ""))
    shutil.rmtree(place)
