"""Products with upper-triangular matrices, without the half of the arithmetic that multiplies zeros.

torch exposes no triangular product of BLAS, so the work is cut into blocks and the blocks that are zero are
left out. On a GPU one large product is faster than many small ones, so there a matrix is one block.
"""

import torch
from torch import Tensor

_SMALLEST_BLOCK = 128  # below it a processor's matrix product is no longer limited by arithmetic
_MOST_BLOCKS = 12
_SMALLEST_GRAM = 512  # below it the copies cost more than the arithmetic they save


def _block(q: Tensor) -> int:
    n = q.shape[0]
    return max(_SMALLEST_BLOCK, -(-n // _MOST_BLOCKS)) if q.device.type == "cpu" else n


def upper_times(q: Tensor, x: Tensor) -> Tensor:
    """`Q X` for upper-triangular Q [n, n] and X [n, r]."""
    n, block = q.shape[0], _block(q)
    if block >= n:
        return q @ x
    out = torch.empty_like(x)
    for i in range(0, n, block):
        torch.mm(q[i : i + block, i:], x[i:], out=out[i : i + block])
    return out


def transposed_times(q: Tensor, x: Tensor) -> Tensor:
    """`Qᵀ X` for upper-triangular Q [n, n] and X [n, r]."""
    n, block = q.shape[0], _block(q)
    if block >= n:
        return q.mT @ x
    out = torch.empty_like(x)
    for i in range(0, n, block):
        end = min(i + block, n)
        torch.mm(q[:end, i:end].mT, x[:end], out=out[i:end])
    return out


def subtract_upper_times_(q: Tensor, t: Tensor, scale: Tensor) -> None:
    """`Q ← Q - scale triu(T) Q` in place, for upper-triangular Q [n, n], which it stays, and any T [n, n].

    A row of the product needs only the rows of Q from it downwards, so rows are replaced from the top.
    """
    n, block = q.shape[0], _block(q)
    for i in range(0, n, block):
        rows = slice(i, min(i + block, n))
        product = q.new_empty(rows.stop - i, n - i)
        upper = torch.cat((t[rows, rows].triu(), t[rows, rows.stop :]), dim=1)
        for j in range(i, n, block):
            end = min(j + block, n)
            torch.mm(upper[:, : end - i], q[i:end, j:end], out=product[:, j - i : end - i])
        q[rows, i:].addcmul_(product, scale, value=-1)


def gram(x: Tensor) -> Tensor:
    """`X Xᵀ` [n, n] for X [n, r]: the blocks below the diagonal are copies of those above it."""
    n, block = x.shape[0], _block(x)
    if n < _SMALLEST_GRAM or block >= n:
        return x @ x.mT
    out = x.new_empty(n, n)
    for i in range(0, n, block):
        end = min(i + block, n)
        torch.mm(x[i:end], x[i:].mT, out=out[i:end, i:])
        out[end:, i:end] = out[i:end, end:].mT
    return out
