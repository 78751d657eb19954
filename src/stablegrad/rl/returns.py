"""Returns and advantages over time-major rollouts `[T, B]`.

At row t the agent saw Sₜ, did Aₜ and received Rₜ; the state that followed is S'ₜ. Inside an episode S'ₜ is
Sₜ₊₁; where one ended, S'ₜ is its true last observation and Sₜ₊₁ already belongs to the next episode.

Discounts are data, `discounts[t] = γ (1 - terminatedₜ)`, so no formula has a `(1 - done)`; `cut` says where a
recursion may not reach into the next row. A time-out is cut but not zeroed: it bootstraps from S'ₜ. Where the
protocol ends returns at a lost life, that step's discount is 0 and it is cut.
"""

import torch
from torch import Tensor

from stablegrad.rl._checks import require_mask, require_same


def lambda_returns(
    rewards: Tensor, discounts: Tensor, values: Tensor, lambda_: float, cut: Tensor | None = None
) -> Tensor:
    """λ-returns, computed backwards in time:

        Gₜ = Rₜ + γₜ [(1 - λₜ) vₜ + λₜ Gₜ₊₁],   λₜ = 0 where cut and at t = T-1, else λ.

    With `values[t] = max_a Q(S'ₜ, a)` this is Peng's Q(λ), the target of PQN; with state values it is
    TD(λ); λ = 0 gives one-step targets and λ = 1 Monte-Carlo returns that bootstrap at every cut.

    Args:
        rewards: Rₜ, float [T, B].
        discounts: γₜ, [T, B]: γ, and 0 where the step terminated.
        values: vₜ, [T, B]: the bootstrap value of S'ₜ, the state *after* step t (for a truncated step, of its
            `final_obs`; see `successor_values`). Where the discount is 0 any finite number will do.
        lambda_: λ in [0, 1].
        cut: bool [T, B], true where an episode ended at step t by any cause: there Gₜ = Rₜ + γₜ vₜ and
            nothing flows back across. None: no episode ended. The last step is always cut.

    Returns:
        Gₜ, [T, B]. Gradients flow; callers who want targets detach.

    Raises:
        ValueError, TypeError: on shapes, dtypes or a λ that do not fit; the message names the argument.

    Source: Sutton and Barto 2018, eq. 12.18; Peng and Williams 1996; Gallici et al. 2024 (PQN), algorithm 1.
    """
    require_same(2, "[T, B]", rewards=rewards, discounts=discounts, values=values)
    trace = _trace(rewards, lambda_, cut)
    return _accumulate(rewards + discounts * (1 - trace) * values, discounts * trace)


def gae(
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    next_values: Tensor,
    lambda_: float,
    cut: Tensor | None = None,
) -> Tensor:
    """Generalised advantage estimates, computed backwards in time:

        δₜ = Rₜ + γₜ v'ₜ - vₜ
        Âₜ = δₜ + γₜ λₜ Âₜ₊₁,   λₜ = 0 where cut and at t = T-1, else λ.

    `gae(…) + values` are the λ-returns that bootstrap from `next_values`.

    Args:
        rewards: Rₜ, float [T, B].
        discounts: γₜ, [T, B]: γ, and 0 where the step terminated.
        values: vₜ = V(Sₜ), [T, B]: of the state in which step t was taken.
        next_values: v'ₜ = V(S'ₜ), [T, B]: of the state after it (see `successor_values`).
        lambda_: λ in [0, 1].
        cut: bool [T, B], true where an episode ended at step t by any cause: there Âₜ = δₜ. The last step is
            always cut.

    Returns:
        Âₜ, [T, B].

    Raises:
        ValueError, TypeError: on shapes, dtypes or a λ that do not fit; the message names the argument.

    Source: Schulman et al. 2016, "High-dimensional continuous control using generalized advantage
    estimation", eq. 16.
    """
    require_same(2, "[T, B]", rewards=rewards, discounts=discounts, values=values, next_values=next_values)
    trace = _trace(rewards, lambda_, cut)
    return _accumulate(rewards + discounts * next_values - values, discounts * trace)


def successor_values(values: Tensor, last_value: Tensor, truncated: Tensor, final_values: Tensor) -> Tensor:
    """The value of the state after each step, from values that a rollout has at hand:

        v'ₜ = V(final_obsₜ) where truncated, else V(Sₜ₊₁), with V(S_T) = last_value.

    At terminated steps the result is the value of the next episode's first state: their discount is 0.

    Args:
        values: V(Sₜ), float [T, B].
        last_value: V(S_T), [B]: of the observation to act on after the rollout.
        truncated: bool [T, B].
        final_values: V(final_obsₜ), [T, B]; read only where truncated.

    Returns:
        v'ₜ, [T, B].
    """
    require_same(2, "[T, B]", values=values, final_values=final_values)
    require_mask("truncated", truncated, values)
    if last_value.shape != values.shape[1:]:
        raise ValueError(f"last_value has shape {list(last_value.shape)}, but must have {list(values.shape[1:])}")
    return torch.where(truncated, final_values, torch.cat([values[1:], last_value[None]]))


def _trace(like: Tensor, lambda_: float, cut: Tensor | None) -> Tensor:
    """λₜ: λ, and 0 where the recursion stops."""
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_ must lie in [0, 1], not {lambda_}")
    trace = torch.full_like(like, lambda_)
    if cut is not None:
        require_mask("cut", cut, like)
        trace = trace.masked_fill(cut, 0)
    last = torch.arange(len(like), device=like.device) == len(like) - 1
    return trace.masked_fill(last[:, None], 0)


def _accumulate(gains: Tensor, decays: Tensor) -> Tensor:
    """xₜ = gainsₜ + decaysₜ xₜ₊₁, with x_T = 0."""
    carry = torch.zeros_like(gains[0])
    rows = []
    for gain, decay in zip(gains.flip(0).unbind(), decays.flip(0).unbind(), strict=True):
        carry = torch.addcmul(gain, decay, carry)
        rows.append(carry)
    return torch.stack(rows[::-1])
