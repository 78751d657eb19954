"""The contract of every back end that produces experience. Episode ends are settled here, once.

A vector environment resets a finished environment itself, at once: `StepBatch.obs` is then already the first
observation of the next episode, and the last observation of the finished one is in `final_obs`. No row that
an automatic reset made up exists.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from stablegrad.envs.views import View


class EpisodeEnd(NamedTuple):
    """One finished game: `score` is the sum of raw rewards, `length` counts agent steps.

    `whole` is False where a change of the task cut the game short: its score is not a game's.
    """

    env: int
    score: float
    length: int
    whole: bool = True


NOT_PRESSED = -1
"""In place of an action: the agent's own was played."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """What B environments returned for one action each.

    obs [B, *]: the observation to act on next (after a reset, the first of the new episode).
    reward [B] float32: raw, never clipped.
    terminated [B] bool: the game ended; nothing is bootstrapped.
    truncated [B] bool: a time limit cut the episode; bootstrap from `final_obs`. Never with `terminated`.
    life_lost [B] bool: a life was lost and the game plays on, or would but for a time limit (False at the end
        of the game).
    final_obs [E, *]: the true last observations of the E episodes that ended at this step, in the order of
        `np.flatnonzero(terminated | truncated)`.
    episodes: the games that ended at this step, in the same order.
    pressed [B] int64: the action that was pressed in the agent's place (FIRE after a lost life, see `presses.py`),
        NOT_PRESSED where its own was played. Without presses it may be left out.

    The arrays belong to the receiver: no later step writes into them.
    """

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    life_lost: np.ndarray
    final_obs: np.ndarray
    episodes: tuple[EpisodeEnd, ...]
    pressed: np.ndarray = field(default_factory=lambda: np.array(NOT_PRESSED))

    @property
    def chosen(self) -> np.ndarray:
        """[B] bool: the agent's own action was played. An on-policy learner learns from no other."""
        return np.full(self.reward.shape, True) & (self.pressed == NOT_PRESSED)

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """[B, *]: what was played: the agent's `actions`, or what was pressed in their place."""
        return actions if self.chosen.all() else np.where(self.chosen, actions, self.pressed)

    @property
    def ended(self) -> np.ndarray:
        """[B] bool: an episode ended at this step, by any cause."""
        return self.terminated | self.truncated

    @property
    def next_obs(self) -> np.ndarray:
        """[B, *]: the true successor of each action: `final_obs` where an episode ended, `obs` elsewhere."""
        ended = self.ended
        if not ended.any():
            return self.obs
        successor = self.obs.copy()
        successor[ended] = self.final_obs
        return successor


class VectorEnv(Protocol):
    """B environments stepped together. Single-environment spaces; observations are batched numpy arrays.

    `obs` is the observation to act on now. What an environment plays is a pure function of its seeds and its own
    actions, so `state_dict()` is small (seeds, and the actions since) and `load_state_dict` replays them. Where
    `exact_resume` is False (EnvPool, which cannot be seeded again) it begins new episodes instead.
    """

    num_envs: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    obs: np.ndarray
    exact_resume: bool
    view: View

    def step(self, actions: np.ndarray) -> StepBatch: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def episode_seed(seed: int, env: int, episode: int) -> int:
    """The seed of one episode of one environment: 31 bits, a hash of (seed, env, episode).

    Each number is stirred in by the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), so that
    neighbouring numbers give unrelated seeds. `numpy.random.SeedSequence` does the same at six times the
    price, which MinAtar, with an episode end in every vector step, would notice.
    """
    state = 0
    for part in (seed, env, episode):
        state = (state + part + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state >> 33


_64_BITS = (1 << 64) - 1
