"""Checkpoints: one folder each, safetensors and JSON, checksums, no pickle, whole or not there at all.

A checkpoint is written into a folder whose name starts with a dot, synced file by file, and renamed; a kill at
any instant leaves the earlier ones untouched. Segments (parts of a replay buffer) that did not change since the
previous checkpoint are hard-linked to it instead of written again.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from stablegrad.errors import UserError
from stablegrad.replay.segments import Segment
from stablegrad.runs.files import read_json, sha256, sync, write_json
from stablegrad.runs.tree import decode, encode

FORMAT = 1
_MANIFEST = "manifest.json"


class Damaged(Exception):
    """A checkpoint that is not what its manifest says."""


class Loaded(NamedTuple):
    """A checkpoint's path and its state tree."""

    path: Path
    state: Any


def save(folder: Path, step: int, tree: Any, *, keep: int, previous: Path | None = None) -> Path:
    """Write `tree` as `folder/step_000000012345`, keep the `keep` newest checkpoints, return the new one's path.

    Segments are shared with `previous`, which must be the checkpoint that this process wrote or loaded last: only
    then does an equal version mean equal data.

    Raises OSError (disk full, no permission) with the earlier checkpoints intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step_{step:012d}"
    if target.exists():
        # A stop right behind a save, or a run that fell back behind a damaged checkpoint and came here again.
        if _is_valid(target):
            return target
        shutil.rmtree(target)
    aside = folder / f".step_{step:012d}.{os.getpid()}"
    _remove_leftovers(folder)
    aside.mkdir()
    try:
        _write(aside, encode(tree), step, previous=previous)
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(folder)
    for old in paths(folder)[keep:]:
        shutil.rmtree(old)
    return target


def paths(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("step_*"), reverse=True)


def load(path: Path) -> Any:
    """The tree of one checkpoint. Raises Damaged when a file is missing or not what was written."""
    try:
        manifest = read_json(path / _MANIFEST)
        recorded = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise Damaged(f"{path.name}: its manifest cannot be read ({error})") from error
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path} has checkpoint format {manifest.get('format')}; this version reads {FORMAT}")
    for name, entry in recorded.items():
        if not (path / name).is_file():
            raise Damaged(f"{path.name}: {name} is missing")
        if sha256(path / name) != entry["sha256"]:
            raise Damaged(f"{path.name}: {name} is damaged (its checksum differs)")
    segments = {
        key: Segment(key, entry["version"], load_file(path / entry["file"])["data"].numpy())
        for key, entry in manifest["segments"].items()
    }
    return decode(read_json(path / "state.json"), load_file(path / "tensors.safetensors"), segments)


def load_newest(folder: Path, *, warn: Callable[[str], None], not_after: int | None = None) -> Loaded | None:
    """The newest valid checkpoint; damaged ones are named to `warn` and skipped; None without any.

    `not_after` passes over those of later steps.
    """
    for path in paths(folder):
        if not_after is not None and int(path.name.removeprefix("step_")) > not_after:
            continue
        try:
            return Loaded(path, load(path))
        except Damaged as error:
            warn(f"checkpoint {error}; falling back to the one before")
    return None


def _is_valid(path: Path) -> bool:
    try:
        load(path)
    except Damaged:
        return False
    return True


def _write(aside: Path, encoded: Any, step: int, *, previous: Path | None) -> None:
    files: dict[str, dict[str, Any]] = {}
    with (aside / "state.json").open("w", encoding="utf-8") as file:
        json.dump(encoded.skeleton, file)
    save_file(encoded.tensors, aside / "tensors.safetensors")
    for name in ("state.json", "tensors.safetensors"):
        sync(aside / name)
        files[name] = _entry(aside / name)
    old = _previous_segments(previous)
    segments = {}
    for number, (key, segment) in enumerate(encoded.segments.items()):
        name = f"segment_{number:05d}.safetensors"
        if previous is not None and (key, segment.version) in old:
            shared, entry = old[key, segment.version]
            _link(previous / shared, aside / name)
            files[name] = entry
        else:
            save_file({"data": torch.from_numpy(np.ascontiguousarray(segment.data))}, aside / name)
            sync(aside / name)
            files[name] = _entry(aside / name)
        segments[key] = {"version": segment.version, "file": name}
    write_json(aside / _MANIFEST, {"format": FORMAT, "step": step, "files": files, "segments": segments})


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _previous_segments(previous: Path | None) -> dict[tuple[str, int], tuple[str, dict[str, Any]]]:
    """(key, version) -> (file, manifest entry) of the previous checkpoint; nothing when it cannot be read."""
    if previous is None:
        return {}
    try:
        manifest = read_json(previous / _MANIFEST)
    except (OSError, ValueError):
        return {}
    return {
        (key, entry["version"]): (entry["file"], manifest["files"][entry["file"]])
        for key, entry in manifest["segments"].items()
        if (previous / entry["file"]).is_file()
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        sync(target)


def _remove_leftovers(folder: Path) -> None:
    """Half-written checkpoints of processes that were killed; the run's lock says that none is at work."""
    for leftover in folder.glob(".step_*"):
        shutil.rmtree(leftover, ignore_errors=True)
