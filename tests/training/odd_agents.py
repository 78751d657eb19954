"""DQN as others might write it."""

import copy

from stablegrad.agents.dqn import DQN


class KeepsADict(DQN):
    """Its networks lie in a dict, and no attribute names them."""

    def __init__(self, config, setup):
        super().__init__(config, setup)
        self.kept = {"network": self.network, "target": self.target}
        del self.network, self.target

    def __getattr__(self, name):
        kept = self.__dict__.get("kept", {})
        if name not in kept:
            raise AttributeError(name)
        return kept[name]


class BuildsLate(DQN):
    """A second network comes with the first action."""

    def act(self, obs):
        self.late = copy.deepcopy(self.network)
        return super().act(obs)
