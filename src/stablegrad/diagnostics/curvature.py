"""Curvature of a loss: the trace and the largest eigenvalue of its Hessian, without ever building the
Hessian.

The gradient's graph is built once; every Hessian-vector product is one more backward pass through it. `.grad`
is never touched, the global generators are put back, and the vectors come from a private generator.

`loss_fn` runs the network in the mode that it is in. Buffers that this changes (batch norm in training mode) are put
back where `params` is the module itself; otherwise the closure must not change any.

`params` says of which parameters the Hessian is taken: a module (all its parameters), a dict of tensors or of
such dicts, or a list of tensors. `group="trunk"` keeps those of a module or dict whose name starts with
`trunk.`.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stablegrad.diagnostics.purity import private_generator, undisturbed
from stablegrad.errors import UserError, nearest

LossFn = Callable[[], Tensor]
ParamTree = nn.Module | Mapping[str, Any] | Iterable[Tensor]


class Estimate(NamedTuple):
    """An estimated number and how far it may be off, both in the units of the loss / weight^2.

    `standard_error` is the standard error of the mean for a sampled number, and for an eigenvalue the length
    of the residual ||H v - value * v||, within which a true eigenvalue lies.
    """

    value: float
    standard_error: float


def hessian_trace(
    loss_fn: LossFn,
    params: ParamTree,
    *,
    probes: int = 100,
    generator: torch.Generator | None = None,
    group: str | None = None,
) -> Estimate:
    """Trace of the Hessian of `loss_fn()`: mean of z^T H z over `probes` Rademacher vectors z (Hutchinson,
    1990).

    The error is the standard error of that mean: exactly 0 for a diagonal Hessian, NaN from a single probe.
    Raises UserError when the loss does not depend on the parameters through autograd.
    """
    if probes < 1:
        raise UserError(f"hessian_trace needs at least one probe vector, got probes={probes}")
    with _unchanged(params):
        hessian = _Hessian(loss_fn, params, group)
        draws = private_generator(generator, hessian.device)
        samples = []
        for _ in range(probes):
            z = hessian.zeros().bernoulli_(0.5, generator=draws).mul_(2.0).sub_(1.0)
            samples.append(torch.dot(z, hessian @ z))
    quadratic = torch.stack(samples).double().cpu()
    return Estimate(quadratic.mean().item(), (quadratic.std() / probes**0.5).item() if probes > 1 else math.nan)


def hessian_top_eigenvalue(
    loss_fn: LossFn,
    params: ParamTree,
    *,
    iterations: int = 30,
    tolerance: float = 1e-4,
    generator: torch.Generator | None = None,
    group: str | None = None,
) -> Estimate:
    """The Hessian eigenvalue of largest magnitude, with its sign, by Lanczos with full reorthogonalisation.

    Stops when the residual falls below `tolerance * |value|`, when the Krylov space is exhausted, or after
    `iterations` products; keeps one vector of the size of the parameters for each. 0 with error 0 when the
    Hessian is zero (where a power iteration divides 0 by 0). Source: Golub & Van Loan, Matrix Computations,
    10.3. Raises UserError when the loss does not depend on the parameters through autograd.
    """
    if iterations < 1:
        raise UserError(f"hessian_top_eigenvalue needs at least one iteration, got iterations={iterations}")
    with _unchanged(params):
        hessian = _Hessian(loss_fn, params, group)
        start = hessian.zeros().normal_(generator=private_generator(generator, hessian.device))
        return _top_ritz_value(lambda v: hessian @ v, start / start.norm(), iterations=iterations, tolerance=tolerance)


def _top_ritz_value(
    product: Callable[[Tensor], Tensor], start: Tensor, *, iterations: int, tolerance: float
) -> Estimate:
    """Largest Ritz value in magnitude of a symmetric operator on the Krylov space of the unit vector `start`.

    H Q = Q T + beta_k q_{k+1} e_k^T with T tridiagonal (alpha on the diagonal, beta beside it); the residual
    of a Ritz pair (theta, Q s) is beta_k |s_k|.
    """
    basis = start.unsqueeze(0)
    alphas: list[float] = []
    betas: list[float] = []
    for _ in range(min(iterations, start.numel())):
        image = product(basis[-1])
        length = image.norm().item()
        alphas.append(torch.dot(basis[-1], image).item())
        # Once is not enough in floating point; twice is (Parlett's "twice is enough").
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        beta = image.norm().item()
        tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
        if betas:
            beside = torch.tensor(betas, dtype=torch.float64)
            tridiagonal += torch.diag(beside, 1) + torch.diag(beside, -1)
        if not math.isfinite(length):
            return Estimate(math.nan, math.nan)
        values, vectors = torch.linalg.eigh(tridiagonal)
        top = int(values.abs().argmax())
        found = Estimate(values[top].item(), beta * abs(vectors[-1, top].item()))
        exhausted = beta <= 10 * torch.finfo(start.dtype).eps * length
        if exhausted or found.standard_error <= tolerance * abs(found.value):
            break
        betas.append(beta)
        basis = torch.cat([basis, (image / beta).unsqueeze(0)])
    return found


def _unchanged(params: ParamTree) -> contextlib.AbstractContextManager[None]:
    return undisturbed(*((params,) if isinstance(params, nn.Module) else ()), evaluation=False)


class _Hessian:
    """`H @ v` for flat vectors v over the chosen parameters."""

    def __init__(self, loss_fn: LossFn, params: ParamTree, group: str | None) -> None:
        self._params = select(params, group)
        with torch.enable_grad():
            loss = loss_fn()
            if not loss.requires_grad:
                raise UserError("the loss has no gradient: compute it from these parameters, without no_grad or detach")
            gradients = torch.autograd.grad(
                loss, self._params, create_graph=True, allow_unused=True, materialize_grads=True
            )
        # A gradient that does not depend on the parameters (a linear or dead part of the loss) has a zero
        # Hessian row.
        self._curved = [gradient for gradient in gradients if gradient.requires_grad]
        self._kept = [gradient.requires_grad for gradient in gradients]

    @property
    def device(self) -> torch.device:
        return self._params[0].device

    def zeros(self) -> Tensor:
        return self._params[0].new_zeros(sum(p.numel() for p in self._params))

    def __matmul__(self, vector: Tensor) -> Tensor:
        if not self._curved:
            return torch.zeros_like(vector)
        pieces = torch.split(vector, [p.numel() for p in self._params])
        directions = [piece.view_as(p) for piece, p, kept in zip(pieces, self._params, self._kept, strict=True) if kept]
        products = torch.autograd.grad(
            self._curved,
            self._params,
            directions,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([product.reshape(-1) for product in products])


def select(params: ParamTree, group: str | None = None) -> list[Tensor]:
    """The tensors of `params` that require gradients, only those under the name `group` if one is given.

    Raises UserError when there is none, or when unnamed tensors are asked for a group.
    """
    if isinstance(params, nn.Module):
        named: dict[str, Tensor] = dict(params.named_parameters())
    elif isinstance(params, Mapping):
        named = _flat(params)
    else:
        named = {f"{index}": tensor for index, tensor in enumerate(params)}
        if group is not None:
            raise UserError(f"group '{group}' needs named parameters: pass the module or a dict instead of a list")
    if group is not None:
        known = {name.rsplit(".", depth)[0] for name in named for depth in range(1, name.count(".") + 1)}
        named = {name: tensor for name, tensor in named.items() if name == group or name.startswith(f"{group}.")}
        if not named:
            raise UserError(f"no parameter group '{group}'{nearest(group, known)}; known: {', '.join(sorted(known))}")
    trained = [tensor for tensor in named.values() if tensor.requires_grad]
    if not trained:
        raise UserError("none of the given parameters requires a gradient")
    return trained


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in tree.items():
        if isinstance(value, Tensor):
            flat[prefix + name] = value
        else:
            flat |= _flat(value, f"{prefix}{name}.")
    return flat
