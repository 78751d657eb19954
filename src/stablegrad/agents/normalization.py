"""Running normalisation of observations and rewards, for agents that want it. Frozen in evaluation.

Means and variances are merged batch by batch (Chan, Golub and LeVeque 1983), in float64, and saved exactly.
"""

from typing import Any

import numpy as np
from gymnasium import spaces

from stablegrad.nn.build import are_bytes
from stablegrad.nn.parts import PartsBox

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


class PartsNormalizer(ObservationNormalizer):
    """The same for the vectors among the parts of observations [B, N]; their images stay as they are."""

    def __init__(self, space: PartsBox) -> None:
        self._space, self._vectors = space, [part.name for part in space.parts if len(part.space.shape) == 1]
        self._widths = [part.space.shape[0] for part in space.parts if part.name in self._vectors]
        super().__init__((sum(self._widths),))

    def __call__(self, obs: np.ndarray, *, update: bool) -> np.ndarray:
        rows = obs.copy()
        parts = self._space.apart(rows)
        joined = super().__call__(np.concatenate([parts[name] for name in self._vectors], axis=-1), update=update)
        for name, vector in zip(self._vectors, np.split(joined, np.cumsum(self._widths)[:-1], axis=-1), strict=True):
            parts[name][...] = vector
        return rows


def normalizer_of(space: spaces.Space[Any]) -> ObservationNormalizer:
    """What normalises the observations of `space`. ValueError where they are images and nothing else."""
    if not normalizable(space):
        raise ValueError(f"there is nothing to normalise in {space}")
    return PartsNormalizer(space) if isinstance(space, PartsBox) else ObservationNormalizer(space.shape or ())


def normalizable(space: spaces.Space[Any]) -> bool:
    """Whether observations are anything but images of bytes, which networks divide by 255."""
    if isinstance(space, PartsBox):
        return any(len(part.space.shape) == 1 for part in space.parts)
    return not are_bytes(space)


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
