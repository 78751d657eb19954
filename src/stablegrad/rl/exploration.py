"""Action selection for discrete actions, vectorised over environments, with explicit generators."""

import torch
from torch import Tensor


def greedy(values: Tensor) -> Tensor:
    """argmax_a of values [B, A], as int64 [B]; of equal maxima the first action."""
    return values.argmax(-1)


def epsilon_greedy(values: Tensor, epsilon: float | Tensor, generator: torch.Generator) -> Tensor:
    """With probability ε a uniform action, else the greedy one; drawn for each environment apart.

    Args:
        values: Q(Sₜ, ·), [B, A].
        epsilon: ε in [0, 1], one number or a tensor [B] (one for each environment). The uniform action may
            be the greedy one, which is therefore taken with probability 1 - ε + ε/A.
        generator: where the 2B numbers come from, always as many whatever ε is: runs that differ only in
            their schedule draw the same numbers. A CPU generator serves values on any device, and gives
            the same actions there.

    Returns:
        Actions, int64 [B], on the device of `values`.

    Source: Sutton and Barto 2018, section 2.2.
    """
    if values.dim() != 2:
        raise ValueError(f"values must be [B, A], not of shape {list(values.shape)}")
    size, actions = values.shape
    explore = torch.rand(size, generator=generator, device=generator.device).to(values.device)
    uniform = torch.randint(actions, (size,), generator=generator, device=generator.device).to(values.device)
    return torch.where(explore < epsilon, uniform, greedy(values))
