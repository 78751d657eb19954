"""Figures: pages get colours as variables and unique ids, files get all panels, CSV the numbers."""

import csv
import io
import re
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib import rcParams

from stablegrad.reports import theme
from stablegrad.reports.figures import Figure, Panel, Style, csv_text, for_page, save, short_number


def figure(panels=2, **options):
    def draw(axes):
        axes.plot([0, 10], [0.123456, 50_000], color=theme.SERIES[0])
        axes.fill_between([0, 10], [0, 1], [2, 60_000], color=theme.SERIES[1], alpha=0.2)
        axes.set_xlabel('x < "y" & z')

    rows = [("plain", 1, 0.5), ("plain", 2, np.pi)]
    made = [Panel(f"panel {number}", draw, rows) for number in range(panels)]
    legend = [("plain", Style(0)), ("a, b", Style(1)), ("others", Style(None))]
    return Figure("name", "Title", "Caption", ("arm", "step", "value"), made, legend, **options)


def test_a_panel_is_well_formed_and_uses_the_pages_colours():
    (svg, _) = figure().svgs
    page = for_page(svg)
    root = ET.fromstring(page.replace("xlink:href", "href"))
    assert root.attrib["viewBox"] == "0 0 280.8 180"
    assert root.attrib["aria-label"] == "Title: panel 0"
    assert "var(--s0)" in page
    assert "var(--s1)" in page
    assert not any(colour in page for colour in theme.VARIABLES)
    assert "font-family" not in page
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")] or [
        element.text for element in root.iter("text")
    ]
    assert 'x < "y" & z' in texts
    assert {"20k", "40k"} <= set(texts)


def test_ids_are_unique_in_a_page_and_all_references_resolve():
    page = "".join(figure(3).svgs)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 3
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert references
    assert set(references) <= set(ids)


def test_the_same_figure_is_drawn_the_same():
    assert figure().svgs == figure().svgs


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(rcParams)
    _ = figure().svgs
    assert dict(rcParams) == before


def test_a_letter_that_the_font_lacks_is_no_warning(tmp_path):
    """Names come from files: an escape, shown as its sign, was a warning of matplotlib on standard error."""
    odd = "\N{SYMBOL FOR ESCAPE}\N{LLAMA}"
    drawn = Figure("name", odd, odd, ("a",), [Panel(odd, lambda axes: axes.set_xlabel(odd), [])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(drawn, tmp_path)
        assert drawn.svgs


def test_files(tmp_path):
    png, svg, table = save(figure(5), tmp_path / "new")
    assert [path.name for path in (png, svg, table)] == ["name.png", "name.svg", "name.csv"]
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(png.read_bytes()[at : at + 4], "big") for at in (16, 20))
    assert width > height  # three panels beside each other, two rows
    root = ET.fromstring(svg.read_text())
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 5
    assert "var(--" not in svg.read_text()
    assert [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")][-3:] == ["plain", "a, b", "others"]


def test_csv():
    rows = list(csv.reader(io.StringIO(csv_text(figure()))))
    assert rows[0] == ["panel", "arm", "step", "value"]
    assert rows[1:3] == [["panel 0", "plain", "1", "0.5"], ["panel 0", "plain", "2", "3.1416"]]
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.25, "0.25"), (9_999, "9999"), (15_000, "15k"), (2.5e6, "2.5M"), (-3e9, "-3B"), (3e-7, "3e-07"),
     (4e13, "4e+13")],
)  # fmt: skip
def test_short_numbers(value, shown):
    assert short_number(value) == shown


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_and_series_are_seen_in_both_modes(dark):
    """WCAG: 4.5 for text; 2 for lines, which also have dashes and markers of their own."""
    colours = dict(re.findall(r"--([\w]+): (#\w{6});", theme.css(dark=dark)))
    assert set(colours) == set(theme.VARIABLES.values())
    assert contrast(colours["ink"], colours["paper"]) > 12
    assert contrast(colours["faint"], colours["paper"]) > 4.5
    assert min(contrast(colours[f"s{n}"], colours["paper"]) for n in range(len(theme.SERIES))) > 2


def test_no_two_series_look_alike():
    assert len({(str(Style(n).dash), Style(n).marker, Style(n).colour) for n in range(len(theme.SERIES))}) == 7
    assert len({Style(0, dash_place=n).dash for n in range(3)}) == 3
