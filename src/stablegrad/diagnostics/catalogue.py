"""Every number the house logs, defined: name, unit, definition, measuring point, healthy direction, source.

The entries are data (`catalogue.toml`). A name may hold `{layer}`, `{index}` or `{term}` for what varies.
Torch-free. `python -m stablegrad.diagnostics.catalogue > docs/metrics.md` writes the page.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Literal

from stablegrad.errors import UserError, nearest

Healthy = Literal["higher", "lower", "steady", "depends"]
"""Which way is good: more, less, no sudden change, or as `reading` says."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One metric: `measured` says where and when, `reading` how to judge it, `source` who defined it."""

    name: str
    unit: str
    definition: str
    measured: str
    healthy: Healthy
    reading: str
    source: str

    @property
    def family(self) -> str:
        """What stands before the first slash, or `row` for the columns that every row has."""
        return self.name.partition("/")[0] if "/" in self.name else "row"

    def matches(self, name: str) -> bool:
        """Whether `name` is this entry's name with something in place of each `{…}`."""
        return re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(self.name)), name) is not None


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the file."""
    text = files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(Entry(**table) for table in tomllib.loads(text)["metric"])


def of_group(name: str, group: str) -> str:
    """The name of a metric of one parameter group of several: its name and a dot before the last part.

    `units/dead/trunk.0` of the group `critic` is `units/dead/critic.trunk.0`, `churn/value` is `churn/critic.value`.
    """
    family, slash, last = name.rpartition("/")
    return f"{family}{slash}{group}.{last}"


def entry(name: str) -> Entry:
    """The entry of a metric, by its logged name (`units/dead/trunk.0`) or its pattern (`units/dead/{layer}`).

    A group's metric (`of_group`) has the entry of the metric. An entry that names it exactly stands before one whose
    pattern fits. Raises UserError, with the nearest name.
    """
    known = {one.name: one for one in entries()}
    family, slash, last = name.rpartition("/")
    for exact in (name, f"{family}{slash}{last.rpartition('.')[2]}"):
        if exact in known:
            return known[exact]
    fitting = [one for one in entries() if one.matches(name)]
    if not fitting:
        raise UserError(
            f"no metric '{name}' in the catalogue{nearest(name, known)}; `stablegrad list metrics` lists all"
        )
    return max(fitting, key=lambda one: len(one.name))


def explain(name: str) -> str:
    """The entry of `name` in words, several lines. Raises UserError as `entry` does."""
    one = entry(name)
    lines = [one.name]
    for label, text in _described(one):
        lines.append(f"  {label + ':':<15}{text}")
    return "\n".join(lines)


def markdown() -> str:
    """The whole catalogue as one Markdown page."""
    lines = [
        "# Metrics",
        "",
        "Every number that a run logs. Made from the code by",
        "`python -m stablegrad.diagnostics.catalogue > docs/metrics.md`;",
        "`stablegrad explain NAME` prints one entry.",
        "",
        "`{layer}` stands for a layer's name in its network. What is healthy: `higher`, `lower`,",
        "`steady` (a sudden change is the sign), or it `depends`, as the sentence behind it says.",
    ]
    for family, members in groupby(sorted(entries(), key=lambda one: one.family), key=lambda one: one.family):
        lines += ["", f"## {family}"]
        for one in members:
            lines += ["", f"### `{one.name}`", ""]
            lines += [f"- **{label}**: {text}" for label, text in _described(one)]
    return "\n".join(lines) + "\n"


def _described(one: Entry) -> Iterator[tuple[str, str]]:
    healthy = one.healthy if not one.reading else f"{one.healthy}. {one.reading}"
    yield "what", one.definition
    yield "unit", one.unit
    yield "measured", one.measured
    yield "healthy", healthy
    yield "source", one.source


if __name__ == "__main__":
    sys.stdout.write(markdown())
