"""A report as Markdown, with its figures beside it as PNG files."""

from collections.abc import Sequence

from stablegrad.reports.document import Block, Code, Document, Finding, Points, Table
from stablegrad.reports.figures import Figure


def render_markdown(document: Document, *, figures: str) -> str:
    """The whole report; `figures` is the folder, relative to the file, where its figures are."""
    facts = " · ".join(f"**{value}** {what}" for value, what in document.facts)
    lines = [f"# {document.title}", "", document.subtitle, "", facts]
    for section in document.sections:
        lines += ["", f"## {section.title}"]
        if section.lead:
            lines += ["", section.lead]
        for block in section.blocks:
            lines += ["", *_block(block, figures)]
    return "\n".join(lines) + "\n"


def _block(block: Block, figures: str) -> list[str]:
    match block:
        case Points():
            mark = "**Doubt:** " if block.kind == "doubt" else ""
            return [f"- {mark}{sentence}" for sentence in block.sentences]
        case Table():
            return _table(block)
        case Code():
            return ["```sh", block.text, "```"]
        case Finding():
            evidence = [f"  - {f'{name}: ' if name else ''}{value}" for name, value in block.evidence]
            remedies = [f"  - try `{flags}`: {why}" for flags, why in block.remedies]
            return [f"- **{block.name}** ({block.severity}): {block.summary}", *evidence, *remedies]
        case Figure():
            picture = f"![{block.title}]({figures}/{block.name}.png)"
            data = f"([SVG]({figures}/{block.name}.svg), [CSV]({figures}/{block.name}.csv))"
            return [f"### {block.title}", "", picture, "", f"{block.caption} {data}"]


def _table(table: Table) -> list[str]:
    numeric = [all(row[k].value is not None for row in table.rows) for k in range(len(table.columns))]
    lines = [
        _row(table.columns),
        _row(["---:" if is_number else "---" for is_number in numeric]),
        *(_row([cell.text for cell in row]) for row in table.rows),
    ]
    if table.folded:
        return ["<details>", f"<summary>{table.caption}</summary>", "", *lines, "", "</details>"]
    return [*lines, "", f"*{table.caption}*"] if table.caption else lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
