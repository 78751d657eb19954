"""Published Kron once more, slowly: float64 numpy, dense factors, explicit inverses, one parameter at a time.

Written from the definition, and sharing nothing with the package but the random numbers it is handed.
"""

import math

import numpy as np

FLOAT32_EPS = 2.0**-23


class NaiveKron:
    """`value` after `step(gradient, noise, balance)`; `noise` has the preconditioned shape.

    The faults of the published code can be put back: `noise_in_update`.
    """

    def __init__(
        self,
        value,
        view,
        *,
        lr,
        b1=0.9,
        weight_decay=0.0,
        precond_lr=0.1,
        diagonal=(),
        probability=None,
        noise_in_update=False,
    ):
        self.value = np.array(value, dtype=np.float64)
        self.view = view
        self.lr, self.b1, self.weight_decay, self.precond_lr = lr, b1, weight_decay, precond_lr
        self.probability = probability
        self.noise_in_update = noise_in_update
        self.factors = [np.eye(size) for size in view]
        self.diagonal = [size == 1 or dim in diagonal for dim, size in enumerate(view)]
        self.momentum = np.zeros(view)
        self.steps = 0
        self.waited = 0

    def due(self):
        """Whether the coming step moves the factors."""
        p = self.probability
        if p is None:
            p = min(1.0, max(0.03, math.exp(-0.001 * (self.steps - 500))))
        return self.waited + 1 >= 1 / p

    def step(self, gradient, noise, balance):
        due = self.due()
        self.waited = 0 if due else self.waited + 1
        self.steps += 1
        self.momentum = self.b1 * self.momentum + (1 - self.b1) * np.reshape(gradient, self.view)
        g = self.momentum / (1 - self.b1**self.steps)
        if due and balance and len(self.view) == 2:
            peaks = [np.abs(q).max() for q in self.factors]
            middle = math.sqrt(peaks[0] * peaks[1])
            self.factors = [q * middle / peak for q, peak in zip(self.factors, peaks, strict=True)]
        if due:
            noisy = g + math.sqrt(FLOAT32_EPS) * np.abs(g).mean() * noise
            self.fit(noisy, noise)
            if self.noise_in_update:
                g = noisy
        update = g
        for dim, q in enumerate(self.factors):
            update = along(dim, q.T @ q, update)
        rms = math.sqrt((update**2).mean())
        update = (update * min(1.0, 1.1 / rms)).reshape(self.value.shape)
        if self.value.ndim >= 2:
            update = update + self.weight_decay * self.value
        self.value = self.value - self.lr * update

    def fit(self, g, v):
        a, b = g, v
        for dim, q in enumerate(self.factors):
            a = along(dim, q, a)
            b = along(dim, np.linalg.inv(q).T, b)
        fitted = []
        for dim, q in enumerate(self.factors):
            aa, bb = outer(dim, a), outer(dim, b)
            if self.diagonal[dim]:
                difference, size = np.diag(np.diag(aa - bb)), np.diag(aa + bb).max()
            else:
                difference, size = np.triu(aa - bb), lower_bound(aa + bb)
            fitted.append(q - self.precond_lr * difference @ q / size)
        self.factors = fitted


def along(dim, matrix, tensor):
    """`matrix` applied to one dimension of `tensor`."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, dim)), 0, dim)


def outer(dim, tensor):
    """Sum over all other dimensions of the outer product of `tensor` with itself."""
    rows = np.moveaxis(tensor, dim, 0).reshape(tensor.shape[dim], -1)
    return sum((np.outer(column, column) for column in rows.T), np.zeros((len(rows), len(rows))))


def lower_bound(s):
    """The spectral norm of symmetric `s`, from below: start at its longest column, multiply twice."""
    longest = max(range(len(s)), key=lambda i: float((s[:, i] ** 2).sum()))
    x = s[:, longest] @ s
    return float(np.linalg.norm(s @ (x / np.linalg.norm(x))))
