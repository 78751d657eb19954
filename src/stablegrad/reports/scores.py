"""Human-normalised scores and game suites, as reports use them (the data lies in `stablegrad.tables`)."""

from stablegrad.tables.scores import HNS_TABLE, Reference, human_normalized, reference_scores
from stablegrad.tables.suites import RELATIVE_ERROR, SUITES, predicted_median, suite


def hns_table_name() -> str:
    """The name of the table behind `human_normalized`; it stands beside every human-normalised number."""
    return HNS_TABLE


__all__ = [
    "HNS_TABLE",
    "RELATIVE_ERROR",
    "SUITES",
    "Reference",
    "hns_table_name",
    "human_normalized",
    "predicted_median",
    "reference_scores",
    "suite",
]
