"""Names come from files, and whoever writes the files chooses them: on a page and in a table they are text."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from synthetic_runs import write_run

from stablegrad.commands.report import main as report
from stablegrad.reports import theme
from stablegrad.reports.figures import Figure, Panel, csv_text
from stablegrad.reports.names import file_name

IMAGE = 'x"><img src=x onerror=alert(1)>'
SCRIPT = "</script><script>alert(1)</script>"
FORMULA = "$\\frac{$"
ESCAPE = "e\x1b[2J\u202e\ud800"
CELLS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)"]
PATH = "../../out"
NAMES = [IMAGE, SCRIPT, FORMULA, ESCAPE, *CELLS, PATH, "[x](javascript:alert(1))", "`code`", "a|b", "x" * 300]
FAMILIES = [IMAGE, ESCAPE, CELLS[0], PATH]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of two arms whose every name is hostile: of metrics, layers, settings, values, games, versions."""
    root = tmp_path_factory.mktemp("hostile")
    for arm, optimizer in enumerate((IMAGE, FORMULA)):
        for seed in (1, 2):
            settings = {"optimizer": optimizer, "env_id": SCRIPT, "odd": CELLS}
            run = write_run(root / f"run{arm}{seed}", seed=seed, rows=3, diagnostics=False, **settings)
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            for number, row in enumerate(rows):
                row |= {f"losses/{name}": float(number) for name in NAMES} | {f"{name}/x": 1.0 for name in FAMILIES}
                row |= {f"{IMAGE}/{ESCAPE}/{layer}": 1.0 for layer in NAMES}
            (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            manifest = json.loads((run / "manifest.json").read_text())
            odd = {IMAGE: SCRIPT, "command": ["stablegrad", "```", IMAGE, ESCAPE], "cpu": ESCAPE}
            (run / "manifest.json").write_text(json.dumps({**manifest, **odd}))
            (run / "status.json").write_text(json.dumps({"state": "failed", "step": 1, "reason": f"{IMAGE}{ESCAPE}"}))
    out = root / "page"
    assert report([str(root), "--out", str(out / "report.html"), "--title", f"{IMAGE}{FORMULA}"]) == 0
    return out


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_no_name_becomes_an_element_or_an_attribute(page):
    found = Elements((page / "report.html").read_text(encoding="utf-8")).found
    tags = {tag for tag, _ in found}
    assert "figure" in tags
    assert "img" not in tags
    assert [name for _, attributes in found for name in attributes if name.startswith("on")] == []
    scripts = [attributes for tag, attributes in found if tag == "script"]
    figures = sum(tag == "figure" for tag, _ in found)
    assert len(scripts) == figures + 1  # the page's own, and the numbers of each figure
    assert sum(attributes.get("type") == "text/plain" for attributes in scripts) == figures


def test_the_parser_sees_what_the_page_had():
    """The negative control: the identifier of a figure, as it was written."""
    name = f"metrics_{IMAGE}"
    found = Elements(f'<figure id="{name}"><h3>x</h3></figure>').found
    assert ("img", {"src": "x", "onerror": "alert(1)"}) in found


def test_every_identifier_and_file_is_a_plain_name_inside_the_folder(page):
    found = Elements((page / "report.html").read_text(encoding="utf-8")).found
    names = [attributes["id"] for tag, attributes in found if tag == "figure"]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,90}", str(name)) for name in names)
    files = sorted(path.relative_to(page) for path in page.rglob("*") if path.is_file())
    assert {path.parts[0] for path in files} == {"report.html", "report.md", "report_files"}
    assert all(len(path.parts) <= 2 for path in files)
    assert not list(page.parents[1].glob("out*"))


def test_two_names_that_look_alike_are_two_files():
    assert file_name("losses") == "losses"
    assert file_name("../../out") != file_name("..-..-out")
    assert file_name("a b") != file_name("a-b")
    assert len(file_name("x" * 300)) < 90


def test_nothing_that_is_written_acts(page):
    """No file holds a control character but line ends and, in CSV and pages, tabs."""
    texts = [path for path in page.rglob("*") if path.suffix in (".html", ".md", ".svg", ".csv")]
    assert len(texts) > 20
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text) == [], path


def test_no_cell_of_a_table_is_a_formula(page):
    cells = [
        cell
        for path in (page / "report_files").glob("*.csv")
        for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
        for cell in row
        if not re.fullmatch(r"-?[\d.e+-]+|-?inf|nan", cell)
    ]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    assert any(cell.startswith("'=cmd") for cell in cells)


def test_numbers_below_zero_stay_numbers():
    panel = Panel("=1", lambda axes: None, [("-1+1", -1.5, -3), ("plain", 2.0, 4)])
    text = csv_text(Figure("f", "t", "c", ("name", "x", "n"), [panel]))
    assert text.splitlines() == ["panel,name,x,n", "'=1,'-1+1,-1.5,-3", "'=1,plain,2,4"]


def test_the_markdown_has_no_html_no_links_and_one_fence_a_block(page):
    text = (page / "report.md").read_text(encoding="utf-8")
    outside = re.sub(r"(?ms)^(`{3,})sh\n.*?^\1$", "", text)
    assert "<img" in text  # in the block of a command
    assert "<img" not in outside
    assert "<script" not in outside
    assert "](javascript:" not in outside.replace("\\](", "")
    assert "```" not in outside.replace("\\`", "")


def test_dollars_are_not_mathematics():
    def draw() -> None:
        canvas = Canvas()
        FigureCanvasAgg(canvas)
        canvas.text(0.5, 0.5, FORMULA)
        canvas.savefig(io.BytesIO(), format="png")

    with mpl.rc_context(theme.rc()):
        draw()
    with pytest.raises(ValueError, match=r"ParseSyntaxException|Expected"):  # the negative control
        draw()
