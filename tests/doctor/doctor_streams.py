"""Runs made of numbers alone: a healthy one with noise, and every illness as one change to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS, TOTAL = 60, 60_000
LAYERS = ("encoder.net.0.conv", "trunk.0.linear", "trunk.1.linear", "trunk.2.linear", "head")

CONFIG = {
    "algo": "pqn",
    "env_id": "MinAtar/Breakout",
    "seed": 1,
    "total_timesteps": TOTAL,
    "learning_rate": 2.5e-4,
    "lr_scale": 1.0,
    "optimizer": "radam",
    "max_grad_norm": 10.0,
    "gamma": 0.99,
    "reward_clip": False,
    "mlp_type": "default",
    "mlp_depth": 5,
    "use_ln": False,
    "activation_fn": "relu",
}


class Stream:
    """Columns by metric [ROWS] that a test may bend, games as (step, score), and the folder they are written to."""

    def __init__(self, seed: int = 0) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.steps = np.arange(1, ROWS + 1) * (TOTAL // ROWS)
        self.config: dict[str, Any] = dict(CONFIG)
        self.status: dict[str, Any] = {"state": "done", "step": TOTAL}
        self.columns: dict[str, np.ndarray] = {}
        for layer in LAYERS:
            scale = 5.0 if layer == "head" else float(rng.uniform(0.5, 2.0))
            self.columns[f"gradients/raw/{layer}"] = scale * self._noise(0.3)
            self.columns[f"gradients/update/{layer}"] = 0.008 * self._noise(0.3)
            self.columns[f"weights/norm/{layer}"] = 16.0 * self._noise(0.01)
        self.columns |= {
            "gradients/raw/total": np.linspace(0.5, 8.0, ROWS) * self._noise(0.3),
            "losses/loss": 0.1 * self._noise(0.3),
            "losses/q_values": np.linspace(0.0, 4.0, ROWS) * self._noise(0.1),
            "units/dead/total": 0.15 * self._noise(0.2),
            "units/dormant/total": 0.25 * self._noise(0.2),
            "ranks/effective_rank": 20.0 * self._noise(0.2),
            "ranks/stable_rank": 1.0 + 0.4 * self._noise(0.2),
            "features/cosine": 0.65 * self._noise(0.05),
            "churn/value": 0.1 * self._noise(0.4),
            "curvature/hessian_trace": 800.0 * self._noise(0.5),
            "curvature/hessian_top_eigenvalue": 300.0 * self._noise(0.5),
        }
        self.score: Callable[[float], float] = lambda share: 0.5 + 8.0 * share

    def _noise(self, spread: float) -> np.ndarray:
        return np.exp(spread * self.rng.standard_normal(ROWS))

    def write(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(self.config))
        (path / "status.json").write_text(json.dumps(self.status))
        rows = [{"step": int(step)} for step in self.steps]
        for name, values in self.columns.items():
            for row, value in zip(rows, values, strict=True):
                row[name] = float(value)
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        games = []
        for step in range(100, TOTAL + 1, 100):
            mean = self.score(step / TOTAL)
            games.append({"step": step, "env": 0, "score": mean * self.rng.exponential(), "length": 10})
        (path / "episodes.jsonl").write_text("".join(json.dumps(game) + "\n" for game in games))
        return path


def half(before: float, after: float) -> np.ndarray:
    """`before` for the first 20 rows, `after` from step 21,000 on."""
    return np.where(np.arange(ROWS) < 20, before, after)


def _scaled(*names: str, factor: np.ndarray | float) -> Callable[[Stream], None]:
    def change(stream: Stream) -> None:
        for name in names:
            stream.columns[name] = stream.columns[name] * factor

    return change


def failed(stream: Stream) -> None:
    stream.columns["losses/loss"][40:] = np.nan
    stream.status = {"state": "failed", "step": 41_000, "reason": "the loss is nan"}


def collapsed(stream: Stream) -> None:
    stream.columns["ranks/effective_rank"] *= half(1.0, 0.1)
    stream.columns["ranks/stable_rank"] = 1 + (stream.columns["ranks/stable_rank"] - 1) * half(1.0, 0.02)
    stream.columns["features/cosine"] = np.minimum(stream.columns["features/cosine"] * half(1.0, 1.4), 0.99)


def spiked(stream: Stream) -> None:
    stream.columns["churn/value"][45] *= 60


def grown_dormant(stream: Stream) -> None:
    stream.columns["units/dormant/total"] += np.linspace(0, 0.45, ROWS)


def frozen(stream: Stream) -> None:
    for family in ("raw", "update"):
        stream.columns[f"gradients/{family}/encoder.net.0.conv"][:] = 0.0


def never_learned(stream: Stream) -> None:
    stream.score = lambda share: 0.5


def forgot(stream: Stream) -> None:
    stream.score = lambda share: 0.5 + 8.0 * share / 0.6 if share < 0.6 else 1.0


ILLNESSES: dict[str, Callable[[Stream], None]] = {
    "failed": failed,
    "value_divergence": _scaled("losses/q_values", factor=np.linspace(1, 100, ROWS)),
    "exploding_gradients": _scaled("gradients/raw/total", factor=half(1.0, 3000.0)),
    "vanishing_gradients": _scaled(
        "gradients/raw/trunk.0.linear", "gradients/update/trunk.0.linear", factor=half(1.0, 1e-4)
    ),
    "frozen_layers": frozen,
    "steps_too_large": _scaled(*(f"gradients/update/{layer}" for layer in LAYERS), factor=20.0),
    "dead_units": _scaled("units/dead/total", factor=half(1.0, 5.5)),
    "growing_dormancy": grown_dormant,
    "rank_collapse": collapsed,
    "churn_spikes": spiked,
    "flat_curvature": _scaled("curvature/hessian_trace", factor=half(1.0, 1e-4)),
    "no_learning": never_learned,
    "learning_stopped": forgot,
}
"""What the doctor must say -> what was done to a healthy stream."""
