"""Whether an agent survives the real loop: stopped anywhere and resumed, it must end with the same bits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stablegrad.agents.contract import Check, same
from stablegrad.errors import UserError
from stablegrad.runs import checkpoint
from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.training.loop import Training
from stablegrad.training.stop import StopRequest

_SHOWN = 5


class StopAfter(StopRequest):
    """A request to stop that comes after a number of vector steps; None: never."""

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self._left = steps

    def __bool__(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


def check_resume(config: RunConfig) -> Check:
    """Trains twice to the end of `config`: in one go, and stopped three times on the way."""
    assert config.budget is not None
    vector_steps = config.budget.total_timesteps // config.budget.num_envs
    # Checkpoints are written by stopping only: a run that is not stopped must not gain from any.
    config = replace(config, run=replace(config.run, checkpoint_every=10**12))
    stops = np.random.default_rng(config.run.seed).integers(1, max(2, vector_steps // 4), 3).tolist()
    with TemporaryDirectory() as folder:
        try:
            whole = _trained(config, Path(folder) / "whole", [])
            pieces = _trained(config, Path(folder) / "pieces", stops)
        except UserError as error:
            return _NAME, [f"its state cannot be stored: {error}"]
    different = list(differences(whole, pieces, ""))
    problems = [f"{path} differs from that of a run that was not stopped" for path in different[:_SHOWN]]
    if len(different) > _SHOWN:
        problems.append(f"… and {len(different) - _SHOWN} more; what is missing from state_dict() starts such a chain")
    return _NAME, problems


_NAME = "stopped three times and resumed, a run ends with the same bits"


def _trained(config: RunConfig, path: Path, stops: list[int]) -> dict[str, Any]:
    """The agent's and the optimizers' final states."""
    folder = RunFolder.create(path, config)
    for stop in (*stops, None):
        training = Training(config)
        try:
            training.attach(folder)
            training.run(StopAfter(stop))
        finally:
            training.close()
    newest = checkpoint.load_newest(folder.checkpoints, warn=lambda problem: None)
    assert newest is not None
    return {part: newest.state[part] for part in ("agent", "learner")}


def differences(one: Any, other: Any, path: str) -> Iterator[str]:
    """Where two state trees differ, as paths."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), f"{path}/{key}" if path else str(key))
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{path}/{index}")
    elif not same(one, other):
        yield path
