"""State trees on disk: dicts, lists, numbers, strings and None in JSON; tensors and arrays beside it. No pickle.

`encode` takes a tree apart into a JSON-ready skeleton and its arrays; `decode` puts it together again, bit for
bit. Leaves of type `Segment` stay apart, so that a checkpoint can share those that did not change.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stablegrad.replay.segments import Segment

_MARK = "__leaf__"


class Encoded(NamedTuple):
    """`skeleton` is JSON-ready; `tensors` and `segments` are keyed by the names that the skeleton refers to."""

    skeleton: Any
    tensors: dict[str, Tensor]
    segments: dict[str, Segment]


def encode(tree: Any) -> Encoded:
    """Take `tree` apart. TypeError names the path of a leaf that cannot be stored."""
    tensors: dict[str, Tensor] = {}
    segments: dict[str, Segment] = {}

    def visit(node: Any, path: str) -> Any:
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, Tensor):
            tensors[path] = node.detach().to("cpu", copy=True).contiguous()
            return {_MARK: "tensor", "key": path}
        if isinstance(node, np.ndarray):
            tensors[path] = torch.from_numpy(np.array(node, copy=True, order="C"))
            return {_MARK: "array", "key": path}
        if isinstance(node, np.generic):
            return node.item()
        if isinstance(node, Segment):
            segments[node.key] = node
            return {_MARK: "segment", "key": node.key, "version": node.version}
        if isinstance(node, Mapping):
            if all(isinstance(key, str) for key in node) and _MARK not in node:
                return {key: visit(value, f"{path}/{key}") for key, value in node.items()}
            pairs = [[visit(k, f"{path}/k{i}"), visit(v, f"{path}/{k}")] for i, (k, v) in enumerate(node.items())]
            return {_MARK: "items", "items": pairs}
        if isinstance(node, tuple):
            return {_MARK: "tuple", "items": [visit(value, f"{path}/{i}") for i, value in enumerate(node)]}
        if isinstance(node, list):
            return [visit(value, f"{path}/{i}") for i, value in enumerate(node)]
        raise TypeError(f"cannot store {type(node).__name__} at {path or '/'}")

    return Encoded(visit(tree, ""), tensors, segments)


def decode(skeleton: Any, tensors: Mapping[str, Tensor], segments: Mapping[str, Segment]) -> Any:
    """The tree that `encode` took apart. Tensors come back on the CPU; whoever loads them moves them."""

    def visit(node: Any) -> Any:
        if isinstance(node, list):
            return [visit(value) for value in node]
        if not isinstance(node, dict):
            return node
        match node.get(_MARK):
            case None:
                return {key: visit(value) for key, value in node.items()}
            case "tensor":
                return tensors[node["key"]]
            case "array":
                return tensors[node["key"]].numpy()
            case "segment":
                return segments[node["key"]]
            case "tuple":
                return tuple(visit(value) for value in node["items"])
            case _:
                return {visit(key): visit(value) for key, value in node["items"]}

    return visit(skeleton)


def misfit(saved: Any, wanted: Any) -> str | None:
    """The first thing in which the arrays of a saved state differ from those of the state that is to take it over, in
    words: another shape, or an array that only one of the two has. None where they agree.

    What one of them has not got at all (a storage that is still empty) is passed over.
    """
    before, now = _shapes(saved), _shapes(wanted)
    for path, shape in now.items():
        if path in before and before[path] != shape:
            return f"its {_spoken(path)} has the shape {list(before[path])}, where {list(shape)} is wanted"
    begun = {path[:1] for path in before} & {path[:1] for path in now}
    for path in now:
        if path not in before and path[:1] in begun:
            return f"it has no {_spoken(path)}"
    for path in before:
        if path not in now and path[:1] in begun:
            return f"it has {_spoken(path)}, for which there is no place"
    return None


def _shapes(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[int, ...]]:
    if isinstance(tree, Tensor | np.ndarray):
        return {path: tuple(tree.shape)}
    parts = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {place: shape for key, part in parts for place, shape in _shapes(part, (*path, str(key))).items()}


def _spoken(path: tuple[str, ...]) -> str:
    return " ".join(path)
