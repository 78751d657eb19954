"""Running normalisation of observations and rewards, for agents that want it. Frozen in evaluation.

Means and variances are merged batch by batch (Chan, Golub and LeVeque 1983), in float64, and saved exactly.
"""

from typing import Any

import numpy as np

_EPSILON = 1e-8
_CLIP = 10.0


class RunningMoments:
    """Mean and variance of everything seen so far, per element of `shape`."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.mean = np.zeros(shape, np.float64)
        self.variance = np.ones(shape, np.float64)
        self.count = 0

    def update(self, batch: np.ndarray) -> None:
        """Take in a batch [B, *shape]."""
        size = len(batch)
        mean, variance = batch.mean(0, dtype=np.float64), batch.var(0, dtype=np.float64)
        total = self.count + size
        delta = mean - self.mean
        if self.count == 0:
            self.mean, self.variance = np.asarray(mean), np.asarray(variance)
        else:
            between = np.square(delta) * self.count * size / total
            self.variance = (self.variance * self.count + variance * size + between) / total
            self.mean = self.mean + delta * size / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "variance": self.variance, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.variance, self.count = state["mean"], state["variance"], state["count"]


class ObservationNormalizer:
    """(obs - mean) / std, clipped to ±10, as float32."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.moments = RunningMoments(shape)

    def __call__(self, obs: np.ndarray, *, update: bool) -> np.ndarray:
        """Normalise obs [B, *shape]; `update` also takes them in first."""
        if update:
            self.moments.update(obs)
        scaled = (obs - self.moments.mean) / np.sqrt(self.moments.variance + _EPSILON)
        return np.clip(scaled, -_CLIP, _CLIP).astype(np.float32)


class RewardNormalizer:
    """reward / std of the running discounted return, clipped to ±10 (Engstrom et al. 2020, optimisation 2).

    The return of an environment starts again behind every end of an episode.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.moments = RunningMoments()
        self.gamma = gamma
        self.returns = np.zeros(num_envs, np.float64)

    def __call__(self, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Normalise reward [B]; `ended` [B] tells where an episode ended at this step."""
        self.returns = self.gamma * self.returns + reward
        self.moments.update(self.returns)
        self.returns = np.where(ended, 0.0, self.returns)
        return np.clip(reward / np.sqrt(self.moments.variance + _EPSILON), -_CLIP, _CLIP).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {"moments": self.moments.state_dict(), "returns": self.returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moments.load_state_dict(state["moments"])
        self.returns = state["returns"]
