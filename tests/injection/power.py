"""What a disk may hold after the power went: a model of files, folders and what `fsync` promises.

Data of a file is there for certain up to its last `fsync`; what was written after that may be there, be missing, be
there in part, or be zeros. A new name, a rename or a removal is there for certain once its folder was synced (for a
rename between folders, both); before that it may have happened or not.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faulty_disk import Disk

Way = Literal["nothing", "names", "prefix", "some"]
"""What of that which was not synced is on the disk: nothing of it; every name, but no data; names up to some moment, as
of a file system with a journal; or any of them."""
WAYS: tuple[Way, ...] = ("nothing", "names", "prefix", "some")


@dataclass
class Node:
    """A file or folder, whatever its names are. `data` is what it held when noting began."""

    number: int
    folder: bool
    data: bytes = b""
    entries: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One thing that happened: to the data of a file (append, truncate, sync), or to names in folders."""

    kind: Literal["append", "truncate", "sync", "enter", "move", "leave", "sync_folder"]
    node: int
    place: tuple[int, str] | None = None
    target: tuple[int, str] | None = None
    data: bytes = b""
    size: int = 0


class Noting(Disk):
    """Lets everything pass, and notes what reaches the files below `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.nodes: dict[int, Node] = {}
        self._now: dict[int, dict[str, int]] = {}
        self._open: dict[int, int] = {}
        self.top = self._read(root)
        self.events: list[Event] = []

    def at(self, name: str, real: Any, given: tuple[Any, ...], more: dict[str, Any]) -> Any:
        match name:
            case "open":
                known = self._find(Path(given[0]))
                handle = real(*given, **more)
                if known is None and self._parent(Path(given[0])) is not None:
                    known = self._enter(Path(given[0]), folder=False)
                self._open[handle] = -1 if known is None else known
                return handle
            case "write":
                written = real(*given, **more)
                self._note("append", given[0], data=bytes(given[1])[:written])
                return written
            case "ftruncate":
                real(*given, **more)
                self._note("truncate", given[0], size=given[1])
            case "fsync":
                node = self._open.get(given[0], -1)
                if node >= 0:
                    kind = "sync_folder" if self.nodes[node].folder else "sync"
                    self.events.append(Event(kind, node))
            case "mkdir":
                real(*given, **more)
                self._enter(Path(given[0]), folder=True)
            case "rename" | "replace":
                real(*given, **more)
                self._move(Path(given[0]), Path(given[1]))
            case "link":
                real(*given, **more)
                self._name(Path(given[1]), self._known(Path(given[0])))
            case "unlink" | "rmdir":
                real(*given, **more)
                node, (folder, own) = self._known(Path(given[0])), self._place(Path(given[0]))
                del self._now[folder][own]
                self.events.append(Event("leave", node, (folder, own)))
            case _:
                return real(*given, **more)
        return None

    def power_cut(self, after: int, way: Way, rng: np.random.Generator, target: Path) -> None:
        """Make in `target` what the disk may hold after the first `after` events."""
        events = self.events[:after]
        names = self._names(events, way, rng)
        held = {node: dict(entries.entries) for node, entries in self.nodes.items() if entries.folder}
        for event in names:
            assert event.place is not None
            folder, name = event.place
            if event.kind == "enter":
                held.setdefault(folder, {})[name] = event.node
            elif held.get(folder, {}).get(name) == event.node:
                del held[folder][name]
            if event.target is not None:
                held.setdefault(event.target[0], {})[event.target[1]] = event.node
        data = {number: self._data(number, events, way, rng) for number, node in self.nodes.items() if not node.folder}
        self._write(self.top, target, held, data)

    def _names(self, events: list[Event], way: Way, rng: np.random.Generator) -> list[Event]:
        """The changes of names that are on the disk, in order."""
        changes = [(at, event) for at, event in enumerate(events) if event.kind in ("enter", "move", "leave")]
        synced = {event.node: at for at, event in enumerate(events) if event.kind == "sync_folder"}  # the last time
        last = int(rng.integers(len(events) + 1))
        kept = []
        for at, event in changes:
            folders = {place[0] for place in (event.place, event.target) if place is not None}
            certain = all(synced.get(folder, -1) > at for folder in folders)
            maybe = {"nothing": False, "names": True, "prefix": at < last, "some": bool(rng.integers(2))}[way]
            if certain or maybe:
                kept.append(event)
        return kept

    def _data(self, number: int, events: list[Event], way: Way, rng: np.random.Generator) -> bytes:
        """The contents of a file: certain up to its last sync, then as `way` says."""
        own = [event for event in events if event.node == number and event.kind in ("append", "truncate", "sync")]
        certain = max((at for at, event in enumerate(own) if event.kind == "sync"), default=-1) + 1
        data = _applied(self.nodes[number].data, own[:certain])
        pending = [event for event in own[certain:] if event.kind != "sync"]
        if way in ("nothing", "names") or not pending:
            return data
        kept = int(rng.integers(len(pending) + 1))
        data = _applied(data, pending[:kept])
        torn = pending[kept].data if kept < len(pending) else b""
        part = torn[: int(rng.integers(len(torn) + 1))]
        # A file system that gives a file its length before its blocks leaves zeros.
        return data + (part if rng.integers(2) else b"\0" * len(part))

    def _write(self, number: int, path: Path, held: dict[int, dict[str, int]], data: dict[int, bytes]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for name, child in held.get(number, {}).items():
            if self.nodes[child].folder:
                self._write(child, path / name, held, data)
            else:
                (path / name).write_bytes(data[child])

    def _read(self, path: Path) -> int:
        """The nodes of what is there when noting begins: all of it is on the disk."""
        number = len(self.nodes)
        node = self.nodes[number] = Node(number, path.is_dir())
        if path.is_dir():
            for child in sorted(path.iterdir()):
                node.entries[child.name] = self._read(child)
            self._now[number] = dict(node.entries)
        else:
            node.data = path.read_bytes()
        return number

    def _find(self, path: Path) -> int | None:
        try:
            parts = Path(os.path.abspath(path)).relative_to(self.root).parts
        except ValueError:
            return None
        number = self.top
        for part in parts:
            found = self._now.get(number, {}).get(part)
            if found is None:
                return None
            number = found
        return number

    def _known(self, path: Path) -> int:
        found = self._find(path)
        assert found is not None, f"{path} came to be without the shim"
        return found

    def _parent(self, path: Path) -> int | None:
        return self._find(path.parent)

    def _place(self, path: Path) -> tuple[int, str]:
        return self._known(path.parent), path.name

    def _enter(self, path: Path, *, folder: bool) -> int:
        number = len(self.nodes)
        self.nodes[number] = Node(number, folder)
        if folder:
            self._now[number] = {}
        self._name(path, number)
        return number

    def _name(self, path: Path, number: int) -> None:
        folder, name = self._place(path)
        self._now[folder][name] = number
        self.events.append(Event("enter", number, (folder, name)))

    def _move(self, source: Path, target: Path) -> None:
        number, before, after = self._known(source), self._place(source), self._place(target)
        del self._now[before[0]][before[1]]
        self._now[after[0]][after[1]] = number
        self.events.append(Event("move", number, before, after))

    def _note(self, kind: Literal["append", "truncate"], handle: int, *, data: bytes = b"", size: int = 0) -> None:
        node = self._open.get(handle, -1)
        if node >= 0:
            self.events.append(Event(kind, node, data=data, size=size))


def _applied(data: bytes, events: list[Event]) -> bytes:
    for event in events:
        if event.kind == "append":
            data += event.data
        elif event.kind == "truncate":
            data = data[: event.size].ljust(event.size, b"\0")
    return data
