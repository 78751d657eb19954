"""The paper's figures and tables as sweep files, with the paper's budgets. Data lies in `presets/*.toml`.

Castanyer et al. 2025, arXiv:2506.15544. What the paper leaves open is said in each preset's notes.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from stablegrad.errors import UserError, nearest
from stablegrad.sweeps.file import ArmEntry, SweepFile, parse

_FOLDER = resources.files("stablegrad.sweeps") / "presets"


def names() -> tuple[str, ...]:
    """In alphabetical order."""
    return tuple(
        sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))
    )


def load(name: str) -> SweepFile:
    """The preset called `name`; UserError names the nearest otherwise."""
    known = names()
    if name not in known:
        raise UserError(f"unknown preset '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return parse((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"), source=f"preset {name}")


def with_settings(sweep: SweepFile, changes: Mapping[str, Any]) -> SweepFile:
    """The sweep with some settings changed wherever the file decides them; a list varies the setting.

    Games always stand in the grid, where the name of a suite means its games.
    """
    if not isinstance(changes.get("env_id", []), list):
        changes = {**changes, "env_id": [changes["env_id"]]}
    fixed = {name: value for name, value in changes.items() if not isinstance(value, list)}
    varied = {name: value for name, value in changes.items() if isinstance(value, list)}
    return dataclasses.replace(
        sweep,
        settings={**_without(sweep.settings, changes), **fixed},
        grid={**_without(sweep.grid, changes), **varied},
        arms=tuple(
            ArmEntry(arm.name, _without(arm.settings, changes), _without(arm.grid, changes)) for arm in sweep.arms
        ),
    )


def _without(table: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}
