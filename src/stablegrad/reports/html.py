"""A report as one HTML file: style, script, figures and their numbers inline, no network, light and dark mode."""

import base64
import gzip
import re
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from itertools import groupby

from stablegrad.reports import theme
from stablegrad.reports.document import Block, Cell, Code, Document, Finding, Points, Section, Table
from stablegrad.reports.figures import Figure, Style, csv_text, dash_attribute, for_page
from stablegrad.text import printable

OPEN_PANELS = 12
"""So many panels of a figure are shown at once; the rest are behind a click (and all are printed)."""


def render_html(document: Document) -> str:
    """The whole page."""
    contents = "".join(f'<a href="#{_slug(s.title)}">{_text(s.title)}</a>' for s in document.sections)
    facts = "".join(f"<div><dt>{_text(what)}</dt><dd>{_text(value)}</dd></div>" for value, what in document.facts)
    body = "".join(map(_section, document.sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(document.title)}</title>\n<style>\n{_style()}\n</style>\n</head>\n<body>\n"
        f'<header><button type="button" id="mode" aria-label="light or dark" title="light or dark">◐</button>'
        f"<h1>{_text(document.title)}</h1><p>{_text(document.subtitle)}</p><dl>{facts}</dl></header>\n"
        f"<nav>{contents}</nav>\n<main>\n{body}</main>\n"
        f"<script>\n{_asset('report.js')}\n</script>\n</body>\n</html>\n"
    )


def _style() -> str:
    light, dark = theme.css(dark=False), theme.css(dark=True)
    return (
        f":root {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f":root[data-mode=light] {{ {light} }}\n:root[data-mode=dark] {{ {dark} }}\n"
        f"{_asset('report.css')}\n@media print {{ :root, :root[data-mode] {{ {light} }} }}"
    )


def _asset(name: str) -> str:
    return files("stablegrad.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _section(section: Section) -> str:
    lead = f"<p>{_text(section.lead)}</p>" if section.lead else ""
    blocks = "".join(map(_group, groupby(section.blocks, key=lambda block: isinstance(block, Figure))))
    return f'<section id="{_slug(section.title)}"><h2>{_text(section.title)}</h2>{lead}{blocks}</section>\n'


def _group(group: tuple[bool, Iterable[Block]]) -> str:
    """Figures that follow each other share a grid: those of one panel stand side by side, under one legend."""
    figures = [block for block in group[1] if isinstance(block, Figure)] if group[0] else []
    if not figures:
        return "".join(map(_block, group[1]))
    legends = {tuple(figure.legend) for figure in figures}
    shared = _legend(figures[0]) if len(figures) > 1 and len(legends) == 1 else ""
    inner = "".join(_figure(figure, legend="" if shared else _legend(figure)) for figure in figures)
    return f'{shared}<div class="gallery">{inner}</div>'


def _block(block: Block) -> str:
    match block:
        case Points():
            items = "".join(f"<li>{_text(sentence)}</li>" for sentence in block.sentences)
            return f'<ul class="{block.kind}">{items}</ul>' if items else ""
        case Table():
            return _table(block)
        case Code():
            return f'<pre tabindex="0"><code>{_text(block.text)}</code></pre>'
        case Finding():
            return _finding(block)
        case Figure():
            return _figure(block, legend=_legend(block))


def _table(table: Table) -> str:
    numeric = [all(row[k].value is not None for row in table.rows) for k in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_numeric(is_number)}><button type="button">{_text(name)}</button></th>'
        for name, is_number in zip(table.columns, numeric, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(_cell(cell, is_number) for cell, is_number in zip(row, numeric, strict=True)) + "</tr>"
        for row in table.rows
    )
    inner = (
        f'<div class="wide" tabindex="0" role="region" aria-label="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    if table.folded:
        return f"<details><summary>{_text(table.caption)}</summary>{inner}</details>"
    caption = f'<p class="caption">{_text(table.caption)}</p>' if table.caption else ""
    return f'<div class="table">{inner}{caption}</div>'


def _cell(cell: Cell, is_number: bool) -> str:
    value = f' data-v="{cell.value:.6g}"' if cell.value is not None else ""
    return f"<td{_numeric(is_number)}{value}>{_text(cell.text)}</td>"


def _numeric(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _finding(finding: Finding) -> str:
    evidence = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in finding.evidence)
    remedies = "".join(f"<li><code>{_text(flags)}</code> {_text(why)}</li>" for flags, why in finding.remedies)
    return (
        f'<div class="finding {_slug(finding.severity)}"><p><b>{_text(finding.name)}</b>'
        f"<span>{_text(finding.severity)}</span></p><p>{_text(finding.summary)}</p><dl>{evidence}</dl>"
        f"{f'<ul>{remedies}</ul>' if remedies else ''}</div>"
    )


def _figure(figure: Figure, *, legend: str) -> str:
    panels = []
    for panel, svg in zip(figure.panels, figure.svgs, strict=True):
        note = f"<small>{_text(panel.note)}</small>" if panel.note else ""
        panels.append(f"<div><h4>{_text(panel.title)}</h4>{for_page(svg)}{note}</div>")
    width = f"{figure.size[0] / 3.9 * 21:.1f}rem"
    shown = f'<div class="panels" style="--panel: {width}">{"".join(panels[:OPEN_PANELS])}</div>'
    if len(panels) > OPEN_PANELS:
        more = f'<div class="panels" style="--panel: {width}">{"".join(panels[OPEN_PANELS:])}</div>'
        shown += f"<details><summary>{len(panels) - OPEN_PANELS} more</summary>{more}</details>"
    only = ' class="one"' if len(panels) == 1 else ""
    buttons = "".join(
        f'<button type="button" data-save="{kind}">{kind.upper()}</button>' for kind in ("svg", "png", "csv")
    )
    return (
        f'<figure id="{_text(figure.name)}"{only}><h3>{_text(figure.title)}</h3>{legend}{shown}'
        f"<figcaption>{_text(figure.caption)} <span>{buttons}</span></figcaption>"
        f'<script type="text/plain">{_packed(csv_text(figure))}</script></figure>'
    )


def _legend(figure: Figure) -> str:
    items = "".join(f"<li>{_swatch(style)}{_text(label)}</li>" for label, style in figure.legend)
    return f'<ul class="legend">{items}</ul>' if items else ""


def _swatch(style: Style) -> str:
    colour = "var(--other)" if style.place is None else f"var(--s{style.place})"
    line = f'<path d="M0 4h26" stroke="{colour}" stroke-width="2.6"{dash_attribute(style)}/>'
    return f'<svg viewBox="0 0 26 8" aria-hidden="true">{line}</svg>'


def _packed(text: str) -> str:
    """Text for the page's script: gzip in base64, a fifth of its size."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _text(text: str) -> str:
    """Text as HTML, wherever it came from; a number stays with its per cent sign."""
    return escape(printable(text, lines=True)).replace(" %", "\u00a0%")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
