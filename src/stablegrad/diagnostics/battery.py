"""The two sets of probes that a run takes at its cadence, by catalogue name.

`light` is one forward pass and one small decomposition. `full` adds what needs a loss, or the network of a
moment ago: gradients, GraMa, churn, curvature, the tangent kernel. Numbers are fetched from the device once,
at the end. What cannot be said of a network (the features of one whose head cannot be found, the greedy
action of one that has a single output) is left out.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stablegrad.diagnostics import churn, gradients, ranks, units
from stablegrad.diagnostics.curvature import ParamTree, hessian_top_eigenvalue, hessian_trace, select
from stablegrad.diagnostics.features import summary
from stablegrad.diagnostics.ntk import ntk_effective_rank
from stablegrad.diagnostics.parts import (
    NoHead,
    critic_values,
    features,
    first_tensor,
    run,
    split,
    state_values,
)
from stablegrad.diagnostics.purity import preserved_global_generators, undisturbed
from stablegrad.nn import taps

Values = dict[str, Tensor | float]
Loss = Callable[[], Tensor]

TRACE_PROBES = 5
LANCZOS_ITERATIONS = 8
NTK_INPUTS = 16
"""What `full` spends: each Hessian product costs about two updates, each input of the kernel one small backward."""


def light(module: nn.Module, obs: Tensor) -> dict[str, float]:
    """Units, ranks, features and weight norms of `module` on `obs [N, *]`."""
    return fetch(of_network(module, obs))


def full(
    module: nn.Module,
    obs: Tensor,
    loss_fn: Loss,
    params: ParamTree,
    before_module: nn.Module | None = None,
    generator: torch.Generator | None = None,
    *,
    halves: tuple[Loss, Loss] | None = None,
) -> dict[str, float]:
    """`light`, and GraMa and curvature of `loss_fn()`, tangent kernel, and churn since
    `before_module`.

    `loss_fn` runs `module` on `len(obs)` inputs, by itself or through `functional_call`; the curvature is over
    `params`. `halves` are the same loss on the two halves of those inputs: with them come their cosine and the noise
    scale.
    """
    found = of_network(module, obs) | of_loss(module, loss_fn, rows=len(obs))
    found |= of_curvature(module, loss_fn, params, generator, rows=len(obs))
    found |= of_tangents(module, obs[:NTK_INPUTS])
    if before_module is not None:
        found |= of_change(before_module, module, obs)
    if halves is not None:
        found |= of_halves(module, *halves, batch_size=len(obs))
    return fetch(found)


class OfUpdate(NamedTuple):
    """What one update's norms say: the share of starved layers, and the change of each layer's weights `[L]` relative
    to their size."""

    below_median_share: Tensor
    update_to_weight: Tensor


def of_update(norms: Mapping[str, Tensor], weight_norms: Tensor, *, part: Tensor | None = None) -> OfUpdate:
    """From norms `[L]` at `raw` and `update`, and of the weights before it; `part` `[L]` are the layers it was of."""
    raw = norms["raw"] if part is None else norms["raw"][part]
    share = gradients.below_median_share(raw) if len(raw) else raw.new_full((), torch.nan)
    return OfUpdate(share, norms["update"] / weight_norms)


def of_network(module: nn.Module, obs: Tensor) -> Values:
    """What needs a batch only: units, ranks and spectrum of the features, their summary, weight norms."""
    values: Values = dict(_under("units", units.all_shares(units.statistics(module, obs))))
    values["units/batch_size"] = float(len(obs))
    values |= _with_total("weights/norm", layer_weights(module))
    with contextlib.suppress(NoHead):
        fed = features(module, obs)
        sigma = ranks.singular_values(fed)
        values |= _under("ranks", ranks.all_ranks_of(sigma, rows=len(fed)))
        values |= _under("features", summary(fed))
        values |= _under("features/spectrum", {str(k): share for k, share in ranks.spectrum_of(sigma).items()})
    return values


def depends(loss_fn: Loss, params: ParamTree) -> bool:
    """Whether the loss has a gradient with respect to any of `params`."""
    with preserved_global_generators(), torch.enable_grad():
        loss = loss_fn()
        return loss.requires_grad and any(
            gradient is not None for gradient in torch.autograd.grad(loss, select(params), allow_unused=True)
        )


def of_loss(module: nn.Module, loss_fn: Loss, *, rows: int) -> Values:
    """What needs one gradient of the loss with respect to the units: GraMa. `rows` inputs make the loss."""
    means = units.gradient_means(module, loss_fn)
    inactive = units.shares({name: units.weak_of(mean, tau=units.GRAMA_TAU) for name, mean in means.items()})
    return {**_under("units/grama", inactive), "units/grama_batch_size": float(rows)}


def of_gradients(module: nn.Module, loss_fn: Loss) -> Values:
    """Norm of the gradient of each layer's weight, raw, and of all parameters together; the share of starved layers.

    A run's learner logs these of the updates that it makes; this is for networks that nobody trains just now.
    """
    trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    all_norms = dict(zip(trained, gradients.norms(_gradients(module, loss_fn, trained)), strict=True))
    layers = {layer: all_norms[name] for layer, name in taps.layers(module).items() if name in all_norms}
    total = gradients.total_norm(torch.stack([*all_norms.values()]))
    share = gradients.below_median_share(torch.stack([*layers.values()]))
    return {**_under("gradients/raw", {**layers, "total": total}), "gradients/below_median_share": share}


def of_halves(module: nn.Module, first: Loss, second: Loss, *, batch_size: int) -> Values:
    """What two gradients at the same weights say: their cosine by layer and the gradient noise scale."""
    left, right = layer_gradients(module, first), layer_gradients(module, second)
    noise = gradients.noise_scale_of_halves(left, right, batch_size=batch_size)
    cosines = dict(zip(left, gradients.cosines(left, right), strict=True))
    return {
        **_under("gradients/cosine_halves", cosines),
        "gradients/noise_scale": noise.scale,
        "gradients/signal": noise.signal,
        "gradients/noise": noise.noise,
        "gradients/halves_batch_size": float(batch_size),
    }


def of_curvature(
    module: nn.Module,
    loss_fn: Loss,
    params: ParamTree,
    generator: torch.Generator | None,
    *,
    rows: int,
    group: str | None = None,
) -> Values:
    """Trace and largest eigenvalue of the Hessian, each with how far it may be off. `rows` inputs make the loss."""
    with undisturbed(module):
        trace = hessian_trace(loss_fn, params, probes=TRACE_PROBES, generator=generator, group=group)
        top = hessian_top_eigenvalue(loss_fn, params, iterations=LANCZOS_ITERATIONS, generator=generator, group=group)
    return {
        "curvature/hessian_trace": trace.value,
        "curvature/hessian_trace_standard_error": trace.standard_error,
        "curvature/hessian_top_eigenvalue": top.value,
        "curvature/hessian_top_eigenvalue_residual": top.standard_error,
        "curvature/batch_size": float(rows),
    }


def of_tangents(module: nn.Module, obs: Tensor) -> Values:
    """Effective rank of the tangent kernel on `obs`, a few inputs."""
    return {
        "features/ntk_effective_rank": ntk_effective_rank(module, obs),
        "features/ntk_batch_size": float(len(obs)),
    }


def of_change(before: nn.Module, after: nn.Module, obs: Tensor) -> Values:
    """What the updates between two moments changed on `obs`: policy, values, features, and which part did it."""
    old, new = run(before, obs), run(after, obs)
    old_values, new_values = state_values(old), state_values(new)
    values: Values = {
        "churn/value": churn.value_churn_of(old_values, new_values),
        "features/target_drift": (new_values - old_values).mean(),
        "churn/batch_size": float(len(obs)),
    }
    policies = first_tensor(old), first_tensor(new)
    gaussian = churn.log_std(after) is not None
    if not gaussian and policies[0].ndim == 2 and policies[0].shape[1] > 1:
        values["churn/policy"] = churn.policy_churn_of(*policies, churn.action_sizes(after))
    if gaussian or critic_values(old) is not None:
        values["churn/policy_kl"] = churn.policy_kl(before, after, obs)
    with contextlib.suppress(NoHead):
        old_fed, old_head = split(before, obs)
        new_fed, new_head = split(after, obs)
        unchanged = old_head(old_fed)
        values["churn/representation"] = (old_head(new_fed) - unchanged).abs().mean()
        values["churn/head"] = (new_head(old_fed) - unchanged).abs().mean()
        values["churn/representation_cosine"] = churn.representation_cosine_of(old_fed, new_fed)
        values["churn/representation_distance"] = churn.representation_distance_of(old_fed, new_fed)
    return values


def layer_weights(module: nn.Module) -> dict[str, Tensor]:
    """Layer name -> its weight, detached."""
    return {layer: module.get_parameter(name).detach() for layer, name in taps.layers(module).items()}


def layer_gradients(module: nn.Module, loss_fn: Loss) -> dict[str, Tensor]:
    """Layer name -> gradient of the loss with respect to its weight, raw; zeros where there is none."""
    trained = {layer: module.get_parameter(name) for layer, name in taps.layers(module).items()}
    return _gradients(module, loss_fn, {layer: weight for layer, weight in trained.items() if weight.requires_grad})


def fetch(values: Values) -> dict[str, float]:
    """All values as floats, with one transfer from the device."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    device = next((value.device for value in tensors.values() if value.device.type != "cpu"), torch.device("cpu"))
    stacked = torch.stack([value.to(device, torch.float32) for value in tensors.values()]) if tensors else None
    fetched = dict(zip(tensors, [] if stacked is None else stacked.tolist(), strict=True))
    return {name: fetched[name] if name in fetched else float(value) for name, value in values.items()}


def _gradients(module: nn.Module, loss_fn: Loss, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with undisturbed(module), torch.enable_grad():
        found = torch.autograd.grad(loss_fn(), list(params.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(params, found, strict=True))


def _under(family: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{family}/{name}": value for name, value in values.items()}


def _with_total(family: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    norms = gradients.norms(tensors)
    return _under(family, {**dict(zip(tensors, norms, strict=True)), "total": gradients.total_norm(norms)})
