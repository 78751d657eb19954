"""The features that feed the head, and the values it makes of them: size, spread, likeness, drift."""

import torch
from torch import Tensor

from stablegrad.diagnostics.parts import Network, run, state_values


def summary(features: Tensor) -> dict[str, Tensor]:
    """Summaries of `features [N, D]` as 0-d tensors, in units of the features except `cosine`.

    norm: mean over inputs of the L2 norm. mean: mean over everything. spread: mean over dimensions of the
    standard deviation over inputs (0: every input looks the same). cosine: mean over pairs of different
    inputs of the cosine between their features (1: all point the same way).
    """
    return {
        "norm": features.norm(dim=1).mean(),
        "mean": features.mean(),
        "spread": features.std(dim=0, correction=0).mean(),
        "cosine": pairwise_cosine(features),
    }


def pairwise_cosine(features: Tensor) -> Tensor:
    """Mean cosine between the features of two different inputs, from `[N, D]`; NaN with fewer than two
    non-zero rows.

    sum over i != j of u_i . u_j = ||sum_i u_i||^2 - N for unit vectors u, so no N x N matrix is built.
    """
    lengths = features.norm(dim=1, keepdim=True)
    units = torch.where(lengths > 0, features / lengths, 0.0)
    count = (lengths > 0).sum()
    mean = (units.sum(dim=0).square().sum() - count) / (count * (count - 1))
    return torch.where(count > 1, mean, torch.nan)


def target_drift(before: Network, after: Network, obs: Tensor) -> float:
    """Mean over `obs` of V1(x) - V0(x), signed, in units of the return; V as in `value_churn`.

    For the network that makes the bootstrap targets at two moments. Churn that cancels out leaves no drift;
    values that grow together without new reward do, which is how a divergence begins.
    """
    return (state_values(run(after, obs)) - state_values(run(before, obs))).mean().item()
