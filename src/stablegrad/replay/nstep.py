"""n-step returns, folded from one-step rows when they are sampled.

There is no accumulator in front of the buffer that would have to be flushed, cut and saved. The buffer holds
one-step rows, and a row may be sampled as soon as its window is complete: n steps were taken from it, or its
episode ended, by any cause, before that. So the tail of an episode arrives when the episode ends, no window
reaches into the next episode, and n and γ may change during training.

Source: Sutton and Barto 2018, eq. 7.1; Mnih et al. 2016.
"""

from typing import NamedTuple

import numpy as np


class NStep(NamedTuple):
    """For each window [N]: its return, what its bootstrap value is multiplied by, and the steps it spans."""

    reward: np.ndarray
    discount: np.ndarray
    length: np.ndarray


def fold(
    rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, available: np.ndarray, gamma: float
) -> NStep:
    """Fold windows of consecutive steps of one environment each:

        R = Σ_{j<m} γʲ Rₜ₊ⱼ,   discount = γᵐ, or 0 where step t+m-1 terminated,

    with m the least of n, the steps up to and including the first end, and the steps available. The target is
    R + discount · v(S'ₜ₊ₘ₋₁); for a truncated last step S' is the true final observation.

    Args:
        rewards: [N, n]. What follows the end of an episode, or is not available, is ignored.
        terminated: bool [N, n]: nothing is bootstrapped.
        truncated: bool [N, n]: the episode was cut; its window bootstraps.
        available: int [N], 1 to n: how many of the n steps have been taken already.
        gamma: γ of one step.

    Returns:
        reward and discount as float32, length m as int64.
    """
    n = rewards.shape[1]
    steps = np.arange(n)
    ended = terminated | truncated
    until_end = np.where(ended.any(1), ended.argmax(1) + 1, n)
    length = np.minimum(until_end, available)
    inside = steps < length[:, None]
    reward = np.where(inside, rewards * gamma**steps, 0.0).sum(1)
    stops = np.take_along_axis(terminated, length[:, None] - 1, 1)[:, 0]
    discount = np.where(stops, 0.0, gamma**length)
    return NStep(reward.astype(np.float32), discount.astype(np.float32), length)
