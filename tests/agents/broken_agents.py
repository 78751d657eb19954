"""The example agent with one fault each, and networks and environments with faults: what `check` has to find."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stablegrad.registry import load_user_object

MyAgent = load_user_object(f"{Path(__file__).parents[2]}/examples/my_agent.py:MyAgent")


class Unaware(MyAgent):
    def observe(self, step):
        super().observe(replace(step, pressed=np.array(-1)))


class GlobalExploration(MyAgent):
    def act(self, obs):
        actions = super().act(obs)
        return np.where(np.random.random(len(actions)) < 0.5, 0, actions)


class GlobalInitialisation(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, setup)
        with torch.no_grad():
            self.network.head.bias += torch.rand(())


class Seedless(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, replace(setup, seed=1))


class OwnParametersLoss(MyAgent):
    def loss(self, params, batch, generator):
        return super().loss({"q": dict(self.network.named_parameters())}, batch, generator)


class ForgetfulLoss(MyAgent):
    def loss(self, params, batch, generator):
        output = super().loss(params, batch, generator)
        with torch.no_grad():
            self.target.head.bias += 1
        return output


class RandomLoss(MyAgent):
    def loss(self, params, batch, generator):
        output = super().loss(params, batch, generator)
        return output._replace(loss=output.loss * (1 + torch.rand(())))


class WritingLoss(MyAgent):
    def loss(self, params, batch, generator):
        batch["targets"].clamp_(-0.1, 0.1)
        return super().loss(params, batch, generator)


class AttachedMetrics(MyAgent):
    def loss(self, params, batch, generator):
        output = super().loss(params, batch, generator)
        return output._replace(metrics={"losses/loss": output.loss})


class HastyEnds(MyAgent):
    def observe(self, step):
        super().observe(replace(step, terminated=step.ended, truncated=np.zeros_like(step.truncated)))


class Endless(MyAgent):
    def observe(self, step):
        never = np.zeros_like(step.terminated)
        super().observe(replace(step, terminated=never, truncated=step.ended))


class NextEpisode(MyAgent):
    """Takes the first observation of the next episode for the last one of this."""

    def observe(self, step):
        super().observe(replace(step, final_obs=step.obs[step.ended]))


class NineLives(MyAgent):
    """Ignores setup.life_loss_ends."""

    def observe(self, step):
        super().observe(replace(step, life_lost=np.zeros_like(step.life_lost)))


class LivesAtTimeOuts(MyAgent):
    def observe(self, step):
        super().observe(replace(step, life_lost=step.life_lost & step.truncated))


class OneLife(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, replace(setup, life_loss_ends=True))


class RawRewards(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, replace(setup, reward_clip=False))


class AlwaysClipped(MyAgent):
    def __init__(self, config, setup):
        super().__init__(config, replace(setup, reward_clip=True))


class DeafEvaluation(MyAgent):
    def evaluate(self, obs, *, epsilon, generator):
        return super().evaluate(obs, epsilon=0.0, generator=generator)


class RestlessEvaluation(MyAgent):
    def evaluate(self, obs, *, epsilon, generator):
        return super().evaluate(obs, epsilon=epsilon, generator=self.explore)


class LosesGenerator(MyAgent):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "explore": self.explore.get_state()})


class LosesTarget(MyAgent):
    def state_dict(self):
        return {**super().state_dict(), "target": self.network.state_dict()}


class LosesRollout(MyAgent):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "rollout": self.rollout.state_dict()})


class Unstorable(MyAgent):
    def state_dict(self):
        return {**super().state_dict(), "chooser": random.Random(1)}


class Raises(MyAgent):
    def observe(self, step):
        raise ZeroDivisionError("a mistake of mine")


class Silent(MyAgent):
    def observe(self, step):
        pass


class NormalisedTrunk(nn.Sequential):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(linear(in_features, out_features), nn.BatchNorm1d(out_features))


class DroppingTrunk(nn.Sequential):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(linear(in_features, out_features), nn.Dropout(0.5))


class PlainTrunk(nn.Sequential):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(nn.Linear(in_features, out_features), nn.ReLU())


class HidingTrunk(nn.Module):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__()
        self.layers = [linear(in_features, out_features)]
        self.scale = nn.Parameter(torch.ones(out_features))
        self.unused = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.layers[0](x) * self.scale


class NarrowTrunk(nn.Linear):
    def __init__(self, in_features, out_features, *, spec, linear):
        super().__init__(in_features, 7)


class MeanEncoder(nn.Module):
    """Nothing wrong with it."""

    def __init__(self, shape, *, spec):
        super().__init__()
        self.linear = nn.Linear(shape[0], 9)

    def forward(self, x):
        return self.linear(x.flatten(2).mean(-1))


def not_a_thing(one, two):
    """Takes two arguments: neither agent nor network nor environment."""
