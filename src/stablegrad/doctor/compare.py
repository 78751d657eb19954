"""Two runs side by side: how they were made, what the doctor says of one and not of the other, and the figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablegrad.doctor.examine import examine
from stablegrad.doctor.findings import Examination
from stablegrad.doctor.reading import late, median
from stablegrad.doctor.signals import TARGETS, VALUES, Signals

_NOT_A_CHOICE = frozenset({"seed", "threads", "track", "run_dir", "checkpoint_every", "keep_checkpoints"})

FIGURES: Mapping[str, tuple[str, ...]] = {
    "score of training games": ("train/episode_return",),
    "score in evaluation": ("eval/episode_return",),
    "values": VALUES,
    "targets": TARGETS,
    "gradient norm": ("gradients/raw/total",),
    "weight norm": ("weights/norm/total",),
    "dead units": ("units/dead/total",),
    "dormant units": ("units/dormant/total",),
    "effective rank": ("ranks/effective_rank",),
    "cosine between features": ("features/cosine",),
    "policy churn": ("churn/policy",),
    "Hessian trace": ("curvature/hessian_trace",),
    "steps per second": ("time/steps_per_second",),
}
"""What is set side by side: a label, and the metric (or the first of them that was logged)."""


@dataclass(frozen=True)
class Comparison:
    """`settings` and `figures` are by name, (first, second); figures are medians over the last quarter of each run."""

    first: Examination
    second: Examination
    settings: dict[str, tuple[Any, Any]]
    figures: dict[str, tuple[float | None, float | None]]

    @property
    def only(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the findings that just one of the two has."""
        names = [[finding.name for finding in one.findings] for one in (self.first, self.second)]
        alone = [tuple(name for name in names[i] if name not in names[1 - i]) for i in (0, 1)]
        return alone[0], alone[1]

    def record(self) -> dict[str, Any]:
        only_first, only_second = self.only
        return {
            "runs": [self.first.record(), self.second.record()],
            "only_in_first": list(only_first),
            "only_in_second": list(only_second),
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "figures": {name: list(pair) for name, pair in self.figures.items()},
        }


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Examine two runs and set them side by side. UserError when one of them is not a run."""
    one, two = examine(first), examine(second)
    a, b = one.signals, two.signals
    settings = {
        name: (a.config.get(name), b.config.get(name))
        for name in dict.fromkeys([*a.config, *b.config])
        if name not in _NOT_A_CHOICE and a.config.get(name) != b.config.get(name)
    }
    pairs = {label: (_figure(a, names), _figure(b, names)) for label, names in FIGURES.items()}
    return Comparison(one, two, settings, {label: pair for label, pair in pairs.items() if pair != (None, None)})


def _figure(signals: Signals, names: tuple[str, ...]) -> float | None:
    series = signals.get(*names)
    return None if series is None else median(late(signals, series, share=0.25))
