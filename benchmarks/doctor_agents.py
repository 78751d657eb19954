"""Agents of ours, made sick on purpose for `doctor_study.py`: a frozen encoder, or ReLUs planted dead."""

from typing import Any

import torch
from torch import nn

from stablegrad.agents.dqn import DQN
from stablegrad.agents.ppo import PPO
from stablegrad.agents.pqn import PQN
from stablegrad.agents.rainbow import Rainbow

DEAD_SHARE = 0.9
_NEVER_FIRES = -100.0


def freeze_encoder(module: nn.Module) -> None:
    """Keep every parameter of the encoder as it was drawn; ValueError where there is none."""
    found = [parameter for name, parameter in module.named_parameters() if "encoder" in name.split(".")]
    if not found:
        raise ValueError("this network has no encoder to freeze")
    for parameter in found:
        parameter.requires_grad_(False)


def plant_dead_units(module: nn.Module, *, share: float = DEAD_SHARE) -> None:
    """Give the first `share` of each trunk layer's units a bias below which no input lifts them.

    The bias is that of whatever stands last before the activation: the norm where there is one.
    """
    for name, part in module.named_modules():
        last = part.norm if hasattr(part, "norm") else getattr(part, "linear", None)
        if "trunk" in name.split(".") and isinstance(last, nn.Linear | nn.LayerNorm):
            assert last.bias is not None
            with torch.no_grad():
                last.bias[: int(share * len(last.bias))] = _NEVER_FIRES


class FrozenPQN(PQN):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        freeze_encoder(self.network)


class DeadPQN(PQN):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        plant_dead_units(self.network)


class FrozenPPO(PPO):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        freeze_encoder(self.network)


class DeadPPO(PPO):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        plant_dead_units(self.network)


class FrozenDQN(DQN):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        freeze_encoder(self.network)


class DeadDQN(DQN):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        plant_dead_units(self.network)
        plant_dead_units(self.target)


class FrozenRainbow(Rainbow):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        freeze_encoder(self.network)


class DeadRainbow(Rainbow):
    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        plant_dead_units(self.network)
        plant_dead_units(self.target)
