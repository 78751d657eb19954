"""Small supervised runs: their settings, ways to stop them, and what they end with."""

import os
from typing import Any

import torch

from stablegrad.runs import checkpoint
from stablegrad.runs.folder import RunFolder

SMALL = {
    "dataset": "digits",
    "subset": 200,
    "batch_size": 64,
    "cnn_type": "none",
    "mlp_width": 16,
    "mlp_depth": 1,
    "threads": int(os.environ["OMP_NUM_THREADS"]),
}


class StopAfter:
    """A stop request that comes after so many updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


def never() -> StopAfter:
    return StopAfter(10**9)


def final_state(folder: RunFolder) -> dict[str, Any]:
    """The newest checkpoint's state."""
    return checkpoint.load(checkpoint.paths(folder.checkpoints)[0])


def tensors_of(tree: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a state tree, by path."""
    if isinstance(tree, dict):
        return {k: v for key, node in tree.items() for k, v in tensors_of(node, f"{path}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for index, node in enumerate(tree) for k, v in tensors_of(node, f"{path}/{index}").items()}
    return {path: tree} if isinstance(tree, torch.Tensor) else {}


def identical(left: RunFolder, right: RunFolder) -> bool:
    """Whether two runs ended with the same bits: parameters, optimizer, generators."""
    ours, theirs = tensors_of(final_state(left)), tensors_of(final_state(right))
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)
