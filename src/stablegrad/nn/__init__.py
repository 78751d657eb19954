"""Networks that scale. Names are imported on first use, so that `stablegrad.nn.spec` stays free of torch."""

import importlib
from typing import TYPE_CHECKING, Any

from stablegrad.nn.spec import NetworkSpec

if TYPE_CHECKING:
    from stablegrad.nn.build import Network, Torso, build_encoder, build_network, build_torso, build_trunk
    from stablegrad.nn.dropout import ChannelDropout, draw_masks
    from stablegrad.nn.heads import Dueling, linear_head
    from stablegrad.nn.init import initialise_
    from stablegrad.nn.layers import SpectralLinear, advance_power_iteration_
    from stablegrad.nn.noisy import NoisyLinear, apply_noise_, draw_noise, zero_noise

_HOMES = {
    "build": ("Network", "Torso", "build_encoder", "build_network", "build_torso", "build_trunk"),
    "dropout": ("ChannelDropout", "draw_masks"),
    "heads": ("Dueling", "linear_head"),
    "init": ("initialise_",),
    "layers": ("SpectralLinear", "advance_power_iteration_"),
    "noisy": ("NoisyLinear", "apply_noise_", "draw_noise", "zero_noise"),
}

__all__ = [
    "ChannelDropout",
    "Dueling",
    "Network",
    "NetworkSpec",
    "NoisyLinear",
    "SpectralLinear",
    "Torso",
    "advance_power_iteration_",
    "apply_noise_",
    "build_encoder",
    "build_network",
    "build_torso",
    "build_trunk",
    "draw_masks",
    "draw_noise",
    "initialise_",
    "linear_head",
    "zero_noise",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"stablegrad.nn.{home}"), name)
    raise AttributeError(f"module 'stablegrad.nn' has no attribute '{name}'")
