"""What the last bits of a run depend on beside its config: versions, processor, instructions, threads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stablegrad.runs.files import read_object
from stablegrad.runs.folder import VERSIONS, processor, versions

_PACKAGES = tuple(name for name in VERSIONS if name != "safetensors")
_NAMES = {"cpu": "processor", "instructions": "instruction set"}


def here(device: str) -> dict[str, Any]:
    """What holds in this process, for a run on `device`."""
    installed = versions()
    found: dict[str, Any] = {name: installed[name] for name in _PACKAGES if name in installed}
    found |= {"cpu": processor(), "instructions": torch.backends.cpu.get_cpu_capability()}
    found["threads"] = torch.get_num_threads()
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def of_manifest(run: Path) -> dict[str, Any]:
    """What a run's manifest says it began under: all there is about checkpoints of format 1."""
    try:
        manifest = read_object(run / "manifest.json")
        return {name: manifest[name] for name in (*_PACKAGES, "cpu") if name in manifest}
    except (OSError, ValueError, TypeError):
        return {}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is no longer as it was, each for a sentence: `torch 2.13.0 (was 2.12.0)`."""
    return [
        f"{_NAMES.get(name, name)} {now[name]} (was {value})"
        for name, value in before.items()
        if name in now and now[name] != value
    ]
