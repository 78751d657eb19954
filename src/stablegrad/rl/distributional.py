"""Categorical value distributions: probabilities on a fixed set of atoms.

Source: Bellemare, Dabney and Munos 2017, "A distributional perspective on reinforcement learning" (C51).
"""

import torch
from torch import Tensor

from stablegrad.rl._checks import require_same


def project(support: Tensor, probabilities: Tensor, target_support: Tensor) -> Tensor:
    """Move a distribution from its own atoms onto the fixed ones:

        (Φp)ᵢ = Σⱼ hᵢ(clip(xⱼ, z₁, z_N)) pⱼ,

    with hᵢ the hat function that is 1 at zᵢ and falls linearly to 0 at its two neighbours. Mass is
    conserved always; the mean is conserved wherever the target atoms lie inside [z₁, z_N].

    Args:
        support: z, the fixed atoms, float [atoms], strictly increasing (equal spacing is not needed).
        probabilities: p, [B, M]: the mass on each target atom.
        target_support: x, [B, M]: where that mass lies, usually Rₜ + γₜ z.

    Returns:
        Φp, [B, atoms].

    Raises:
        ValueError, TypeError: on shapes or dtypes that do not fit; the message names the argument.

    Source: Bellemare et al. 2017, eq. 7 and algorithm 1. The hat functions are summed as a matrix product: no
    scatter, so the result is deterministic on every device and an atom hit exactly keeps its mass.
    """
    require_same(1, "[atoms]", support=support)
    require_same(2, "[B, M]", probabilities=probabilities, target_support=target_support)
    if len(support) < 2:
        raise ValueError("support needs two atoms or more")
    gaps = support.diff()
    inside = target_support.clamp(support[0], support[-1]).unsqueeze(-1)
    # The outermost hats have one neighbour only: any width will do on the side that clipping leaves empty.
    rising = (inside - support) / torch.cat([gaps[:1], gaps]) + 1
    falling = (support - inside) / torch.cat([gaps, gaps[-1:]]) + 1
    hats = torch.minimum(rising, falling).clamp(0, 1)
    return torch.einsum("bm,bma->ba", probabilities, hats)


def mean(support: Tensor, probabilities: Tensor) -> Tensor:
    """The expected value Σᵢ zᵢ pᵢ: support [atoms], probabilities [*, atoms] (say [B, A, atoms]) to [*]."""
    if probabilities.shape[-1:] != support.shape:
        raise ValueError(
            f"probabilities {list(probabilities.shape)} must end with support's axis {list(support.shape)}"
        )
    return probabilities @ support


def cross_entropy(target_probabilities: Tensor, logits: Tensor) -> Tensor:
    """The C51 loss of each sample, -Σᵢ mᵢ log softmax(logits)ᵢ: both [B, atoms] to [B], in nats.

    No gradient is meant to flow into the target; its entropy is the least that the loss can be. The mean
    over the batch, weighted where replay is prioritised, is the caller's.

    Source: Bellemare et al. 2017, algorithm 1.
    """
    require_same(2, "[B, atoms]", target_probabilities=target_probabilities, logits=logits)
    return -(target_probabilities * logits.log_softmax(-1)).sum(-1)
