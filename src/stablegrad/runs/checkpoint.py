"""Checkpoints: one folder each, safetensors and JSON, checksums, no pickle, whole or not there at all.

A checkpoint is written into a folder whose name starts with a dot, synced file by file, and renamed; a kill or a
power cut at any instant leaves the earlier ones untouched. Segments (parts of a replay buffer) that did not change
since the previous checkpoint are hard-linked to it instead of written again.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_of

from stablegrad.errors import UserError
from stablegrad.replay.segments import Segment
from stablegrad.runs import files
from stablegrad.runs.tree import decode, encode

log = logging.getLogger("stablegrad")

FORMAT = 2
"""Since 2 the manifest has a checksum of its own, and says under what the checkpoint was made."""
_FIRST_FORMAT = 1
_MANIFEST, _STATE, _TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_FOLDER = re.compile(r"step_(\d{12,})")
_SEGMENT = re.compile(r"segment_\d{5,}\.safetensors")


class Damaged(Exception):
    """A checkpoint that is not what its manifest says."""


class Loaded(NamedTuple):
    """A checkpoint's path, its state tree, and what `save` was told that it was made under (None in format 1)."""

    path: Path
    state: Any
    made_under: Mapping[str, Any] | None


def save(
    folder: Path,
    step: int,
    tree: Any,
    *,
    keep: int,
    previous: Path | None = None,
    made_under: Mapping[str, Any] | None = None,
) -> Path:
    """Write `tree` as `folder/step_000000012345`, keep the `keep` newest up to it, return the new one's path.

    Segments are shared with `previous`, which must be the checkpoint that this process wrote or loaded last: only
    then does an equal version mean equal data. A stop right after a save finds it done.

    Raises DiskError (disk full, no permission) with the earlier checkpoints intact, and TypeError where a leaf of
    the tree cannot be stored.
    """
    target = folder / f"step_{step:012d}"
    if target == previous and target.is_dir():
        return target
    encoded = encode(tree)
    _refuse_a_link(folder)
    files.make_folder(folder)
    _remove_leftovers(folder)
    aside = folder / f".{target.name}.{os.getpid()}"
    try:
        files.make_folder(aside)
        _write(aside, encoded, step, previous=previous, made_under=made_under)
        files.sync(aside)
        if target.exists():  # of an earlier try, which nobody goes on from
            files.rename(target, folder / f".{target.name}.before")
        files.rename(aside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            files.remove(aside)
        raise
    _prune(folder, step, keep)
    return target


def paths(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first; what has another kind of name is none."""
    found = [folder / name for name in files.names_in(folder) if _FOLDER.fullmatch(name)]
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.name.removeprefix("step_"))


def load(path: Path) -> Any:
    """The tree of one checkpoint. Raises Damaged when it is anything but what was written."""
    return _load(path).state


def load_newest(folder: Path, *, warn: Callable[[str], None], not_after: int | None = None) -> Loaded | None:
    """The newest valid checkpoint; damaged ones are named to `warn` and skipped; None without any.

    `not_after` passes over those of later steps.
    """
    seen: list[Path] | None = None
    while seen != (there := paths(folder)):  # a run at work may have dropped one while it was read
        seen = there
        for path in there:
            if not_after is not None and step_of(path) > not_after:
                continue
            try:
                return _load(path)
            except Damaged as error:
                if path.is_dir():
                    warn(f"checkpoint {error}; falling back to the one before")
    return None


def _load(path: Path) -> Loaded:
    try:
        manifest = _manifest(path)
        for name, entry in manifest["files"].items():
            if files.sha256(path / name) != entry["sha256"]:
                raise Damaged(f"{path.name}: {name} is damaged (its checksum differs)")
        segments = {
            key: Segment(key, entry["version"], load_file(path / entry["file"])["data"].numpy())
            for key, entry in manifest["segments"].items()
        }
        state = decode(files.read_json(path / _STATE), load_file(path / _TENSORS), segments)
    except (Damaged, UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise Damaged(f"{path.name}: {Path(error.filename or path).name} is missing") from error
    except Exception as error:  # whatever a disk, or somebody's hand, made of the files
        raise Damaged(f"{path.name} cannot be read ({type(error).__name__}: {error})") from error
    return Loaded(path, state, manifest.get("made_under"))


def _manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest, checked: every file that its state needs is among `files`, under a name of ours."""
    manifest = json.loads(files.read_bytes(path / _MANIFEST, follow=False))
    checksum = manifest.pop("sha256", None)
    if checksum is None and manifest["format"] != _FIRST_FORMAT:
        raise Damaged(f"{path.name}: its manifest is damaged (it has no checksum)")
    if checksum is not None and checksum != _checksum(manifest):
        raise Damaged(f"{path.name}: its manifest is damaged (its checksum differs)")
    if manifest["format"] not in (_FIRST_FORMAT, FORMAT):
        raise UserError(
            f"{path} has checkpoint format {manifest['format']}, and this version reads {_FIRST_FORMAT} to {FORMAT}:"
            " install the version of stablegrad that wrote it"
        )
    needed = {_STATE, _TENSORS, *(entry["file"] for entry in manifest["segments"].values())}
    if manifest["files"].keys() != needed:
        raise Damaged(f"{path.name}: its manifest lists other files than its state needs")
    if odd := [name for name in needed - {_STATE, _TENSORS} if not _SEGMENT.fullmatch(name)]:
        raise Damaged(f"{path.name}: {odd[0]!r} is no name of a segment")
    return manifest


def _checksum(manifest: Mapping[str, Any]) -> str:
    """Of everything but the checksum itself, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write(
    aside: Path, encoded: Any, step: int, *, previous: Path | None, made_under: Mapping[str, Any] | None
) -> None:
    entries: dict[str, dict[str, Any]] = {}

    def write(name: str, data: bytes) -> None:
        files.write_new(aside / name, data)
        entries[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    write(_STATE, json.dumps(encoded.skeleton).encode())
    write(_TENSORS, safetensors_of(encoded.tensors))
    old = _previous_segments(previous)
    segments = {}
    for number, (key, segment) in enumerate(encoded.segments.items()):
        name = f"segment_{number:05d}.safetensors"
        if previous is not None and (key, segment.version) in old:
            shared, entries[name] = old[key, segment.version]
            files.link(previous / shared, aside / name)
        else:
            write(name, safetensors_of({"data": torch.from_numpy(np.ascontiguousarray(segment.data))}))
        segments[key] = {"version": segment.version, "file": name}
    manifest = {"format": FORMAT, "step": step, "files": entries, "segments": segments}
    if made_under is not None:
        manifest["made_under"] = dict(made_under)
    text = json.dumps({**manifest, "sha256": _checksum(manifest)}, indent=2)
    files.write_new(aside / _MANIFEST, text.encode())


def _previous_segments(previous: Path | None) -> dict[tuple[str, int], tuple[str, dict[str, Any]]]:
    """(key, version) -> (file, manifest entry) of the previous checkpoint; nothing when it cannot be read."""
    if previous is None:
        return {}
    try:
        manifest = _manifest(previous)
    except (Damaged, UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {
        (key, entry["version"]): (entry["file"], manifest["files"][entry["file"]])
        for key, entry in manifest["segments"].items()
        if (previous / entry["file"]).is_file()
    }


def _prune(folder: Path, step: int, keep: int) -> None:
    """Drop all but the newest up to `step`. The checkpoint that was just written stands whether or not that works."""
    try:
        for old in [path for path in paths(folder) if step_of(path) <= step][keep:]:
            # Out of sight first: half a checkpoint would be taken for a damaged one.
            hidden = folder / f".{old.name}.dropped"
            files.rename(old, hidden, synced=False)
            files.remove(hidden)
    except OSError as error:
        log.warning("%s: an old checkpoint is not removed (%s)", folder, files.in_words(error))


def _refuse_a_link(folder: Path) -> None:
    if folder.is_symlink():
        raise files.DiskError(folder, "written", OSError(errno.ELOOP, os.strerror(errno.ELOOP)))


def _remove_leftovers(folder: Path) -> None:
    """What processes that were killed left half-done; the run's lock says that none is at work."""
    for name in files.names_in(folder):
        if name.startswith(".step_"):
            files.remove(folder / name)
