"""Runs that no memory holds are refused before anything of them is allocated, with the size that they would need.

The figures are what a run takes at the least: what is refused here would not have run, and what is let through may
still find too little, where much else is at work. Without this the system grants memory that it has not got, and ends
the process when it is written to, which no run can catch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces

from stablegrad.agents import AGENTS
from stablegrad.envs import make
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import UserError
from stablegrad.nn.size import parameters
from stablegrad.nn.spec import NetworkSpec
from stablegrad.optim.info import info
from stablegrad.replay import memory
from stablegrad.runs.config import RunConfig, section_types
from stablegrad.text import in_bytes

_FLOAT = 4
_FRAME = 84 * 84
# What one more environment took, measured (Linux, Python 3.11): 1.4 MB and 49 kB a stacked frame of Atari, 8 kB of
# MinAtar, 2.7 kB of CartPole. Less is counted.
_ATARI_BYTES = 1_000_000
_ATARI_FRAMES = 6
_OTHER_BYTES = 2_000
# What a block of a trunk took beside its parameters, measured: 16 kB without norm, 23 kB with it. Less is counted.
_BLOCK_BYTES = 10_000
_SHAPE = ("cnn_size", "mlp_width", "mlp_depth")


class Need(NamedTuple):
    """A part of what a run takes: bytes, what for, and the settings (flag, value) that it grows with."""

    size: int
    what: str
    settings: Sequence[tuple[str, Any]]


def check_environments(spec: EnvSpec, num_envs: int, *, available: int | None = None) -> None:
    """UserError where `num_envs` environments would not fit in memory (`available` bytes, or what the machine has)."""
    grows_with = [("num_envs", num_envs)]
    each = _OTHER_BYTES
    if spec.backend in ("atari", "envpool"):
        each = _ATARI_BYTES + _ATARI_FRAMES * spec.frame_stack * _FRAME
        grows_with.append(("frame_stack", spec.frame_stack))
    _refuse([Need(num_envs * each, f"{num_envs:,} environments", grows_with)], available)


def check_run(config: RunConfig) -> None:
    """UserError where a run in environments would not fit in memory. One of them is built, for its spaces."""
    if config.env is None or config.budget is None:
        return
    check_environments(config.env, config.budget.num_envs)
    envs = make(config.env, num_envs=1, seed=0)
    try:
        check_learning(config, envs.observation_space, envs.action_space)
    finally:
        envs.close()


def check_network(spec: NetworkSpec, observation_space: spaces.Space[Any], *, available: int | None = None) -> None:
    """UserError where a network alone would not fit in memory."""
    count = parameters(spec, observation_space, 1)
    shape = [(name, getattr(spec, name)) for name in _SHAPE]
    _refuse([Need(count * _FLOAT + spec.blocks * _BLOCK_BYTES, f"{count:,} parameters", shape)], available)


def check_learning(
    config: RunConfig,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    learns: bool = True,
    runs: int = 1,
    available: int | None = None,
) -> None:
    """UserError where networks and experience of `runs` such runs would not fit in the memory of their device.

    Where a run does not `learn`, its networks alone are counted, without gradients, optimizer and experience.
    """
    sections = {name: getattr(config, name) for name in section_types(config.algo)}
    footprint = AGENTS[config.algo].footprint(observation_space, action_space, **sections)
    network = config.network
    count = parameters(network, observation_space, footprint.outputs)
    copies, beside = footprint.networks, ""
    if learns:
        copies += 1 + info(config.optimizer.optimizer).moments
        beside = ", their gradients and the optimizer's state"
    flat = config.flat()
    shape = [(name, flat[name]) for name in (*_SHAPE, *footprint.widens_with)]
    size = copies * count * _FLOAT + footprint.networks * network.blocks * _BLOCK_BYTES
    needs = [Need(runs * size, f"{count:,} parameters{beside}", shape)]
    if learns and footprint.experience:
        grows_with = [(name, flat[name]) for name in footprint.grows_with]
        if flat.get("frame_stack", 1) > 1:  # so does an observation
            grows_with.append(("frame_stack", flat["frame_stack"]))
        needs.append(Need(runs * footprint.experience, "experience", grows_with))
    _refuse(needs, _free_on(torch.device(config.run.device)) if available is None else available)


def _free_on(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.available_bytes()


def _refuse(needs: Sequence[Need], available: int | None) -> None:
    available = memory.available_bytes() if available is None else available
    total = sum(need.size for need in needs)
    if total <= available:
        return
    largest = max(needs, key=lambda need: need.size)
    settings = " ".join(f"--{name} {value}" for name, value in largest.settings)
    raise UserError(
        f"this run would take at least {in_bytes(total)} of memory, and {in_bytes(available)} are free:"
        f" {in_bytes(largest.size)} of it for {largest.what} ({settings})"
    )
