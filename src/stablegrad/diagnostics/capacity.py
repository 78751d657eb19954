"""Can this network still learn something new? The steps that a copy needs to fit random targets."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stablegrad.diagnostics.parts import first_tensor
from stablegrad.diagnostics.purity import preserved_global_generators, private_generator


class Capacity(NamedTuple):
    """`steps` optimizer steps until the error fell to `tolerance`, or the whole budget where `reached` is
    False.

    `error` is the last mean squared error as a share of the targets' variance: 1 is what a constant would
    get.
    """

    steps: int
    reached: bool
    error: float


def capacity(
    module: nn.Module,
    obs: Tensor,
    *,
    budget: int = 500,
    tolerance: float = 0.1,
    learning_rate: float = 1e-3,
    check_every: int = 5,
    generator: torch.Generator | None = None,
) -> Capacity:
    """Steps of Adam on the whole batch that a copy of `module` needs to fit random targets on `obs [N, *]`.

    Target-fitting capacity of Lyle et al., 2022 (definition 1), as a time instead of a final error. The
    target of an input is a + sin(1e5 * w . x) with w normal, one w and one a for each output: high-frequency
    functions of the observation, so that equal observations have equal targets, around the mean a of the
    copy's own outputs, so that large values are not mistaken for lost capacity (Lyle et al., 2023). Fitted
    means an error of `tolerance` times the targets' variance, looked at every `check_every` steps. Compare
    with a fresh network of the same shape: the number depends on the size, the batch and the learning rate.
    """
    with torch.enable_grad(), preserved_global_generators():
        learner = copy.deepcopy(module).eval()
        trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=learning_rate)
        targets = _targets(obs, first_tensor(learner(obs)).detach(), generator)
        variance = (targets - targets.mean(dim=0)).square().mean()
        step = 0
        while True:
            loss = (first_tensor(learner(obs)) - targets).square().mean()
            if step % check_every == 0 or step >= budget:
                error = (loss.detach() / variance).item()
                if error <= tolerance or step >= budget:
                    return Capacity(step, error <= tolerance, error)
            gradients = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            step += 1


def _targets(obs: Tensor, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random targets of the shape of `like [N, *]`, a function of each observation alone."""
    draws = private_generator(generator, torch.device("cpu"))
    # float64, and on the CPU: the phase is large, and must not depend on the device.
    flat = obs.detach().flatten(1).to("cpu", torch.float64)
    weights = torch.randn(flat.shape[1], like[0].numel(), generator=draws, dtype=torch.float64)
    phases = 1e5 * flat @ weights / flat.shape[1] ** 0.5
    return phases.sin().to(like).view_as(like) + like.mean(dim=0)
