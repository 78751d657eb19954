"""Fixtures of small runs."""

from typing import Any

import pytest
from small_runs import SMALL, Crash, CrashAfter, StopAfter, never

from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.training.loop import Training


@pytest.fixture
def run(tmp_path):
    """Train `algo` with `settings` in a folder of its own; `stops` and `crashes` interrupt it, and it is resumed."""

    def train(
        algo: str,
        settings: dict[str, Any],
        *,
        stops: tuple[int, ...] = (),
        crashes: tuple[int, ...] = (),
        name: str = "run",
        interventions=(),
        observers=(),
    ):
        config = RunConfig.resolve(algo, {**SMALL, **settings})
        folder = RunFolder.create(tmp_path / name, config)
        train.made.append(folder.path)
        for stop in (*map(StopAfter, stops), *map(CrashAfter, crashes), never()):
            training = Training(config, interventions=interventions)
            try:
                training.attach(folder, observers)
                train.began.append(training.step)
                training.run(stop)
            except Crash:
                assert isinstance(stop, CrashAfter)
            finally:
                training.close()
        return folder

    train.made, train.began = [], []
    return train
