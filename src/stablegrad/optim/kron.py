"""Kron: PSGD with Kronecker factors, whose whole state can be saved.

The algorithm and its constants are those of kron_torch 0.3.3, the optimizer behind the published results.
Departures, all deliberate:

- the schedule's counters and the seed are in `param_groups`, so `state_dict()` is complete: continuing from
  it is bit-exact, and it loads with `weights_only=True`;
- the noise that fits the preconditioner stays out of the update;
- a convolution is preconditioned as [out, in*kh*kw] (`conv_view="published"` gives the published view);
- a parameter whose gradient is zero everywhere keeps its factors: with nothing to fit, the published rule
  lets them grow without bound, and the first gradient after that overflows;
- no size of gradient that half of float32's range holds overflows: what is squared is first divided by a power of
  two near its largest entry, which changes no digit of what did not overflow before;
- a parameter without elements is left alone;
- nothing is printed, compiled or drawn from the global generator, and no parameter makes the host wait for
  the device.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, get_args, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from stablegrad.errors import UserError, nearest
from stablegrad.optim import psgd

_BALANCE_PROBABILITY = 0.01


@dataclass(slots=True)
class _Moment:
    """What one step of one parameter group draws: everything follows from (seed, group, step)."""

    update: bool
    balance: bool
    seed: int
    generators: dict[torch.device, torch.Generator] = field(default_factory=dict)

    def noise(self, like: Tensor) -> Tensor:
        """N(0, 1) in the shape, dtype and device of `like`."""
        generator = self.generators.get(like.device)
        if generator is None:
            generator = self.generators[like.device] = torch.Generator(like.device).manual_seed(self.seed)
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


class Kron(torch.optim.Optimizer):
    """PSGD Kron: momentum, whitened by one triangular factor per dimension, clipped to an RMS of `clip_rms`.

    Args:
        params: parameters, named parameters or parameter groups; a group may set any option for itself.
        lr: used as given, a float or a tensor of one element. About a third of Adam's is usual.
        b1: decay of the momentum, which is debiased as Adam's is.
        weight_decay: decoupled, for parameters of two or more dimensions only.
        precond_lr: step size of the factors.
        max_size_triangular: longer dimensions get a diagonal factor.
        min_ndim_triangular: tensors of fewer dimensions get diagonal factors.
        update_probability: how often the factors are updated. None is the published schedule (every step at
            first, every 34th in the end, by a deterministic counter); a float fixes it, 0 means never.
        clip_rms: largest root mean square of an update, before the learning rate.
        conv_view: `psgd.matrix_shape`.
        seed: of the noise that fits the factors and of their balancing, about once in 100 updates.

    State of a parameter: `step` (updates so far, on the CPU), `exp_avg` (the momentum, in the parameter's
    shape) and `Q`, a list of factors in float32 (float64 for a float64 parameter). Groups count their own
    `step` and `since_update` (steps since the factors moved).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 3e-4,
        b1: float = 0.9,
        weight_decay: float = 0.0,
        *,
        precond_lr: float = 0.1,
        max_size_triangular: int = 8192,
        min_ndim_triangular: int = 2,
        update_probability: float | None = None,
        clip_rms: float = 1.1,
        conv_view: psgd.ConvView = "out_in",
        seed: int = 0,
    ) -> None:
        options = {
            "lr": lr,
            "b1": b1,
            "weight_decay": weight_decay,
            "precond_lr": precond_lr,
            "max_size_triangular": max_size_triangular,
            "min_ndim_triangular": min_ndim_triangular,
            "update_probability": update_probability,
            "clip_rms": clip_rms,
            "conv_view": conv_view,
            "seed": seed,
        }
        super().__init__(params, options | {"step": 0, "since_update": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        problems = list(_problems(self.param_groups[-1]))
        if problems:
            del self.param_groups[-1]
            raise UserError(problems)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; gradients are left as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            moment = _advance(group, index)
            for p in group["params"]:
                if p.grad is not None and p.numel():
                    self._update(p, p.grad, group, moment)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any], moment: _Moment) -> None:
        if grad.is_sparse:
            raise UserError("Kron does not take sparse gradients; build the embedding with sparse=False")
        shape = psgd.matrix_shape(p.shape, group["conv_view"])
        state = self.state[p] or self._start(p, shape, group)
        step, momentum, factors = state["step"], state["exp_avg"], state["Q"]

        step += 1
        momentum.lerp_(grad, 1 - group["b1"])
        exact = momentum.to(factors[0].dtype)
        scale = psgd.power_of_two(exact).clamp_min(1.0)  # small ones need none: only squares of large ones overflow
        # The debiased momentum is gradient * scale; the update is linear in it, so it is made from the gradient.
        gradient = psgd.as_matrix(exact / (scale * (1 - group["b1"] ** step.item())), shape)
        if moment.balance and len(factors) > 1:
            psgd.balance_(factors)
        if moment.update:
            alive = grad.abs().amax().sign().to(gradient.dtype)
            noise = moment.noise(gradient)
            psgd.update_factors_(factors, gradient, noise, scale=scale, precond_lr=group["precond_lr"] * alive)

        update = psgd.precondition(factors, gradient).reshape(p.shape)
        size = psgd.power_of_two(update)
        update.div_(size)
        scale = scale * size
        rms = update.square().mean().sqrt()
        clipped = torch.minimum(group["clip_rms"] / (rms + 1e-12 / scale), scale)
        if group["weight_decay"] and p.ndim >= 2:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_((update * (group["lr"] * clipped).reshape(())).to(p.dtype))

    def _start(self, p: Tensor, shape: tuple[int, ...], group: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = self.state[p]
        state["step"] = torch.zeros((), dtype=torch.int64)
        state["exp_avg"] = torch.zeros(p.shape, dtype=p.dtype, device=p.device)
        state["Q"] = psgd.identity_factors(
            shape,
            max_size_triangular=group["max_size_triangular"],
            min_ndim_triangular=group["min_ndim_triangular"],
            dtype=torch.promote_types(p.dtype, torch.float32),
            device=p.device,
        )
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, of which everything is copied.

        torch casts what it loads to the parameter's dtype and shares its storage with the dictionary; the
        factors of a half-precision parameter are float32, and two optimizers must not step in one buffer.
        """
        super().load_state_dict(state_dict)
        saved = (key for group in state_dict["param_groups"] for key in group["params"])
        mine = (p for group in self.param_groups for p in group["params"])
        for key, p in zip(saved, mine, strict=True):
            if key in state_dict["state"]:
                state = state_dict["state"][key]
                self.state[p] = {
                    "step": state["step"].cpu().clone(),
                    "exp_avg": state["exp_avg"].to(p.device, copy=True),
                    "Q": [q.to(p.device, copy=True) for q in state["Q"]],
                }


def _advance(group: dict[str, Any], index: int) -> _Moment:
    """Count one step of `group` and say what it does. The factors move once 1 / probability are over."""
    probability = group["update_probability"]
    if probability is None:
        probability = psgd.update_probability(group["step"])
    seed = step_seed(group["seed"], index, group["step"])
    group["step"] += 1
    group["since_update"] += 1
    update = probability > 0 and group["since_update"] >= 1 / probability
    if update:
        group["since_update"] = 0
    return _Moment(update, update and (seed >> 32) < _BALANCE_PROBABILITY * 2**32, seed & 0xFFFFFFFF)


def step_seed(seed: int, group: int, step: int) -> int:
    """64 bits, independent for every (seed, group, step), so that no generator's state needs to be saved.

    The lower half seeds the noise, the upper half decides whether the factors are balanced.
    """
    digest = hashlib.blake2b(f"{seed}/{group}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _problems(group: dict[str, Any]) -> Iterable[str]:
    view, views = group["conv_view"], get_args(psgd.ConvView)
    if view not in views:
        yield f"unknown conv_view '{view}'{nearest(str(view), views)}; known: {', '.join(views)}"
    if not 0 <= group["b1"] < 1:
        yield f"b1 must be in [0, 1), not {group['b1']}"
    if isinstance(group["lr"], Tensor):
        if group["lr"].numel() != 1:
            yield f"lr must be one number, not a tensor of shape {list(group['lr'].shape)}"
    elif not group["lr"] >= 0:
        yield f"lr must not be negative, and is {group['lr']}"
    for name in ("weight_decay", "precond_lr"):
        if not group[name] >= 0:
            yield f"{name} must not be negative, and is {group[name]}"
    if not group["clip_rms"] > 0:
        yield f"clip_rms must be positive, not {group['clip_rms']}"
    probability = group["update_probability"]
    if probability is not None and not 0 <= probability <= 1:
        yield f"update_probability must be in [0, 1] or None (the published schedule), not {probability}"
