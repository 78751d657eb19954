"""Churn: how much updates changed a network's outputs on inputs, most of which those updates never saw.

`before` and `after` are the same network at two moments: modules, or functions from `obs [B, *]` to outputs.
A comparison with the network of one update ago measures the churn of that update. Where features are needed,
modules are cut before their head (`parts.split`); with functions, pass `parts.Parts`.

With phi the features, h the head, 0 the network before and 1 after:

    total change           h1(phi1(x)) - h0(phi0(x))
    representation churn   h0(phi1(x)) - h0(phi0(x))     what the new features do to the old head
    head churn             h1(phi0(x)) - h0(phi0(x))     what the new head makes of the old features

Both are mean absolute changes over inputs and outputs, in units of the outputs. They add up to the total
change only to first order. Sources: Schaul et al., 2022 (policy churn); Tang et al., 2024 and 2025 (CHAIN,
C-CHAIN).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence

from stablegrad.diagnostics.parts import Network, Parts, features, first_tensor, run, split, state_values
from stablegrad.errors import UserError


def policy_churn(before: Network, after: Network, obs: Tensor) -> float:
    """Share of `obs` whose greedy action (argmax of outputs `[B, A]`) changed, in [0, 1] (Schaul et al.,
    2022). Of a network with `action_sizes`, whose action is several choices: any of them changed.

    Raises UserError unless the outputs are `[B, A]` with two actions or more.
    """
    old, new = first_tensor(run(before, obs)), first_tensor(run(after, obs))
    return policy_churn_of(old, new, action_sizes(after)).item()


def value_churn(before: Network, after: Network, obs: Tensor) -> float:
    """Mean absolute change of the state's value, in units of the outputs.

    The value is the largest output, or what an actor-critic that returns (policy, values, …) says it is.
    """
    return value_churn_of(state_values(run(before, obs)), state_values(run(after, obs))).item()


def representation_churn(before: Network, after: Network, obs: Tensor) -> float:
    """Mean |h0(phi1(x)) - h0(phi0(x))|: the change of the outputs due to the features alone."""
    old, head = split(before, obs)
    new, _ = split(after, obs)
    return (head(new) - head(old)).abs().mean().item()


def head_churn(before: Network, after: Network, obs: Tensor) -> float:
    """Mean |h1(phi0(x)) - h0(phi0(x))|: the change of the outputs due to the head alone."""
    old, old_head = split(before, obs)
    _, new_head = split(after, obs)
    return (new_head(old) - old_head(old)).abs().mean().item()


def representation_cosine(before: Network, after: Network, obs: Tensor) -> float:
    """Mean over inputs of cos(phi0(x), phi1(x)), in [-1, 1]; inputs whose features are all zero are left out.

    NaN when no input has features that are not zero at both moments. A plain function is taken for phi itself.
    """
    return representation_cosine_of(_phi(before, obs), _phi(after, obs)).item()


def representation_distance(before: Network, after: Network, obs: Tensor) -> float:
    """Mean over inputs of ||phi1(x) - phi0(x)||, in units of the features; a plain function is phi itself."""
    return representation_distance_of(_phi(before, obs), _phi(after, obs)).item()


def policy_kl(before: Network, after: Network, obs: Tensor) -> float:
    """Mean KL(pi0(.|x) || pi1(.|x)) in nats.

    A network returns its policy first, as logits `[B, A]` or as a torch distribution; one that has a
    `log_std` [A] is a diagonal Gaussian and returns means, and one that has `action_sizes` makes independent choices,
    whose logits come one after another.
    """
    old, new = _policies(before, obs), _policies(after, obs)
    each = [kl_divergence(one, other) for one, other in zip(old, new, strict=True)]
    return torch.stack(each).sum(0).mean().item()


def policy_churn_of(old: Tensor, new: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    if sizes is not None:
        parts = zip(old.split(list(sizes), dim=1), new.split(list(sizes), dim=1), strict=True)
        changed = [one.argmax(dim=1) != other.argmax(dim=1) for one, other in parts]
        return torch.stack(changed).any(dim=0).float().mean()
    for out in (old, new):
        if out.ndim != 2 or out.shape[1] < 2:
            raise UserError(
                f"policy churn needs outputs [B, A] with one column an action, got {list(out.shape)}:"
                " wrap the network in a function that returns its action values or logits"
            )
    return (old.argmax(dim=1) != new.argmax(dim=1)).float().mean()


def value_churn_of(old: Tensor, new: Tensor) -> Tensor:
    return (new - old).abs().mean()


def representation_cosine_of(old: Tensor, new: Tensor) -> Tensor:
    lengths = old.norm(dim=1) * new.norm(dim=1)
    cosine = ((old * new).sum(dim=1) / lengths).clamp(-1.0, 1.0)
    return torch.where(lengths > 0, cosine, 0.0).sum() / (lengths > 0).sum()


def representation_distance_of(old: Tensor, new: Tensor) -> Tensor:
    return (new - old).norm(dim=1).mean()


def log_std(network: Network) -> Tensor | None:
    """Of a network whose outputs are the means of a diagonal Gaussian policy: its `log_std` [A]."""
    found = getattr(network, "log_std", None)
    return found.detach() if isinstance(found, Tensor) else None


def action_sizes(network: Network) -> tuple[int, ...] | None:
    """Of a network whose policy is several independent choices: among how many actions each is."""
    found: tuple[int, ...] | None = getattr(network, "action_sizes", None)
    return found


def _phi(network: Network, obs: Tensor) -> Tensor:
    if isinstance(network, nn.Module | Parts):
        return features(network, obs)
    return first_tensor(run(network, obs)).flatten(1)


def _policies(network: Network, obs: Tensor) -> list[Distribution]:
    """The network's policy, or those of its independent choices."""
    output = run(network, obs)
    if isinstance(output, Distribution):
        return [output]
    spread = log_std(network)
    if spread is not None:
        return [Independent(Normal(first_tensor(output), spread.exp()), 1)]
    logits = first_tensor(output)
    parts = logits.split(list(action_sizes(network) or logits.shape[-1:]), dim=-1)
    return [Categorical(logits=part, validate_args=False) for part in parts]
