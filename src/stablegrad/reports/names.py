"""What settings, their values and whole arms are called in a report."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from stablegrad.nn.spec import DEPTHS, WIDTHS

HEADLINE = (
    "algo", "mlp_type", "optimizer", "use_ln", "mlp_depth", "mlp_width", "cnn_type", "cnn_size",
    "activation_fn", "learning_rate", "interventions", "total_timesteps", "fresh_networks",
)  # fmt: skip
"""The settings that name an arm before all others, in the order in which they are read out."""

_CORE = frozenset({"algo", "mlp_type", "optimizer", "use_ln", "mlp_depth", "mlp_width"})

_WORDS: dict[tuple[str, Any], str] = {
    ("mlp_type", "default"): "plain",
    ("mlp_type", "multiskip_residual"): "multi-skip",
    ("mlp_type", "densenet"): "DenseNet",
    ("optimizer", "kron"): "Kron",
    ("optimizer", "adam"): "Adam",
    ("optimizer", "adamw"): "AdamW",
    ("optimizer", "radam"): "RAdam",
    ("optimizer", "sgd"): "SGD",
    ("cnn_type", "atari"): "Nature CNN",
    ("cnn_type", "impala"): "IMPALA CNN",
    ("use_ln", True): "norm",
    ("use_ln", False): "no norm",
    ("fresh_networks", True): "fresh networks",
    ("fresh_networks", False): "one network",
}
_NAMES = {
    "mlp_depth": "depth",
    "mlp_width": "width",
    "cnn_size": "encoder",
    "learning_rate": "lr",
    "total_timesteps": "steps",
}
_BARE = frozenset({"algo", "mlp_type", "optimizer", "use_ln", "cnn_type", "activation_fn", "fresh_networks"})
_SIZES = {"mlp_depth": DEPTHS, "mlp_width": WIDTHS}
_ABSENT = "–"
_LONGEST = 60


def show(key: str, value: Any) -> str:
    """A setting's value as a report writes it."""
    if value is None:
        return _ABSENT
    if isinstance(value, list):
        return " + ".join(show(key, part) for part in value) or "none"
    if isinstance(value, str) and ".py:" in value:
        path, _, name = value.rpartition(":")
        return f"{PurePosixPath(path).name}:{name}"
    if not isinstance(value, dict) and (key, value) in _WORDS:
        return _WORDS[key, value]
    if key == "algo":
        return str(value).upper() if len(str(value)) <= 3 else str(value).capitalize()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def name_of(key: str) -> str:
    """A setting's name as a report writes it."""
    return _NAMES.get(key, key.replace("_", " "))


def phrase(key: str, value: Any) -> str:
    """A setting within a label: `multi-skip`, `depth large`, `lr 0.001`."""
    return show(key, value) if key in _BARE and value is not None else f"{name_of(key)} {show(key, value)}"


def labels(settings: Sequence[Mapping[str, Any]], keys: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """One label an arm: of `keys`, most telling first, network, optimizer and learning rate wherever they differ.

    A rate that differs by an optimizer's own scale alone does not. Of the rest stands there what it takes to tell arms
    apart, and only in labels that would be the same without it. A single arm has nothing to be told apart from: it is
    named by what `config` says it is.
    """
    if len(settings) == 1:
        shown = [key for key in ("algo", "mlp_type", "optimizer") if config.get(key) is not None]
        return [", ".join(show(key, config[key]) for key in shown) or "all runs"]
    core = [key for key in keys if key in _CORE or (key == "learning_rate" and _asked_rates(settings) > 1)]
    chosen = [*core]
    parts = _parts(settings, chosen)
    for key in keys:
        if (refined := _parts(settings, [*chosen, key])) > parts:
            chosen, parts = [*chosen, key], refined
    alike = Counter(tuple(frozen(arm[key]) for key in core) for arm in settings)
    chosen.sort(key=keys.index)
    shown_keys = [chosen if alike[tuple(frozen(arm[key]) for key in core)] > 1 else core for arm in settings]
    return [", ".join(phrase(key, arm[key]) for key in shown) for arm, shown in zip(settings, shown_keys, strict=True)]


def _asked_rates(settings: Sequence[Mapping[str, Any]]) -> int:
    """How many learning rates were asked for, before the optimizers' own scale."""
    asked = {float(arm["learning_rate"]) / float(arm.get("lr_scale") or 1) for arm in settings if arm["learning_rate"]}
    return len({f"{rate:.6g}" for rate in asked})


def _parts(settings: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """How many groups of arms `keys` tell apart."""
    return len({tuple(frozen(arm[key]) for key in keys) for arm in settings})


def percent(share: float, *, signed: bool = False) -> str:
    """A share as a percentage that no line break tears."""
    return f"{100 * share:{'+' if signed else ''},.0f}\u00a0%"


def file_name(text: str) -> str:
    """A name from a run's files as the name of a figure's file, and of its place in a page: no other has the same."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:_LONGEST]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def frozen(value: Any) -> str:
    """A setting's value as text that is equal for equal values, to group by."""
    return json.dumps(value, sort_keys=True)


def size(key: str, value: Any) -> float:
    """A size as a number, for axes and order: blocks of a depth (`published` is 0), units of a width."""
    return float(_SIZES[key].get(value, 0) if isinstance(value, str) else value or 0)


def rank(key: str) -> tuple[int, str]:
    """Order of settings: headline first, then the alphabet."""
    return (HEADLINE.index(key) if key in HEADLINE else len(HEADLINE), key)


def order(key: str, value: Any) -> tuple[int, float, str]:
    """Order of values: plain before the rest, Kron last, sizes and numbers by size, words by the alphabet."""
    if value is None or value == "default":
        return (0, 0.0, "")
    if value == "kron":
        return (3, 0.0, "")
    if key in _SIZES:
        return (1, size(key, value), "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    return (2, 0.0, frozen(value))
