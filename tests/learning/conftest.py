"""Whole runs on tiny problems, in process."""

from pathlib import Path
from typing import Any

import pytest

from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.training.loop import Training

HERE = Path(__file__).parent


@pytest.fixture
def trained(tmp_path):
    """Train to the end and return the agent; names of the files here may stand for their paths."""

    def train(algo: str, settings: dict[str, Any], *, env: str | None = None) -> Any:
        given = {"total_timesteps": 4000, **settings}
        if env is not None:
            given["env_id"] = f"{HERE}/tiny_envs.py:{env}"
        config = RunConfig.resolve(f"{HERE}/{algo}" if ".py:" in algo else algo, given)
        training = Training(config)
        try:
            training.attach(RunFolder.create(tmp_path / config.name, config))
            training.run(False)
        finally:
            training.close()
        return training.agent

    return train
