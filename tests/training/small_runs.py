"""Small runs, in process: configurations, and ways of stopping them."""

from typing import Any

import torch

from stablegrad.runs import checkpoint
from stablegrad.runs.folder import RunFolder
from stablegrad.training.contract import StopAfter, differences

SMALL = {"mlp_width": 16, "mlp_depth": 1, "threads": 1, "log_every": 64, "diagnostics_batch": 32}
PQN = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "end_e": 0.1}
PPO = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "update_epochs": 2}
# A replay that comes around: its oldest transitions are overwritten long before the end.
DQN = {"num_envs": 4, "buffer_size": 120, "batch_size": 8, "learning_starts": 32, "target_network_frequency": 48}
RAINBOW = {**DQN, "n_atoms": 11, "train_frequency": 8}
TINY_ATARI = {"env_id": "Pong-v5", "cnn_size": 2, "buffer_size": 80, "train_frequency": 8, "max_episode_steps": 25}


class Crash(Exception):
    """The process ended here, and nobody wrote a checkpoint."""


class CrashAfter(StopAfter):
    """No request: after `polls` steps the loop is torn out of."""

    def __bool__(self) -> bool:
        if super().__bool__():
            raise Crash
        return False


def never() -> StopAfter:
    return StopAfter(None)


def final_state(folder: RunFolder) -> dict[str, Any]:
    return checkpoint.load(checkpoint.paths(folder.checkpoints)[0])


def tensors_of(tree: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Every tensor and array of a state tree, by path."""
    if isinstance(tree, dict):
        return {k: v for key, node in tree.items() for k, v in tensors_of(node, f"{prefix}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for i, node in enumerate(tree) for k, v in tensors_of(node, f"{prefix}/{i}").items()}
    data = getattr(tree, "data", None) if type(tree).__name__ == "Segment" else tree
    if isinstance(data, torch.Tensor):
        return {prefix: data}
    if hasattr(data, "dtype"):
        return {prefix: torch.from_numpy(data)}
    return {}


def assert_identical(a: RunFolder, b: RunFolder) -> None:
    """Both runs ended with the same bits: parameters, optimizer, generators, environments, storage, means of rows."""
    first, second = final_state(a), final_state(b)
    for part in ("step", "agent", "learner", "envs"):
        assert list(differences(first[part], second[part], part)) == []
    assert list(differences(first["recorder"]["means"], second["recorder"]["means"], "means")) == []
