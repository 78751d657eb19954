"""One examination: every detector over a run's signals, the findings most serious first."""

from collections.abc import Callable, Mapping
from pathlib import Path

from stablegrad.doctor import gradients, learning, network
from stablegrad.doctor.findings import SEVERITIES, Examination, Finding
from stablegrad.doctor.illnesses import Illness, illnesses
from stablegrad.doctor.signals import Signals

Detector = Callable[[Signals, Illness], Finding | None]
"""Pure: the signals of a run and the thresholds of one illness give a finding, or none."""

DETECTORS: Mapping[str, Detector] = {
    "failed": learning.failed,
    "value_divergence": learning.divergence,
    "exploding_gradients": gradients.exploding,
    "vanishing_gradients": gradients.vanishing,
    "frozen_layers": gradients.frozen,
    "steps_too_large": gradients.too_large,
    "dead_units": network.dead,
    "growing_dormancy": network.dormancy,
    "rank_collapse": network.rank,
    "churn_spikes": network.churn,
    "flat_curvature": network.curvature,
    "no_learning": learning.never_learned,
    "learning_stopped": learning.stopped,
}
"""By illness; findings of equal severity keep this order, causes before effects."""


def examine(run: str | Path) -> Examination:
    """Everything the doctor says of the run in a folder. UserError when it is not one."""
    return judge(Signals.read(Path(run)))


def judge(signals: Signals) -> Examination:
    """Everything the doctor says of a run's signals."""
    known = illnesses()
    found = [finding for name, detect in DETECTORS.items() if (finding := detect(signals, known[name])) is not None]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    unseen = tuple(name for name in DETECTORS if not _can_see(signals, known[name]))
    return Examination(signals, tuple(found), unseen)


def _can_see(signals: Signals, illness: Illness) -> bool:
    """Whether the run logged what the illness is seen by; `a|b` is satisfied by either."""
    for need in illness.needs:
        seen = [
            bool(signals.layers(name.removesuffix("/{layer}"))) if name.endswith("/{layer}") else name in signals.series
            for name in need.split("|")
        ]
        if not any(seen):
            return False
    return True
