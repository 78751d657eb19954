"""Agents, networks, optimizers and trackers with one mistake each."""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stablegrad.registry import load_user_object

MyAgent = load_user_object(f"{Path(__file__).parents[2]}/examples/my_agent.py:MyAgent")

NUMBER = 3


def function(config, setup):
    return None


class Plain:
    """No subclass of Agent."""


class Unbuildable(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, setup)
        self.nothing = {}["key"]


class Leaves(MyAgent):
    def __init__(self, config, setup):
        sys.exit(0)


class NoGroups(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, setup)
        self.groups = {}


class NoModule(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, setup)
        self.groups = {"q": nn.ReLU()}


class Unstorable(MyAgent):
    def state_dict(self):
        return {**super().state_dict(), "chooser": random.Random(1)}


class NoConfig(MyAgent):
    Config = None


class ActRaises(MyAgent):
    def act(self, obs):
        raise ZeroDivisionError("a mistake of mine")


class ActLeaves(MyAgent):
    def act(self, obs):
        sys.exit(0)


class ActTensor(MyAgent):
    def act(self, obs):
        return torch.from_numpy(super().act(obs))


class ActShape(MyAgent):
    def act(self, obs):
        return super().act(obs)[:1]


class ActHalves(MyAgent):
    def act(self, obs):
        return super().act(obs) / 2


class ActBeyond(MyAgent):
    def act(self, obs):
        return super().act(obs) + 2


class EvaluateNone(MyAgent):
    def evaluate(self, obs, *, epsilon, generator):
        return None


class BatchList(MyAgent):
    def batches(self):
        yield [1, 2]


class BatchBlind(MyAgent):
    def batches(self):
        yield {"rewards": torch.zeros(2)}


class LossNone(MyAgent):
    def loss(self, params, batch, generator):
        super().loss(params, batch, generator)


class LossBare(MyAgent):
    def loss(self, params, batch, generator):
        return super().loss(params, batch, generator).loss


class LossVector(MyAgent):
    def loss(self, params, batch, generator):
        output = super().loss(params, batch, generator)
        return output._replace(loss=output.loss.expand(4))


class LossDetached(MyAgent):
    def loss(self, params, batch, generator):
        output = super().loss(params, batch, generator)
        return output._replace(loss=output.loss.detach())


class LossWords(MyAgent):
    def loss(self, params, batch, generator):
        return super().loss(params, batch, generator)._replace(metrics={"losses/loss": "small"})


class MetricsWords(MyAgent):
    def metrics(self):
        return {"train/epsilon": "small"}


class TrunkRaises(nn.Module):
    def __init__(self, in_features, out_features, *, spec, linear):
        raise LookupError("no such width")


class TrunkMismatch(nn.Sequential):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(linear(in_features + 1, out_features), nn.ReLU())


class TrunkPair(nn.Linear):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(in_features, out_features)

    def forward(self, x):
        return super().forward(x), x


def trunk_text(in_features, out_features, *, spec, linear):
    return "a trunk"


def encoder_number(shape, *, spec):
    return 5


def optimizer_raises(params, lr):
    raise LookupError("no such optimizer")


def optimizer_text(params, lr):
    return "an optimizer"


class OptimizerStops(torch.optim.SGD):
    def step(self, closure=None):
        raise LookupError("no such step")


class Deaf:
    """A tracker without `log`."""

    def __init__(self, folder, config):
        pass

    def close(self):
        pass


def trained_numpy(obs):
    return np.zeros(len(obs), int)
