"""One examination: every detector over a run's signals, the findings most serious first."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from stablegrad.diagnostics.catalogue import of_group
from stablegrad.doctor import gradients, learning, network
from stablegrad.doctor.findings import SEVERITIES, Examination, Finding
from stablegrad.doctor.illnesses import Illness, illnesses
from stablegrad.doctor.signals import Signals

Detector = Callable[[Signals, Illness], Finding | None]
"""Pure: the signals of a run and the thresholds of one illness give a finding, or none."""

OF_A_NETWORK = frozenset(
    {
        "exploding_gradients",
        "vanishing_gradients",
        "frozen_layers",
        "steps_too_large",
        "dead_units",
        "growing_dormancy",
        "rank_collapse",
        "churn_spikes",
        "flat_curvature",
    }
)
"""Illnesses of one network, which each parameter group of several may have; the others are of the run."""

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
    known, found, unseen = illnesses(), list[Finding](), list[str]()
    networks = {group: signals.of_group(group) for group in signals.groups}
    for name, detect in DETECTORS.items():
        parts = networks if networks and name in OF_A_NETWORK else {}
        for group, own in parts.items():
            if (finding := detect(own, known[name])) is not None:
                found.append(_in_group(finding, group))
        if (finding := detect(signals, known[name]) if not parts else None) is not None:
            found.append(finding)
        if not any(_can_see(part, known[name]) for part in parts.values() or [signals]):
            unseen.append(name)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Examination(signals, tuple(found), tuple(unseen))


def _in_group(finding: Finding, group: str) -> Finding:
    """A finding about one group's network, told so, with the names that the record has."""
    return replace(
        finding,
        summary=f"{group}: {finding.summary}",
        layers=tuple(f"{group}.{layer}" for layer in finding.layers),
        picture=None
        if finding.picture is None
        else replace(finding.picture, metric=of_group(finding.picture.metric, group)),
    )


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
