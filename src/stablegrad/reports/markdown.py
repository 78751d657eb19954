"""A report as Markdown, with its figures beside it as PNG files."""

import re
from collections.abc import Sequence

from stablegrad.reports.document import Block, Code, Document, Finding, Points, Table
from stablegrad.reports.figures import Figure
from stablegrad.text import printable


def render_markdown(document: Document, *, figures: str) -> str:
    """The whole report; `figures` is the folder, relative to the file, where its figures are."""
    facts = " · ".join(f"**{_text(value)}** {_text(what)}" for value, what in document.facts)
    lines = [f"# {_text(document.title)}", "", _text(document.subtitle), "", facts]
    for section in document.sections:
        lines += ["", f"## {_text(section.title)}"]
        if section.lead:
            lines += ["", _text(section.lead)]
        for block in section.blocks:
            lines += ["", *_block(block, figures)]
    return "\n".join(lines) + "\n"


def _block(block: Block, figures: str) -> list[str]:
    match block:
        case Points():
            mark = "**Doubt:** " if block.kind == "doubt" else ""
            return [f"- {mark}{_text(sentence)}" for sentence in block.sentences]
        case Table():
            return _table(block)
        case Code():
            return _code(block.text)
        case Finding():
            evidence = [f"  - {_text(f'{name}: ' if name else '')}{_text(value)}" for name, value in block.evidence]
            remedies = [f"  - try `{flags.replace('`', '')}`: {_text(why)}" for flags, why in block.remedies]
            head = f"- **{_text(block.name)}** ({_text(block.severity)}): {_text(block.summary)}"
            return [head, *evidence, *remedies]
        case Figure():
            picture = f"![{_text(block.title)}]({figures}/{block.name}.png)"
            data = f"([SVG]({figures}/{block.name}.svg), [CSV]({figures}/{block.name}.csv))"
            return [f"### {_text(block.title)}", "", picture, "", f"{_text(block.caption)} {data}"]


def _table(table: Table) -> list[str]:
    numeric = [all(row[k].value is not None for row in table.rows) for k in range(len(table.columns))]
    lines = [
        _row(table.columns),
        _row(["---:" if is_number else "---" for is_number in numeric]),
        *(_row([cell.text for cell in row]) for row in table.rows),
    ]
    if table.folded:
        return ["<details>", f"<summary>{_text(table.caption)}</summary>", "", *lines, "", "</details>"]
    return [*lines, "", f"*{_text(table.caption)}*"] if table.caption else lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_text(cell).replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> list[str]:
    """A fenced block; the fence is longer than any within the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", printable(text, lines=True), fence]


def _text(text: str) -> str:
    """Text within a line: no HTML, no link, no code, whatever it is called."""
    plain = printable(text.replace("\n", " "))
    return re.sub(r"([\[\]`])", r"\\\1", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain))
