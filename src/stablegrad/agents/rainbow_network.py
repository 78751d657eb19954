"""The network of Rainbow: encoder, one trunk or two, and a head of values or of value distributions."""

from collections import OrderedDict
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.nn.build import build_encoder, build_trunk
from stablegrad.nn.heads import Dueling, linear_head
from stablegrad.nn.noisy import NoisyLinear
from stablegrad.nn.spec import FEATURES, NetworkSpec
from stablegrad.rl import distributional


class Streams(nn.Module):
    """Two trunks side by side: [B, in] to the features [B, 2 * 512] of value and advantages."""

    def __init__(self, value: nn.Module, advantage: nn.Module) -> None:
        super().__init__()
        self.value, self.advantage = value, advantage

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.value(x), self.advantage(x)], dim=-1)


class StreamHead(nn.Module):
    """The linear layer of one stream, whose features begin at `start` in those of both."""

    def __init__(self, start: int, linear: nn.Module) -> None:
        super().__init__()
        self.start, self.linear = start, linear

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.narrow(-1, self.start, FEATURES))


class Expectation(nn.Module):
    """Logits [B, A, atoms] to the means of their distributions, Q [B, A]."""

    support: Tensor

    def __init__(self, support: Tensor) -> None:
        super().__init__()
        self.register_buffer("support", support, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return distributional.mean(self.support, logits.softmax(-1))


class RainbowNetwork(nn.Module):
    """Observations [B, *] to Q [B, A]; with `whole`, to what the head gives and the features [B, D] that feed it.

    The head gives logits [B, A, atoms], or Q itself without `atoms`. D is 512, or 1024 where dueling trunks stand
    side by side. The noise buffers stay 0, which is the mean network; whoever wants noise hands a draw of it to
    `functional_call`. `noisy` says which layers have any: the trunks' and the last ones, the last ones, or none.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        observation_space: spaces.Space[Any],
        n_actions: int,
        *,
        atoms: Tensor | None,
        dueling: bool,
        noisy: Literal["all", "head", "off"],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        in_trunk = NoisyLinear if noisy == "all" else nn.Linear
        in_head = nn.Linear if noisy == "off" else NoisyLinear
        n_atoms = None if atoms is None else len(atoms)
        self.encoder = build_encoder(spec, observation_space, generator=generator)

        def trunk() -> nn.Module:
            return build_trunk(spec, self.encoder.out_features, linear=in_trunk, generator=generator)

        def head(n_values: int) -> nn.Module:
            n_outputs = n_values * (n_atoms or 1)
            return linear_head(FEATURES, n_outputs, init=spec.head_init, linear=in_head, generator=generator)

        if dueling:
            self.trunk: nn.Module = Streams(trunk(), trunk())
            value, advantage = StreamHead(0, head(1)), StreamHead(FEATURES, head(n_actions))
            self.head: nn.Module = Dueling(value, advantage, n_actions=n_actions, atoms=n_atoms)
        else:
            self.trunk, self.head = trunk(), head(n_actions)
            if n_atoms is not None:
                by_action = nn.Unflatten(-1, (n_actions, n_atoms))
                self.head = nn.Sequential(OrderedDict(linear=self.head, by_action=by_action))
        self.expectation = None if atoms is None else Expectation(atoms)

    @property
    def atoms(self) -> Tensor | None:
        """Where the distributions lie, [atoms], if there are any."""
        return None if self.expectation is None else self.expectation.support

    def forward(self, obs: Tensor, *, whole: bool = False) -> Any:
        features = self.trunk(self.encoder(obs))
        outputs = self.head(features)
        return (outputs, features) if whole else self.values(outputs)

    def values(self, outputs: Tensor) -> Tensor:
        """Q [B, A] from what the head gave."""
        return outputs if self.expectation is None else self.expectation(outputs)
