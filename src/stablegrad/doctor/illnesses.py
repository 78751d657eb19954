"""The illnesses the doctor knows, as data: thresholds with their sources, and what has been shown to help.

`illnesses.toml` holds them, so that a threshold can be looked up, doubted and changed without reading code.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from stablegrad.errors import UserError, nearest
from stablegrad.nn.spec import DEPTHS


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A number that decides, and who says so."""

    value: float
    meaning: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """Something to try: flags of ours, and where it was shown to help (our committed results, or the literature).

    `scale` names settings to multiply, where what to set depends on what the run used.
    """

    why: str
    shown: Literal["ours", "literature"]
    source: str
    flags: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)

    def advice(self, config: Mapping[str, Any]) -> str | None:
        """The flags as they would be typed for a run with this config; None where it has them all already.

        A config records the learning rate with the optimizer's own factor in it, a flag is given without.
        """
        changes = {name: value for name, value in self.flags.items() if not _in_force(config.get(name), value)}
        for name, factor in self.scale.items():
            if isinstance(config.get(name), int | float):
                own = float(config.get("lr_scale") or 1.0) if name == "learning_rate" else 1.0
                changes[name] = float(f"{config[name] / own * factor:.2g}")
        return " ".join(f"--{name} {str(value).lower()}" for name, value in changes.items()) or None


def _in_force(used: Any, wanted: str | int | float | bool) -> bool:
    """Whether a setting is as wanted already; limits and sizes also where they are smaller."""
    if isinstance(used, str):
        used = DEPTHS.get(used, used)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (used, wanted))
    return used <= wanted if numbers else used == wanted


@dataclass(frozen=True, kw_only=True)
class Illness:
    """`needs` says which metrics the doctor must see to look for it."""

    name: str
    title: str
    about: str
    needs: tuple[str, ...]
    thresholds: Mapping[str, Threshold]
    remedies: tuple[Remedy, ...]

    def __getitem__(self, threshold: str) -> float:
        return self.thresholds[threshold].value


@cache
def illnesses() -> dict[str, Illness]:
    """All of them by name, in the order of the file."""
    text = files(__package__).joinpath("illnesses.toml").read_text(encoding="utf-8")
    return {table["name"]: _illness(table) for table in tomllib.loads(text)["illness"]}


def illness(name: str) -> Illness:
    """One of them. UserError, with the nearest name, where there is none."""
    known = illnesses()
    if name not in known:
        raise UserError(f"no illness '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return known[name]


def _illness(table: Mapping[str, Any]) -> Illness:
    fields = dict(table)
    fields["thresholds"] = {name: Threshold(**value) for name, value in table.get("thresholds", {}).items()}
    fields["needs"] = tuple(table["needs"])
    fields["remedies"] = tuple(Remedy(**value) for value in table.get("remedies", ()))
    return Illness(**fields)
