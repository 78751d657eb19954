"""One look at anybody's network: all probes, in words, as a dict, a table or a page."""

import html
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import nn

from stablegrad.diagnostics import battery
from stablegrad.diagnostics.capacity import capacity
from stablegrad.diagnostics.catalogue import entry
from stablegrad.diagnostics.inputs import as_one
from stablegrad.diagnostics.loss import LossFn, closure
from stablegrad.diagnostics.remarks import Remark, remarks


@dataclass(frozen=True)
class Diagnosis:
    """What the probes found. `metrics` go by catalogue name (`stablegrad explain NAME` defines each).

    `print(diagnosis)` shows all of it; rich renders it too.
    """

    network: str
    parameters: int
    inputs: int
    metrics: dict[str, float]
    remarks: tuple[Remark, ...]

    @property
    def layers(self) -> dict[str, dict[str, float]]:
        """Layer -> what was measured of it, by the metric's name without the layer (`units/dead`)."""
        table: dict[str, dict[str, float]] = {}
        for name, value in self.metrics.items():
            prefix, found, _ = entry(name).name.partition("/{layer}")
            if found:
                table.setdefault(name.removeprefix(f"{prefix}/"), {})[prefix] = value
        return table

    @property
    def summary(self) -> dict[str, float]:
        """The metrics of the whole network, without those of single layers and the spectrum."""
        return {name: value for name, value in self.metrics.items() if "{" not in entry(name).name}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as a tree of dicts, lists, strings and numbers."""
        return asdict(self) | {"remarks": [asdict(remark) for remark in self.remarks]}

    def table(self) -> Table:
        """The metrics of the whole network as a rich table: name, value, unit, healthy direction."""
        table = Table(title=self._title)
        for column in ("metric", "value", "unit", "healthy"):
            table.add_column(column, justify="right" if column == "value" else "left")
        for name, value in self.summary.items():
            table.add_row(name, f"{value:.4g}", entry(name).unit, entry(name).healthy)
        return table

    def layer_table(self) -> Table:
        """What was measured of single layers as a rich table, one layer a row."""
        table = Table("layer", title="By layer")
        for column in self._columns:
            table.add_column(column, justify="right")
        for layer, values in self.layers.items():
            table.add_row(layer, *self._cells(values))
        return table

    def to_html(self) -> str:
        """A self-contained page: remarks, the whole network, every layer; light and dark."""
        said = "".join(f'<li class="{one.severity}">{html.escape(one.text)}</li>' for one in self.remarks)
        whole = _rows(
            (name, f"{value:.4g}", entry(name).unit, entry(name).healthy, entry(name).definition)
            for name, value in self.summary.items()
        )
        layers = _rows((layer, *self._cells(values)) for layer, values in self.layers.items())
        heads = "".join(f"<th>{html.escape(column)}</th>" for column in self._columns)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(self.network)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style></head><body><h1>{html.escape(self._title)}</h1>"
            f"<ul>{said or '<li>Nothing stands out.</li>'}</ul>"
            "<div><table><thead><tr><th>metric</th><th>value</th><th>unit</th><th>healthy</th><th>what it is</th></tr>"
            f"</thead><tbody>{whole}</tbody></table></div>"
            f"<h2>By layer</h2><div><table><thead><tr><th>layer</th>{heads}</tr></thead>"
            f"<tbody>{layers}</tbody></table></div></body></html>\n"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.table()
        yield self.layer_table()
        for remark in self.remarks:
            yield f"{remark.severity}: {remark.text}"
        if not self.remarks:
            yield "Nothing stands out."

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=120)
        console.print(self, markup=False)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    @property
    def _title(self) -> str:
        return f"{self.network}: {self.parameters:,} parameters, {self.inputs} inputs"

    @property
    def _columns(self) -> list[str]:
        return list(dict.fromkeys(column for values in self.layers.values() for column in values))

    def _cells(self, values: dict[str, float]) -> list[str]:
        return [f"{values[column]:.3g}" if column in values else "" for column in self._columns]


def diagnose(
    module: nn.Module,
    batch: Any,
    *,
    loss_fn: LossFn | None = None,
    halves: tuple[LossFn, LossFn] | None = None,
    before: nn.Module | None = None,
    generator: torch.Generator | None = None,
    group: str | None = None,
    capacity_budget: int = 0,
) -> Diagnosis:
    """Look at any `nn.Module` on a batch: a tensor `[N, *]`, a tuple of its arguments, or a dict. Nothing changes.

    Always: units, ranks and likeness of the features, weight norms, the tangent kernel. With `loss_fn` (of the
    module's outputs on `batch`, or of nothing): gradients, GraMa, and the curvature of the loss, of `group` alone if
    one is named. With `halves`, the same loss on the two halves of the batch as functions of nothing: the angle
    between their gradients and the gradient noise scale. With `before`, the network of a moment ago: churn. With a
    `capacity_budget` in optimizer steps: how long a copy needs to fit random targets. A few hundred inputs are a good
    batch. Raises UserError when `batch` is no batch, or `group` names no parameters.
    """
    loss = None if loss_fn is None else closure(module, batch, loss_fn)
    looked_at, inputs = as_one(module, batch)
    found = battery.of_network(looked_at, inputs)
    if any(parameter.requires_grad for parameter in module.parameters()):
        found |= battery.of_tangents(looked_at, inputs[: battery.NTK_INPUTS])
    if loss is not None:
        found |= battery.of_gradients(looked_at, loss) | battery.of_loss(looked_at, loss, rows=len(inputs))
        found |= battery.of_curvature(looked_at, loss, module, generator, rows=len(inputs), group=group)
    if halves is not None:
        first, second = (closure(module, batch, half) for half in halves)
        found |= battery.of_halves(looked_at, first, second, batch_size=len(inputs))
    if before is not None:
        found |= battery.of_change(as_one(before, batch)[0], looked_at, inputs)
    if capacity_budget:
        fit = capacity(looked_at, inputs, budget=capacity_budget, generator=generator)
        found |= {"features/capacity_steps": float(fit.steps), "features/capacity_error": fit.error}
    metrics = {name.replace("/inner.", "/"): value for name, value in battery.fetch(found).items()}
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Diagnosis(type(module).__name__, parameters, len(inputs), metrics, remarks(metrics))


def _rows(rows: Iterator[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "".join(f"<tr>{row}</tr>" for row in cells)


_STYLE = (
    ":root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}"
    "body{max-width:72rem;margin:2rem auto;padding:0 1rem}div{overflow-x:auto}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #8884}"
    "li.warning::marker{content:'\\26A0\\00A0 '}"
)
