"""What the doctor says: findings, each with its evidence, how sure it is, and what to try."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stablegrad.doctor.illnesses import Illness, Remedy
from stablegrad.doctor.signals import Signals

Severity = Literal["critical", "warning", "info"]
"""critical: the run's result cannot be used. warning: something is ill. info: worth knowing, no accusation."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Most serious first."""


@dataclass(frozen=True)
class Picture:
    """A curve to look at: one metric's `values` at `steps`; `log` where it spans orders of magnitude."""

    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    `since` is the first step from which on at least three quarters of the evidence is ill. `layers` are the layers
    concerned, if any. `evidence` holds the numbers that the sentence in `summary` rests on, with the thresholds they
    were held against. `confidence`, in (0, 1), is Laplace's rule of succession over the rows looked at, unless the
    detector says otherwise.
    """

    illness: Illness
    severity: Severity
    summary: str
    confidence: float
    evidence: Mapping[str, float | str]
    since: int | None = None
    layers: tuple[str, ...] = ()
    picture: Picture | None = None

    @property
    def name(self) -> str:
        return self.illness.name

    def advice(self, config: Mapping[str, Any]) -> list[tuple[str, Remedy]]:
        """What to try, as flags, for a run with this config: what it has already is left out."""
        return [(flags, remedy) for remedy in self.illness.remedies if (flags := remedy.advice(config)) is not None]

    def record(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """As data: what `--json` prints and a report is given."""
        return {
            "name": self.illness.title,
            "id": self.name,
            "severity": self.severity,
            "summary": self.summary,
            "since": self.since,
            "layers": list(self.layers),
            "confidence": round(self.confidence, 3),
            "evidence": {label: _finite(value) for label, value in self.evidence.items()},
            "picture": None if self.picture is None else vars(self.picture),
            "remedies": [
                {"flags": flags, "why": remedy.why, "shown": remedy.shown, "source": remedy.source}
                for flags, remedy in self.advice(config)
            ],
        }


@dataclass(frozen=True, repr=False)
class Examination:
    """Everything the doctor says of one run, most serious first. `not_looked_at` names what the run did not log."""

    signals: Signals
    findings: tuple[Finding, ...]
    not_looked_at: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong: remarks are no illness."""
        return all(finding.severity == "info" for finding in self.findings)

    def __str__(self) -> str:
        """The findings in words, a line each, and under each what to try."""
        if not self.findings:
            return "Nothing is wrong, as far as what was logged tells."
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.severity}: {finding.illness.title}. {finding.summary}")
            lines += [f"  try {option}: {remedy.why}" for option, remedy in finding.advice(self.signals.config)]
        return "\n".join(lines)

    __repr__ = __str__

    def records(self) -> list[dict[str, Any]]:
        """The findings as data, as `reports.report.write_report(findings=…)` takes them."""
        return [finding.record(self.signals.config) for finding in self.findings]

    def record(self) -> dict[str, Any]:
        return {
            "run": str(self.signals.path),
            "step": self.signals.last_step,
            "healthy": self.healthy,
            "findings": self.records(),
            "not_looked_at": list(self.not_looked_at),
        }


def succession(ill: int, rows: int) -> float:
    """Laplace's rule of succession: how likely the next row is ill as well, after `ill` of `rows` were."""
    return (ill + 1) / (rows + 2)


def _finite(value: float | str) -> float | str:
    """JSON has no infinity and no NaN."""
    return value if isinstance(value, str) or math.isfinite(value) else str(value)
