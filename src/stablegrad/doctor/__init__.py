"""The doctor: reads a run's folder and says in words what is wrong, how sure that is, and what to try. Torch-free."""

from stablegrad.doctor.compare import Comparison, compare
from stablegrad.doctor.examine import DETECTORS, examine, judge
from stablegrad.doctor.findings import Examination, Finding
from stablegrad.doctor.illnesses import Illness, illness, illnesses
from stablegrad.doctor.signals import Signals

__all__ = [
    "DETECTORS",
    "Comparison",
    "Examination",
    "Finding",
    "Illness",
    "Signals",
    "compare",
    "examine",
    "illness",
    "illnesses",
    "judge",
]
