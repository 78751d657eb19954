"""What is measured in few rows is drawn where it was measured, and nowhere else."""

import json

import numpy as np
from matplotlib.figure import Figure as Canvas
from synthetic_runs import write_run

from stablegrad.reports.arms import study
from stablegrad.reports.curves import step_grid
from stablegrad.reports.figures import Style
from stablegrad.reports.lines import draw_line
from stablegrad.reports.load import load_runs
from stablegrad.reports.plot_metrics import layer_maps, lead, metric_panels

PROBED = {4_000: 100.0, 36_000: 40.0}
LAYERS = ("trunk.0", "trunk.1", "trunk.2")


def probed_runs(root):
    """Three seeds of 10 rows; probes stand in two of them."""
    for seed in (1, 2, 3):
        path = write_run(root / str(seed), seed=seed, rows=10, steps=40_000, diagnostics=False)
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            if (value := PROBED.get(row["step"])) is not None:
                row |= {"ranks/srank": value + seed, **{f"units/dead/{layer}": seed / 10 for layer in LAYERS}}
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study(load_runs([root]))


def drawn(panel):
    axes = Canvas().add_subplot()
    panel.draw(axes)
    return axes


def test_a_probe_has_a_marker_for_each_measurement_and_no_other_point(tmp_path):
    compared = probed_runs(tmp_path)
    styles = {compared.arms[0].label: Style(0)}
    grid = step_grid(compared.runs)
    panels = {panel.title: panel for figure in metric_panels(compared, styles, grid=grid) for panel in figure.panels}
    assert [row[1:3] for row in panels["ranks/srank"].rows] == [(4_000, 102.0), (36_000, 42.0)]
    (line,) = drawn(panels["ranks/srank"]).lines
    assert (line.get_marker(), line.get_markevery(), line.get_xdata().tolist()) == ("o", [0, 1], [4_000, 36_000])
    # What every row has is a curve without gaps from the first row on: a window has 4,000 steps, not a twentieth.
    every = panels["losses/q_values"].rows
    assert [row[1] for row in every] == [step for step in grid if step >= 4_000]
    assert drawn(panels["losses/q_values"]).lines[0].get_markevery() == []
    assert "mean over the 4,000 steps before it" in lead(compared, grid)


def test_a_map_of_probes_has_a_column_for_each_of_them(tmp_path):
    compared = probed_runs(tmp_path)
    (dead,) = layer_maps(compared, {compared.arms[0].label: Style(0)}, grid=step_grid(compared.runs))
    rows = dead.panels[0].rows
    assert len(rows) == len(PROBED) * len(LAYERS)
    assert {row[1] for row in rows} == set(PROBED)
    axes = drawn(dead.panels[0])
    assert axes.images[0].get_array().shape == (3, 2)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "36"]
    assert "A column is a measurement." in dead.caption


def test_a_point_without_neighbours_is_marked():
    axes = Canvas().add_subplot()
    draw_line(axes, np.arange(6), np.array([1.0, np.nan, 2.0, 3.0, np.nan, 4.0]))
    draw_line(axes, np.arange(3), np.array([1.0, np.nan, 2.0]), marked=True)
    assert [line.get_markevery() for line in axes.lines] == [[0, 5], [0, 2]]
