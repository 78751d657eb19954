"""What a report consists of, without saying how it looks: `html` and `markdown` each write one of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from stablegrad.reports.figures import Figure


class Cell(NamedTuple):
    """A table's cell: what is shown, and the number it is sorted by (text sorts by itself)."""

    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` of as many cells as there are `columns`. A column of numbers is aligned and sorted as such."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    folded: bool = False
    """Shut at first, behind its caption: long, and not the point."""


@dataclass(frozen=True, slots=True)
class Points:
    """Sentences in a list: what is `said`, what is to `doubt`, or plain `notes`."""

    sentences: Sequence[str]
    kind: Literal["said", "doubt", "notes"] = "notes"


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be copied: a command."""

    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One of the doctor's: how serious, what, the evidence as (name, value) pairs, and what to try as (flags, why)."""

    name: str
    severity: str
    summary: str
    evidence: Sequence[tuple[str, str]]
    remedies: Sequence[tuple[str, str]] = ()


Block = Table | Points | Code | Finding | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, the sentence under it, and what follows."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """`facts` are the few numbers on top (value, what)."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]

    def figures(self) -> list[Figure]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def value_text(value: Any) -> str:
    """Any value from a file as text: numbers short, lists and mappings without brackets."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {value_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    return str(value)
