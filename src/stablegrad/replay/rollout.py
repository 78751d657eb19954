"""Fixed-length rollouts of on-policy agents, time-major on a device."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

_NUMBERS_BESIDE = 24
"""Bytes of a step's action, value, reward, discount and what else is stored with an observation, at the least."""


def rollout_bytes(observation_space: spaces.Space[Any], *, num_steps: int, num_envs: int) -> int:
    """What a full rollout takes, at the least, before it is allocated."""
    shape, dtype = observation_space.shape or (), observation_space.dtype or np.float32
    return num_steps * num_envs * (math.prod(shape) * np.dtype(dtype).itemsize + _NUMBERS_BESIDE)


class Rollout:
    """`num_steps` steps of `num_envs` environments: one tensor [T, B, *] for each field.

    The fields are those of the first `add`, which allocates them; agents choose what they need. Observations
    are stored once, as they come (uint8 stays uint8). What a truncated step bootstraps from is stored as a
    value [B], computed when the truncation is seen, so final observations are not kept.
    """

    def __init__(self, num_steps: int, num_envs: int, *, device: torch.device | str = "cpu") -> None:
        self.num_steps = num_steps
        self.num_envs = num_envs
        self.filled = 0
        self._device = torch.device(device)
        self._fields: dict[str, Tensor] = {}

    @property
    def full(self) -> bool:
        return self.filled == self.num_steps

    def __getitem__(self, name: str) -> Tensor:
        """A field's filled rows [t, B, *], a view."""
        return self._fields[name][: self.filled]

    def add(self, **fields: Tensor | np.ndarray) -> None:
        """Store one step: every field [B, *], a tensor on any device or an array.

        ValueError where the rollout is full, or the fields are not those of the first step.
        """
        if self.full:
            raise ValueError(f"the rollout has its {self.num_steps} steps; clear() it first")
        step = {name: torch.as_tensor(value) for name, value in fields.items()}
        if not self._fields:
            self._fields = {name: self._allocate(value) for name, value in step.items()}
        if step.keys() != self._fields.keys():
            raise ValueError(f"the fields are {sorted(self._fields)}, not {sorted(step)}")
        for name, value in step.items():
            field = self._fields[name]
            if value.shape != field.shape[1:]:
                raise ValueError(f"{name} must be {list(field.shape[1:])}, not {list(value.shape)}")
            field[self.filled].copy_(value)
        self.filled += 1

    def clear(self) -> None:
        """Start over; the memory is kept."""
        self.filled = 0

    def minibatches(
        self, *, count: int, epochs: int, generator: torch.Generator, where: Tensor | None = None, **computed: Tensor
    ) -> Iterator[dict[str, Tensor]]:
        """The samples in `count` minibatches of a random order, `epochs` times; fields are [N, *].

        All T * B samples are taken, or those `where` [T, B] is true. `computed` are further fields [T, B, *], such as
        targets. Sizes differ by one at most; where there are fewer samples than minibatches, empty ones are left out.
        A CPU generator gives one order on all devices.
        """
        flat = {name: self[name].flatten(0, 1) for name in self._fields}
        flat |= {name: value.flatten(0, 1) for name, value in computed.items()}
        kept = None if where is None or where.all() else where.flatten().nonzero()[:, 0]
        size = self.filled * self.num_envs if kept is None else len(kept)
        for _ in range(epochs):
            order = torch.randperm(size, generator=generator, device=generator.device).to(self._device)
            for part in (order if kept is None else kept[order]).tensor_split(count):
                if len(part):
                    yield {name: field[part] for name, field in flat.items()}

    def state_dict(self) -> dict[str, Any]:
        """The filled rows."""
        return {"filled": self.filled, "fields": {name: self[name].clone() for name in self._fields}}

    def load_state_dict(self, state: dict[str, Any], **unsaid: Tensor) -> None:
        """Take over a state; `unsaid` are fields, one step [B, *] each, that an earlier version did not store."""
        self.filled = state["filled"]
        fields = state["fields"]
        if fields:  # none where no step was ever stored, which then says what the fields are
            fields = {name: step.expand(self.filled, *step.shape) for name, step in unsaid.items()} | fields
        for name, rows in fields.items():
            self._fields[name] = self._allocate(rows, leading=1)
            self._fields[name][: self.filled].copy_(rows)

    def _allocate(self, like: Tensor, leading: int = 0) -> Tensor:
        """Room for all steps of a field of which `like` is one step (or, with a leading axis, several)."""
        shape = (self.num_steps, *like.shape[leading:])
        return torch.zeros(shape, dtype=like.dtype, device=self._device)
