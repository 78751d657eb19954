"""Losses and their diagnostics.

Every loss is of each sample, `[N]`: the mean, and importance weights, are the caller's. No formula has a
`(1 - done)`: discounts are data, 0 where an episode terminated (and γⁿ where it did not, for n steps).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from stablegrad.rl._checks import require_same

Regression = Literal["mse", "huber"]


def action_values(values: Tensor, actions: Tensor) -> Tensor:
    """Q(s, a) of the actions taken: values [N, A], actions int64 [N] to [N]."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def q_targets(rewards: Tensor, discounts: Tensor, next_values: Tensor, selector: Tensor | None = None) -> Tensor:
    """One-step (or folded n-step) Q-learning targets:

        y = R + γ max_a q'(a)                          without a selector (DQN),
        y = R + γ q'(argmax_a selector(a))             with one (Double DQN).

    Args:
        rewards: R, float [N].
        discounts: γ, [N]: 0 at a termination.
        next_values: q'(·), [N, A], of the target network at the state after.
        selector: [N, A], of the online network there: it chooses the action that `next_values` values.

    Returns:
        y, [N], detached.

    Source: Mnih et al. 2015; van Hasselt, Guez and Silver 2016, eq. 4.
    """
    require_same(1, "[N]", rewards=rewards, discounts=discounts)
    best = (next_values if selector is None else selector).argmax(-1)
    return (rewards + discounts * action_values(next_values, best)).detach()


def regression(predictions: Tensor, targets: Tensor, kind: Regression = "mse") -> Tensor:
    """The loss of each sample of predictions towards targets, both [N], with d their difference:

        mse:    d²
        huber:  ½d² where |d| <= 1, else |d| - ½

    `mse` has no ½, as in the published code; the gradient of `huber` is d clipped to [-1, 1], the "error
    clipping" of Mnih et al. 2015.
    """
    require_same(1, "[N]", predictions=predictions, targets=targets)
    if kind == "mse":
        return (predictions - targets).square()
    return functional.huber_loss(predictions, targets, reduction="none")


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """PPO's policy loss of each sample, to be minimised:

        -min(ρ Â, clip(ρ, 1 - c, 1 + c) Â),   ρ = π(a|s) / π_old(a|s) = exp(log_ratio).

    log_ratio [N] = log π - log π_old, advantages [N]. Source: Schulman et al. 2017, eq. 7.
    """
    require_same(1, "[N]", log_ratio=log_ratio, advantages=advantages)
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """PPO's value loss of each sample, the larger of the plain and the clipped error:

        ½ max((v - G)², (v_old + clip(v - v_old, -c, c) - G)²).

    All [N]; `old_values` are those of the rollout, `returns` the targets G. `clip=math.inf` gives ½(v - G)².

    Source: the code of Schulman et al. 2017, not the paper; the ½ is theirs, apart from the coefficient.
    """
    require_same(1, "[N]", values=values, old_values=old_values, returns=returns)
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def normalized(advantages: Tensor, epsilon: float = 1e-8) -> Tensor:
    """(Â - mean) / (std + ε) over a minibatch [N], with the sample standard deviation (N - 1); 0 for a single row."""
    if len(advantages) == 1:
        return torch.zeros_like(advantages)
    return (advantages - advantages.mean()) / (advantages.std() + epsilon)


def categorical_log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """log π(a|s) in nats: logits [N, A], actions int64 [N] to [N]."""
    return action_values(logits.log_softmax(-1), actions)


def categorical_entropy(logits: Tensor) -> Tensor:
    """H = -Σ_a π(a) log π(a) in nats: logits [N, A], finite, to [N]; 0 where certain, at most log A."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def multi_categorical_log_prob(logits: Tensor, actions: Tensor, sizes: Sequence[int]) -> Tensor:
    """log π(a|s) = Σ_k log π_k(a_k|s) in nats, of K independent choices among `sizes` (A_1, …, A_K) actions.

    logits [N, ΣA_k], those of one choice after another, and actions int64 [N, K], to [N]. A choice of two is a
    Bernoulli variable whose logit is the difference of its two.
    """
    chosen = zip(logits.split(list(sizes), dim=-1), actions.unbind(-1), strict=True)
    return torch.stack([categorical_log_prob(part, action) for part, action in chosen]).sum(0)


def multi_categorical_entropy(logits: Tensor, sizes: Sequence[int]) -> Tensor:
    """Σ_k H(π_k) in nats of K independent choices: logits [N, ΣA_k] to [N]; at most Σ_k log A_k."""
    return torch.stack([categorical_entropy(part) for part in logits.split(list(sizes), dim=-1)]).sum(0)


def gaussian_log_prob(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """log N(a; μ, diag σ²) in nats, of the whole action:

        Σᵢ -½ ((aᵢ - μᵢ) / σᵢ)² - log σᵢ - ½ log 2π.

    mean and actions [N, A], log_std [N, A] or [A], to [N].
    """
    require_same(2, "[N, A]", mean=mean, actions=actions)
    scaled = (actions - mean) * (-log_std).exp()
    return (-0.5 * scaled.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Σᵢ log σᵢ + ½ log 2πe in nats (it may be negative): log_std [..., A] to [...]."""
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def approx_kl(log_ratio: Tensor) -> Tensor:
    """KL(π_old ‖ π) in nats, estimated from actions that π_old took: the mean of (ρ - 1) - log ρ.

    log_ratio [N] = log ρ = log π - log π_old. Unbiased and never negative, with less variance than -log ρ.

    Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    return (torch.expm1(log_ratio) - log_ratio).mean()


def clip_fraction(log_ratio: Tensor, clip: float) -> Tensor:
    """The share of samples, 0 to 1, whose ratio lies outside [1 - c, 1 + c]; log_ratio [N]."""
    return ((log_ratio.exp() - 1).abs() > clip).float().mean()


def explained_variance(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 - Var(y - ŷ) / Var(y), of predictions ŷ and targets y of one shape.

    1 is perfect, 0 no better than a constant, below 0 worse than one. NaN, as undefined, where the targets
    do not vary.
    """
    variance = targets.var(correction=0)
    unexplained = (targets - predictions).var(correction=0)
    return torch.where(variance > 0, 1 - unexplained / variance, torch.full_like(variance, torch.nan))
