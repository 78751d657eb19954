"""What a run writes while it trains: rows of metrics, finished games, evaluations; and who watches it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from stablegrad.diagnostics import battery
from stablegrad.diagnostics.catalogue import of_group
from stablegrad.envs.base import EpisodeEnd
from stablegrad.errors import UserError
from stablegrad.runs.files import LineWriter
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.records import SharedLines
from stablegrad.training.learner import UpdateReport

log = logging.getLogger("stablegrad")


@runtime_checkable
class Observer(Protocol):
    """Somebody who watches a run: a progress bar, a tracker. It must not raise; `Recorder` drops one that does."""

    def on_row(self, row: Mapping[str, Any]) -> None:
        """A row was written to metrics.jsonl."""

    def on_progress(self, step: int, total: int) -> None:
        """The run has made `step` of `total` steps."""

    def close(self) -> None:
        """The run has ended or stopped."""


class EachRow:
    """A plain function as an observer: called with every row."""

    def __init__(self, function: Callable[[Mapping[str, Any]], Any]) -> None:
        self.on_row = function

    def on_progress(self, step: int, total: int) -> None:
        """It is told of rows alone."""

    def close(self) -> None:
        """A function holds nothing."""


Watcher = Observer | Callable[[Mapping[str, Any]], Any]
"""An observer, or a function that is called with every row."""


def as_observer(given: Watcher) -> Observer:
    """An observer as it is, a function as one. UserError for anything else."""
    if isinstance(given, Observer):
        return given
    if callable(given):
        return EachRow(given)
    raise UserError(f"an observer is a function of a row, or has on_row, on_progress and close; this is {given!r}")


class Means:
    """Running means by name, kept on the device until they are read: one host synchronisation a row."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int | Tensor] = {}

    def add(self, values: Mapping[str, Tensor | float], *, where: Tensor | None = None) -> None:
        """Another value of each name; of vectors, only the entries `where` is true, if it is given."""
        for name, value in values.items():
            value = torch.as_tensor(value, dtype=torch.float32).detach()
            counted = 1 if where is None else where.int()
            if where is not None:
                value = torch.where(where, value, 0.0)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + counted

    def take(self) -> dict[str, float | list[float | None]]:
        """The means since the last call: a float for a scalar, a list for a vector; None for an entry without any."""
        means: dict[str, float | list[float | None]] = {}
        for name, total in self.sums.items():
            count = self.counts[name]
            values = (total / count).tolist()
            if isinstance(count, Tensor):
                values = [value if n else None for value, n in zip(values, count.tolist(), strict=True)]
            means[name] = values
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = {
            name: count.to(device) if isinstance(count, Tensor) else count for name, count in state["counts"].items()
        }


class Recorder:
    """Collects what happened since the last row, writes rows, and tells observers."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        layers: Sequence[str],
        normalise: Callable[[float], float] | None,
        observers: Iterable[Observer] = (),
    ) -> None:
        self.layers = tuple(layers)
        self._normalise = normalise
        self._observers = list(observers)
        self._metrics = LineWriter(folder.metrics)
        self._episodes = LineWriter(folder.episodes)
        self._evaluations = SharedLines(folder.evaluations)
        self._means = Means()
        self._latest: dict[str, float] = {}
        self._scores: list[float] = []
        self._lengths: list[int] = []

    def episodes(self, step: int, ends: Iterable[EpisodeEnd], *, task: int | None = None) -> None:
        """Whole games that ended: each is a line of episodes.jsonl, their mean a metric of the next row.

        `task` (from 1) is what they were games of, where a schedule changes them.
        """
        of_task = {} if task is None else {"task": task}
        for end in ends:
            line = {"step": step, "env": end.env, "score": end.score, "length": end.length}
            self._episodes.write({**line, **of_task})
            self._scores.append(end.score)
            self._lengths.append(end.length)

    def update(self, report: UpdateReport, *, layers: bool) -> None:
        """One update of the learner; `layers` adds the gradient norms of every layer."""
        self._means.add(
            {"losses/loss": report.output.loss, **report.output.metrics, "gradients/raw/total": report.total}
        )
        if report.left_out or len(report.totals) > 1:
            self._means.add({of_group("gradients/raw/total", group): norm for group, norm in report.totals.items()})
        if layers:
            self._means.add({f"gradients/{point}": norms for point, norms in report.norms.items()}, where=report.part)
            if report.weights is not None:
                share, steps = battery.of_update(report.norms, report.weights, part=report.part)
                self._means.add({"gradients/below_median_share": share})
                self._means.add({"gradients/update_to_weight": steps}, where=report.part)
            if report.cosines is not None:
                self._means.add({"gradients/cosine_successive": report.cosines}, where=report.compared)

    def probes(self, values: Mapping[str, float]) -> None:
        """Results of probes: they stand in the next row."""
        self._latest.update(values)

    def evaluation(self, step: int, record: Mapping[str, Any], summary: Mapping[str, float]) -> None:
        """An evaluation: a line of evaluations.jsonl, and its mean in the next row."""
        self._evaluations.write({"step": step, **record})
        self._latest["eval/episode_return"] = summary["mean"]
        if self._normalise is not None:
            self._latest["eval/hns"] = self._normalise(summary["mean"])

    def row(self, head: Mapping[str, float], metrics: Mapping[str, float]) -> None:
        """Write a row: `head` (step, update, seconds), what was collected, and `metrics`."""
        row: dict[str, Any] = {**head, **metrics}
        if self._scores:
            row["train/episode_return"] = sum(self._scores) / len(self._scores)
            row["train/episode_length"] = sum(self._lengths) / len(self._lengths)
            if self._normalise is not None:
                row["train/hns"] = self._normalise(row["train/episode_return"])
        row["train/episodes"] = len(self._scores)
        for name, value in self._means.take().items():
            if isinstance(value, list):
                of_layers = zip(self.layers, value, strict=True)
                row.update({f"{name}/{layer}": norm for layer, norm in of_layers if norm is not None})
            else:
                row[name] = value
        row.update(self._latest)
        self._latest, self._scores, self._lengths = {}, [], []
        self._metrics.write(row)
        self._tell("on_row", row)

    def progress(self, step: int, total: int) -> None:
        self._tell("on_progress", step, total)

    def close(self) -> None:
        self._tell("close")
        for writer in (self._metrics, self._episodes):
            writer.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "cursors": [writer.cursor() for writer in (self._metrics, self._episodes, self._evaluations)],
            "means": self._means.state_dict(),
            "latest": dict(self._latest),
            "scores": list(self._scores),
            "lengths": list(self._lengths),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take over a state. The files have been let end where it says (`records.rewind`)."""
        self._means.load_state_dict(state["means"], device)
        self._latest = dict(state["latest"])
        self._scores, self._lengths = list(state["scores"]), list(state["lengths"])

    def _tell(self, what: str, *values: Any) -> None:
        for observer in list(self._observers):
            try:
                getattr(observer, what)(*values)
            except Exception as error:  # noqa: BLE001 - a watcher is somebody else's code and must not end a run
                log.warning("%s failed and is no longer told anything: %s", type(observer).__name__, error)
                self._observers.remove(observer)
