"""Effective rank of the neural tangent kernel: how independently a network can move its outputs."""

import torch
from torch import Tensor, nn

from stablegrad.diagnostics.parts import state_values
from stablegrad.diagnostics.purity import undisturbed
from stablegrad.diagnostics.ranks import effective_rank_of

_ENTRIES_AT_ONCE = 1 << 26
"""Gradient entries held at a time (256 MiB in float32); larger networks are taken a few tensors at a time."""


def ntk(module: nn.Module, obs: Tensor) -> Tensor:
    """The empirical tangent kernel of V (max_a f(x)_a, or a critic's value), `[N, N]` float64 on the CPU.

    K_ij = <grad_theta V(x_i), grad_theta V(x_j)> over all parameters (Jacot et al., 2018).
    """
    params = [parameter for parameter in module.parameters() if parameter.requires_grad]
    kernel = torch.zeros(len(obs), len(obs), dtype=torch.float64)
    with undisturbed(module), torch.enable_grad():
        for group in _groups(params, len(obs)):
            rows = torch.stack([_gradient(module, one, group) for one in obs.split(1)])
            kernel += (rows @ rows.T).to("cpu", torch.float64)
    return kernel


def ntk_effective_rank(module: nn.Module, obs: Tensor) -> float:
    """exp of the entropy of the normalised eigenvalues of `ntk(module, obs)`: between 1 and N, 0 for a zero
    kernel.

    Near 1, an update on any input moves all the others the same way; its collapse goes with churn. Costs N
    backward passes of a single input. Source: Tang et al., 2025 (rank of the NTK), with the entropy of Roy &
    Vetterli, 2007.
    """
    kernel = ntk(module, obs)
    if not bool(kernel.isfinite().all()):
        return torch.nan
    return effective_rank_of(torch.linalg.eigvalsh(kernel).clamp(min=0.0)).item()


def _gradient(module: nn.Module, one: Tensor, params: list[Tensor]) -> Tensor:
    value = state_values(module(one)).sum()
    parts = torch.autograd.grad(value, params, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def _groups(params: list[nn.Parameter], inputs: int) -> list[list[Tensor]]:
    groups: list[list[Tensor]] = []
    room = 0
    for parameter in params:
        if parameter.numel() > room:
            groups.append([])
            room = max(_ENTRIES_AT_ONCE // max(inputs, 1), parameter.numel())
        groups[-1].append(parameter)
        room -= parameter.numel()
    return groups
