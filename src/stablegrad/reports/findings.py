"""The doctor's findings, handed in as data, as a section of a report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports.document import Block, Finding, Section, value_text
from stablegrad.reports.figures import Figure, Panel
from stablegrad.reports.lines import steps_axis
from stablegrad.reports.theme import SERIES

_SEVERITIES = ("critical", "warning", "info")
_PLAIN = ("run", "since", "layers", "confidence")


def findings_section(records: Sequence[Mapping[str, Any]]) -> Section:
    """The findings, most serious first, and their pictures."""
    ordered = sorted(records, key=lambda record: _seriousness(str(record.get("severity", "info"))))
    blocks: list[Block] = [finding(record) for record in ordered]
    panels = [_picture(record) for record in ordered if isinstance(record.get("picture"), Mapping)]
    if panels:
        caption = "The curves that the findings rest on, as logged."
        blocks.append(Figure("findings", "Evidence", caption, ("step", "value"), panels, size=(3.9, 2.1)))
    return Section("What the doctor found", blocks)


def finding(record: Mapping[str, Any]) -> Finding:
    """One finding. `evidence` may be a mapping, a list, or text; everything but `name` and `summary` may be absent."""
    evidence = record.get("evidence") or {}
    if not isinstance(evidence, Mapping):
        evidence = {"": evidence}
    pairs = [(key, value_text(record[key])) for key in _PLAIN if record.get(key)]
    pairs += [(str(key), value_text(value)) for key, value in evidence.items()]
    remedies = [(str(remedy.get("flags", "")), str(remedy.get("why", ""))) for remedy in record.get("remedies") or ()]
    return Finding(
        str(record.get("name", "finding")),
        str(record.get("severity", "info")),
        str(record.get("summary", "")),
        pairs,
        remedies,
    )


def _picture(record: Mapping[str, Any]) -> Panel:
    picture = record["picture"]
    steps, values = np.array(picture["steps"], dtype=np.int64), np.array(picture["values"], dtype=float)

    def draw(axes: Axes) -> None:
        axes.plot(steps, values, color=SERIES[0])
        if picture.get("log"):
            axes.set_yscale("log")
        if record.get("since"):
            axes.axvline(record["since"], color=SERIES[1], linestyle="--", linewidth=1.0)
        axes.set_ylabel(str(picture["metric"]), fontsize=7)
        steps_axis(axes, steps)

    return Panel(str(record.get("name", "finding")), draw, list(zip(steps.tolist(), values.tolist(), strict=True)))


def _seriousness(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)
