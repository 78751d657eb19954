"""What a sweep over changing tasks found: a small JSON file, and the two figures for the docs.

    python benchmarks/task_tables.py runs/plasticity_images --json benchmarks/results/plasticity_images.json \
        --figures docs/images --name plasticity
    python benchmarks/task_tables.py runs/changing_games --json benchmarks/results/changing_games.json

For every arm: the value of each task by seed, the mean over seeds with its 95 % bootstrap interval, the change from
first to last visit, the gap to fresh networks where they were run, and the median gradient norm over the rows of all
seeds. Figures (of runs on images): accuracy over the
updates with the change points, and the gradient norm by depth as boxes over all rows of all seeds.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stablegrad.reports.arms import Arm, Study, study
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.curves import band, return_curve, step_grid, window_of
from stablegrad.reports.figures import Figure, Panel, Style, save
from stablegrad.reports.final import curve_metric
from stablegrad.reports.lines import draw_band, steps_axis
from stablegrad.reports.load import Floats, load_runs
from stablegrad.reports.names import show
from stablegrad.reports.tasks import arms_on_tasks, change_steps, gaps, interval_of
from stablegrad.reports.theme import FAINT

NETWORKS = ("mlp_type", "use_ln")
GRADIENT = "gradients/raw/total"


def summary(values: Floats, rng: np.random.Generator) -> list[float]:
    """Mean, low and high over seeds [seeds]."""
    interval = interval_of(values, rng=rng)
    return [round(number, 4) for number in (interval.point, interval.low, interval.high)]


def tables(compared: Study, rng: np.random.Generator) -> dict[str, Any]:
    arms = arms_on_tasks(compared)
    behind = {gap.arm.label: gap for gap in gaps(arms)}
    found = {}
    for one in arms:
        entry: dict[str, Any] = {
            "seeds": list(one.results),
            "tasks": list(one.names),
            "mean, low, high": [summary(column, rng) for column in one.final.T],
            "values": np.round(one.final, 4).tolist(),
            "area under the curve, mean": np.round(one.area.mean(axis=0), 4).tolist(),
        }
        if norms := gradient_norms(one.arm):
            entry["gradient norm before clipping, median"] = round(float(np.median(np.concatenate(norms))), 3)
        if len(one.change()):
            entry["change"] = summary(one.change(), rng)
        if one.arm.label in behind:
            gap = behind[one.arm.label]
            entry["gap to fresh networks"] = [summary(column, rng) for column in gap.final.T]
            entry["gap, tasks 2 on"] = summary(gap.final[:, 1:].mean(axis=1), rng)
        found[one.arm.label] = entry
    return found


def gradient_norms(arm: Arm) -> list[Floats]:
    """Of every finished run, the norms of all its rows."""
    return [run.series[GRADIENT].values for run in arm.runs if run.state == "done" and GRADIENT in run.series]


def put(drawn: dict[str, Any], name: str, what: Any) -> None:
    """Refuse a second arm of the same name: the figures tell arms apart by network, optimizer and depth alone."""
    if name in drawn:
        raise SystemExit(f"two arms are both {name.splitlines()} here, so they differ in something that is not drawn")
    drawn[name] = what


def network_of(arm: Arm) -> str:
    return ", ".join(show(key, arm.runs[0].config[key]) for key in NETWORKS)


def accuracy_figure(compared: Study, name: str, rng: np.random.Generator) -> Figure:
    """Panels: optimizer and depth. Lines: networks."""
    metric, grid = curve_metric(compared.runs), step_grid(compared.runs)
    arms = [arm for arm in compared.arms if not arm.runs[0].config.get("fresh_networks")]
    networks = sorted({network_of(arm) for arm in arms})
    changes = sorted({step for arm in arms for run in arm.runs for step in change_steps(run)})
    panels = []
    for optimizer, depth in dict.fromkeys((a.runs[0].config["optimizer"], a.runs[0].config["mlp_depth"]) for a in arms):
        here = [a for a in arms if (a.runs[0].config["optimizer"], a.runs[0].config["mlp_depth"]) == (optimizer, depth)]
        lines: dict[str, Interval] = {}
        for arm in here:
            done = [run for run in arm.runs if run.state == "done"]
            if done:
                window = window_of(done, float(grid[1]))
                curves = np.stack([return_curve(run, metric, grid, window=window) for run in done])
                put(lines, network_of(arm), band(curves[:, None, :], rng=rng))
        draw = partial(draw_curves, grid=grid, lines=lines, networks=networks, changes=changes)
        rows = [(n, int(x), float(y)) for n, i in lines.items() for x, y in zip(grid, i.point, strict=True)]
        panels.append(Panel(f"{show('optimizer', optimizer)}, depth {depth}", draw, rows))
    legend = [(network, Style(place)) for place, network in enumerate(networks)]
    return Figure(f"{name}_accuracy", "Accuracy over updates", "", ("network", "step", metric), panels, legend)


def draw_curves(axes: Axes, *, grid: Any, lines: Any, networks: Sequence[str], changes: Sequence[int]) -> None:
    for network, interval in lines.items():
        draw_band(axes, grid, interval, Style(networks.index(network)))
    for step in changes:
        axes.axvline(step, color=FAINT, linewidth=0.7, linestyle=":", zorder=1)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("training accuracy")
    steps_axis(axes, grid)


def gradient_figure(compared: Study, name: str) -> Figure:
    """Panels: networks. Boxes: optimizer and depth, over all rows of all seeds."""
    arms = [arm for arm in compared.arms if not arm.runs[0].config.get("fresh_networks")]
    panels = []
    for network in sorted({network_of(arm) for arm in arms}):
        boxes: dict[str, Floats] = {}
        for arm in (arm for arm in arms if network_of(arm) == network):
            if norms := gradient_norms(arm):
                config = arm.runs[0].config
                label = f"{show('optimizer', config['optimizer'])}\n{config['mlp_depth']}"
                put(boxes, label, np.concatenate(norms))
        shares = {label.replace("\n", ", "): np.percentile(v, (5, 25, 50, 75, 95)) for label, v in boxes.items()}
        rows = [(label, *map(float, marks)) for label, marks in shares.items()]
        panels.append(Panel(network, partial(draw_boxes, boxes=boxes), rows))
    columns = ("arm", "5 %", "25 %", "median", "75 %", "95 %")
    return Figure(f"{name}_gradients", "Gradient norm by depth", "", columns, panels)


def draw_boxes(axes: Axes, *, boxes: dict[str, Floats]) -> None:
    axes.boxplot(list(boxes.values()), tick_labels=list(boxes), whis=(5, 95), showfliers=False)
    axes.set_yscale("log")
    axes.set_ylim(0.05, 50)
    axes.set_ylabel("norm of the gradient")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--name", default="plasticity")
    args = parser.parse_args()
    compared, rng = study([run for run in load_runs([args.runs]) if run.state == "done"]), np.random.default_rng(0)
    found = tables(compared, rng)
    for label, entry in found.items():
        print(label, entry["seeds"], entry["mean, low, high"], entry.get("change"), entry.get("gap, tasks 2 on"))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.figures:
        for figure in (accuracy_figure(compared, args.name, rng), gradient_figure(compared, args.name)):
            for path in save(figure, args.figures):
                if path.suffix != ".png":
                    path.unlink()


if __name__ == "__main__":
    main()
