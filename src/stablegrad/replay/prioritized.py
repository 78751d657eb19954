"""Prioritised sampling: a sum tree over the slots of a replay, batched and in float64.

Source: Schaul et al. 2016, "Prioritized experience replay", the proportional variant.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from stablegrad.replay.memory import TREE_FANOUT, tree_lengths
from stablegrad.replay.ring import Change


class SumTree:
    """Non-negative numbers among which indices are found by prefix sums, in batches, in O(log capacity).

    A node has 32 children, so that a million leaves are four levels deep and a level is one array operation.
    It is the sum of its children, computed from them and never by adding differences. So the tree is a
    function of its leaves alone: rounding does not accumulate, and only leaves are saved.
    """

    def __init__(self, capacity: int) -> None:
        self._levels = [np.zeros(length) for length in tree_lengths(capacity)]
        self._capacity = capacity

    @property
    def total(self) -> float:
        return float(self._levels[-1].sum())

    @property
    def leaves(self) -> np.ndarray:
        """All values [capacity], a view."""
        return self._levels[0][: self._capacity]

    def set(self, indices: np.ndarray, values: np.ndarray | float) -> None:
        """Set leaves [N]. Where an index is there twice, the last value holds."""
        self._levels[0][indices] = values
        for children, parents in pairwise(self._levels):
            indices = indices // TREE_FANOUT
            parents[indices] = children.reshape(-1, TREE_FANOUT)[indices].sum(1)

    def find(self, prefix: np.ndarray) -> np.ndarray:
        """For each prefix [N] in [0, total) the index into whose share of the total it falls.

        The value of what is found is never 0: where rounding carries a prefix past the last child, the search
        turns to the last child that is not empty.
        """
        node = np.zeros(len(prefix), np.int64)
        for level in reversed(self._levels):
            ends = level.reshape(-1, TREE_FANOUT)[node].cumsum(1)
            child = np.minimum((ends <= prefix[:, None]).sum(1), (ends < ends[:, -1:]).sum(1))
            before = np.where(child > 0, ends[np.arange(len(child)), child - 1], 0.0)
            prefix = prefix - before
            node = node * TREE_FANOUT + child
        return node

    def load(self, leaves: np.ndarray) -> None:
        """Set all leaves [capacity] at once."""
        self.leaves[:] = leaves
        for children, parents in pairwise(self._levels):
            parents[: len(children) // TREE_FANOUT] = children.reshape(-1, TREE_FANOUT).sum(1)


class Prioritized(NamedTuple):
    """Sampled slots [N] and the importance weights [N], float32, that their losses are multiplied by."""

    slot: np.ndarray
    weight: np.ndarray


class Priorities:
    """Slots of a replay, drawn with probability P(i) = pᵢ^α / Σ p^α, pᵢ = |δᵢ| + ε.

    A slot that became ready gets the largest priority seen so far, so that it is soon drawn; a dropped one
    gets 0 and is not drawn at all.
    """

    def __init__(self, capacity: int, *, alpha: float = 0.5, epsilon: float = 1e-6) -> None:
        self.alpha = alpha
        self.epsilon = epsilon
        self._tree = SumTree(capacity)
        self._largest = 1.0
        self._live = 0

    def __len__(self) -> int:
        """How many slots may be drawn."""
        return self._live

    @property
    def largest(self) -> float:
        """The largest priority ever given, |δ| + ε: what new transitions start with."""
        return self._largest

    def follow(self, change: Change) -> None:
        """Keep up with the replay: drop and insert what `ReplayRing.add` says."""
        self._live += len(change.ready) - int(np.count_nonzero(self._tree.leaves[change.dropped]))
        slots = np.concatenate([change.dropped, change.ready])
        values = np.zeros(len(slots))
        values[len(change.dropped) :] = self._largest**self.alpha
        self._tree.set(slots, values)

    def sample(self, size: int, *, beta: float, rng: np.random.Generator) -> Prioritized:
        """Draw `size` slots, one from each of `size` equal shares of the total (stratified), with

            wᵢ = (N · P(i))^-β / max_j wⱼ,   the maximum over this sample.

        beta in [0, 1]: 1 undoes the bias of the priorities fully. Source: Schaul et al. 2016, algorithm 1.
        """
        if not self._live:
            raise ValueError("the replay holds no complete transition yet")
        shares = (np.arange(size) + rng.random(size)) / size
        slots = self._tree.find(shares * self._tree.total)
        # N and the total are the same for all, so the division by the maximum cancels them.
        weights = self._tree.leaves[slots] ** -beta
        return Prioritized(slots, (weights / weights.max()).astype(np.float32))

    def update(self, slots: np.ndarray, errors: np.ndarray) -> None:
        """New priorities of `slots` [N] from their absolute TD errors [N] (or any non-negative losses).

        Slots dropped since they were drawn stay dropped. ValueError where an error is negative or not finite.
        """
        if not (np.isfinite(errors).all() and (errors >= 0).all()):
            raise ValueError("priorities need finite, non-negative errors")
        priorities = errors.astype(np.float64) + self.epsilon
        self._largest = max(self._largest, float(priorities.max()))
        live = self._tree.leaves[slots] > 0
        self._tree.set(slots[live], priorities[live] ** self.alpha)

    def probabilities(self, slots: np.ndarray) -> np.ndarray:
        """P(i) of `slots`."""
        return self._tree.leaves[slots] / self._tree.total

    def state_dict(self) -> dict[str, Any]:
        return {"leaves": self._tree.leaves.copy(), "largest": self._largest, "live": self._live}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._tree.load(state["leaves"])
        self._largest = state["largest"]
        self._live = state["live"]
