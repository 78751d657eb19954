"""The sweep file: what it may hold, read from TOML and written back. Torch-free.

    name = "depth_collapse"             where the runs go: runs/<name>
    description = "…"                   optional; `notes = ["…"]` too
    seeds = [1, 2, 3]                   or a number n for 1 … n

    [settings]                          flat settings that every run has, `algo` among them
    [grid]                              setting -> list of values: every combination
    [[arms]]                            named sets of settings; [arms.grid] below one varies it further
    [[exclude]]                         setting -> value or list of values, `arm` and `seed` among them
    [tune]                              what `stablegrad sweep tune` searches (see `tuning.py`)

Settings are looked at when the cells are resolved (`grid.py`); here only the file's shape is.
"""

import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablegrad.errors import UserError, nearest
from stablegrad.runs.files import parse_toml, read_toml
from stablegrad.settings import LARGEST

MOST_CELLS = 100_000
"""So many runs a sweep may have: more are a slip of the pen, and listing them takes minutes."""

_KEYS = ("name", "description", "notes", "seeds", "settings", "grid", "arms", "exclude", "tune")


@dataclass(frozen=True)
class ArmEntry:
    """One `[[arms]]` entry."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepFile:
    """A sweep as written. `tune` is the raw table, None where there is none."""

    name: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    arms: tuple[ArmEntry, ...] = ()
    exclude: tuple[Mapping[str, Any], ...] = ()
    tune: Mapping[str, Any] | None = None
    description: str = ""
    notes: tuple[str, ...] = ()


def read(path: Path) -> SweepFile:
    """The sweep in a file. Raises UserError, with every problem of its shape at once."""
    return _sweep(read_toml(path, str(path)), str(path))


def parse(text: str, *, source: str) -> SweepFile:
    """The sweep in `text`; `source` names it in the message of a UserError."""
    return _sweep(parse_toml(text, source), source)


def _sweep(table: Mapping[str, Any], source: str) -> SweepFile:
    problems = [f"unknown key '{key}'{nearest(key, _KEYS)}" for key in table if key not in _KEYS]
    sweep = SweepFile(
        name=_name(table.get("name"), problems),
        seeds=_seeds(table.get("seeds", [1]), problems),
        settings=_settings(table.get("settings", {}), "[settings]", problems),
        grid=_grid(table.get("grid", {}), "[grid]", problems),
        arms=_arms(table.get("arms", []), problems),
        exclude=_tables(table.get("exclude", []), "exclude", problems),
        tune=_table(table["tune"], "[tune]", problems) if "tune" in table else None,
        description=_text(table.get("description", ""), "description", problems),
        notes=tuple(_text(note, "notes", problems) for note in _list(table.get("notes", []), "notes", problems)),
    )
    if problems:
        raise UserError([f"{source}: {problem}" for problem in problems])
    return sweep


def write(sweep: SweepFile) -> str:
    """The TOML text of a sweep; `parse(write(sweep), …) == sweep`."""
    lines = [f"name = {_value(sweep.name)}"]
    if sweep.description:
        lines.append(f"description = {_value(sweep.description)}")
    if sweep.notes:
        lines += ["notes = [", *(f"    {_value(note)}," for note in sweep.notes), "]"]
    lines.append(f"seeds = {_value(list(sweep.seeds))}")
    lines += _section("[settings]", sweep.settings) + _section("[grid]", sweep.grid)
    for arm in sweep.arms:
        lines += _section("[[arms]]", {"name": arm.name, **arm.settings}) + _section("[arms.grid]", arm.grid)
    for rule in sweep.exclude:
        lines += _section("[[exclude]]", rule)
    if sweep.tune is not None:
        lines += _section("[tune]", sweep.tune)
    return "\n".join(lines) + "\n"


def _name(value: Any, problems: list[str]) -> str:
    if not isinstance(value, str) or not value or not all(c.isalnum() or c in "-_." for c in value) or value[0] == ".":
        problems.append("name = \"…\" is missing, or not made of letters, digits, '-', '_' and '.'")
        return ""
    return value


def _seeds(value: Any, problems: list[str]) -> tuple[int, ...]:
    if _is_seed(value) and value <= MOST_CELLS:
        value = list(range(1, value + 1))
    if not isinstance(value, list) or not value or not all(_is_seed(seed) for seed in value):
        problems.append(f"seeds must be a list of whole numbers, or how many there are, at most {MOST_CELLS:,}")
        return (1,)
    if len(set(value)) < len(value):
        problems.append(f"seeds {value} holds one of them twice")
    return tuple(value)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _settings(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    table = _underscored(_table(value, where, problems))
    if "seed" in table:
        problems.append(f"{where} sets seed: list the seeds in `seeds` at the top of the file")
    problems.extend(
        f"{where} gives {name} a table: a setting is one value"
        for name, entry in table.items()
        if isinstance(entry, dict)
    )
    return table


def _grid(value: Any, where: str, problems: list[str]) -> dict[str, list[Any]]:
    grid = {}
    for name, values in _settings(value, where, problems).items():
        # A suite's name stands for its games.
        values = [values] if name == "env_id" and isinstance(values, str) else values
        if not isinstance(values, list) or not values:
            problems.append(f"{where} {name} must be a list of at least one value")
            continue
        grid[name] = values
    return grid


def _arms(value: Any, problems: list[str]) -> tuple[ArmEntry, ...]:
    arms: list[ArmEntry] = []
    for number, entry in enumerate(_tables(value, "arms", problems), start=1):
        table = dict(entry)
        name = table.pop("name", None)
        if not isinstance(name, str) or not name:
            problems.append(f"[[arms]] entry {number} has no name")
            name = f"entry {number}"
        if any(name == arm.name for arm in arms):
            problems.append(f"two [[arms]] are called '{name}'")
        grid = _grid(table.pop("grid", {}), f"[arms.grid] of '{name}'", problems)
        arms.append(ArmEntry(name, _settings(table, f"arm '{name}'", problems), grid))
    return tuple(arms)


def _tables(value: Any, key: str, problems: list[str]) -> tuple[dict[str, Any], ...]:
    entries = _list(value, f"[[{key}]]", problems)
    return tuple(_underscored(_table(entry, f"[[{key}]]", problems)) for entry in entries)


def _table(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    problems.append(f"{where} must be a table")
    return {}


def _list(value: Any, where: str, problems: list[str]) -> list[Any]:
    if isinstance(value, list):
        return value
    problems.append(f"{where} must be a list")
    return []


def _text(value: Any, where: str, problems: list[str]) -> str:
    if isinstance(value, str):
        return value
    problems.append(f"{where} must be text")
    return ""


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    """Hyphens in a setting's name mean underscores, as on the command line."""
    return {name.replace("-", "_"): value for name, value in table.items()}


def _section(header: str, table: Mapping[str, Any]) -> list[str]:
    if not table:
        return []
    return ["", header, *(f"{_key(name)} = {_value(value)}" for name, value in table.items())]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_value(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # JSON's strings, booleans and numbers are TOML's as well.
    return json.dumps(value, ensure_ascii=False)
