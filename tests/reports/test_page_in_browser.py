"""The page's buttons, pressed in a real browser without a network."""

import re

import pytest
from browser import Browser

from stablegrad.reports.report import write_report

pytestmark = pytest.mark.needs("Chromium")

PRESS = """
(async () => {
  const seen = {errors: [], saved: {}};
  addEventListener("error", event => seen.errors.push(event.message));
  const mode = document.getElementById("mode"), modes = [];
  for (let k = 0; k < 2; k++) { mode.click(); modes.push(document.documentElement.dataset.mode); }
  seen.modes = modes;
  const values = th => [...th.closest("table").tBodies[0].rows].map(
    row => row.children[[...th.parentElement.children].indexOf(th)].dataset.v);
  const th = [...document.querySelectorAll("th.n")].find(one => new Set(values(one)).size > 1);
  const head = th.querySelector("button"), column = () => values(th);
  head.click(); seen.first = [th.getAttribute("aria-sort"), column()];
  head.click(); seen.second = [th.getAttribute("aria-sort"), column()];
  const blobs = [];
  URL.createObjectURL = blob => { blobs.push(blob); return "blob:" + blobs.length; };
  HTMLAnchorElement.prototype.click = function () { seen.saved[this.download] = blobs.at(-1); };
  for (const button of document.querySelectorAll("[data-save]")) {
    const before = blobs.length;
    button.click();
    for (let k = 0; k < 200 && blobs.length == before; k++) await new Promise(done => setTimeout(done, 10));
  }
  for (const [name, blob] of Object.entries(seen.saved)) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    seen.saved[name] = [bytes.length, String.fromCharCode(...bytes.slice(0, 60))];
  }
  return seen;
})()
"""


@pytest.fixture(scope="module")
def seen(sweep, tmp_path_factory):
    target = write_report([sweep], tmp_path_factory.mktemp("page"), files=False)
    with Browser(target.as_uri()) as page:
        return page.evaluate(PRESS) | {"page": target.read_text()}


def test_light_and_dark_take_turns(seen):
    assert seen["errors"] == []
    assert sorted(seen["modes"]) == ["dark", "light"]


def test_a_column_sorts_down_then_up(seen):
    for (order, column), said in ((seen["first"], "descending"), (seen["second"], "ascending")):
        assert order == said
        values = [float(value) for value in column]
        assert len(set(values)) > 1
        assert values == sorted(values, reverse=said == "descending")


def test_every_figure_is_saved_in_three_forms(seen):
    figures = re.findall(r'<figure id="([^"]+)"', seen["page"])
    assert figures
    for kind, opening in (("csv", None), ("svg", "<svg"), ("png", "\x89PNG")):
        for figure in figures:
            size, start = seen["saved"][f"{figure}.{kind}"]
            assert size > 200
            assert start.startswith(opening) if opening else "," in start
