"""Agents with the faults that are usual: the negative controls."""

from dataclasses import replace

import numpy as np

from stablegrad.agents.dqn import DQN
from stablegrad.agents.rainbow import Rainbow


def _taken_for_an_end(step):
    return replace(step, terminated=step.ended, truncated=np.zeros_like(step.truncated))


class HastyDQN(DQN):
    """Takes a time limit for the end of the game."""

    def observe(self, step):
        super().observe(_taken_for_an_end(step))


class HastyRainbow(Rainbow):
    """Takes a time limit for the end of the game."""

    def observe(self, step):
        super().observe(_taken_for_an_end(step))


class LossyRainbow(Rainbow):
    """Stores only the oldest window when an episode ends, as the usual n-step buffer does."""

    def __init__(self, config, setup):
        super().__init__(config, setup)
        follow = self.experience.priorities.follow
        self.experience.priorities.follow = lambda change: follow(change._replace(ready=change.ready[:1]))


class BiasedRainbow(Rainbow):
    """Samples by priority and forgets the importance weights."""

    def batches(self):
        for batch in super().batches():
            yield {**batch, "weights": batch["weights"] * 0 + 1}
