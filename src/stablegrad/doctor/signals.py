"""A run's own record as the doctor reads it: columns of numbers, finished games, and what was asked for.

Only files are read, so a run can be examined years later, while it is still training, or when it was written by
somebody else's code (`stablegrad.integrations`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stablegrad.runs.reading import read_config, read_status
from stablegrad.runs.series import Series, read_games, read_series

VALUES = ("losses/q_values", "losses/values")
TARGETS = ("losses/targets_mean", "losses/targets")


@dataclass(frozen=True)
class Signals:
    """One run. `series` is by metric name; `games` are the scores of finished training games, or None."""

    path: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    series: Mapping[str, Series]
    games: Series | None

    @classmethod
    def read(cls, path: Path) -> "Signals":
        """The record in a run's folder. UserError when there is none, or it has no readable config."""
        config = read_config(path)
        # Its arithmetic is in float64: what is squared here may leave float32.
        series = {name: Series(s.steps, s.values.astype(np.float64)) for name, s in read_series(path).items()}
        return cls(path, config, read_status(path), series, read_games(path))

    @property
    def last_step(self) -> int:
        """The last step that left a trace."""
        logged = [int(series.steps[-1]) for series in self.series.values()]
        return max([*logged, int(self.status.get("step", 0))], default=0)

    @property
    def budget(self) -> int:
        """The steps that the run was to make; those it made where its config does not say."""
        return int(self.config.get("total_timesteps") or self.last_step)

    @property
    def groups(self) -> tuple[str, ...]:
        """The parameter groups that the run's metrics are told apart by; none where it has a single one."""
        begins, ends = "gradients/raw/", ".total"
        return tuple(n[len(begins) : -len(ends)] for n in self.series if n.startswith(begins) and n.endswith(ends))

    def of_group(self, group: str) -> "Signals":
        """The same run with the metrics of one group alone, under the names that they have in a run with one group.

        What no group owns (losses, scores, the norm of the gradient of all) is left out.
        """
        begins, own = f"{group}.", {}
        for name, series in self.series.items():
            family, slash, last = name.rpartition("/")
            if last.startswith(begins):
                own[f"{family}{slash}{last.removeprefix(begins)}"] = series
        return replace(self, series=own)

    def get(self, *names: str) -> Series | None:
        """The first of these metrics that was logged, without what is not finite."""
        for name in names:
            if name in self.series:
                return self.series[name].finite()
        return None

    def layers(self, family: str) -> dict[str, Series]:
        """Layer -> series of a per-layer family (`gradients/raw`), in the order of the network."""
        prefix = f"{family}/"
        found = {
            name.removeprefix(prefix): series.finite()
            for name, series in self.series.items()
            if name.startswith(prefix)
        }
        return {layer: series for layer, series in found.items() if layer != "total" and series is not None}
