"""Environments: `make(EnvSpec.resolve({"env_id": "Breakout-v5"}), num_envs=8, seed=1)` steps eight games.

Every back end holds the contract of `base.py`; `contract.py` checks it, for a user's own environment too.
"""

import dataclasses
import importlib
from functools import partial
from typing import TYPE_CHECKING

from stablegrad.envs.base import VectorEnv
from stablegrad.envs.episodes import EpisodicEnv, Simulator
from stablegrad.envs.schedule import GameTask, parse_task
from stablegrad.envs.sequence import SequenceEnv
from stablegrad.envs.spec import EnvSpec

if TYPE_CHECKING:
    from stablegrad.envs.presses import Presses

__all__ = ["EnvSpec", "make"]

# Imported on use: a run needs one of them, and their packages take seconds or are extras.
_SIMULATORS = {
    "atari": "stablegrad.envs.atari:AtariSimulator",
    "minatar": "stablegrad.envs.minatar:MinAtarSimulator",
    "gym": "stablegrad.envs.single:SingleSimulator",
    "file": "stablegrad.envs.single:SingleSimulator",
    "envpool": "stablegrad.envs.envpool:EnvPoolSimulator",
}


def make(
    spec: EnvSpec, *, num_envs: int, seed: int, num_threads: int | None = None, task: int | None = None
) -> VectorEnv:
    """`num_envs` environments at the start of their first episodes, seeded from `seed`.

    `num_threads` is for the back ends in C++ (None: one for each core this process may use); it never
    changes what happens. `task` (from 0) plays that one of a schedule only, in the schedule's spaces. Raises UserError
    where the environment cannot be built: a missing extra, no ROM, a space that no agent here can take.
    """
    if spec.task_schedule:
        build = partial(_games_of, spec, num_threads=num_threads)
        presses_of = partial(_presses_of, spec)
        return SequenceEnv(spec, build, presses_of, num_envs=num_envs, seed=seed, only=task)
    simulator = _simulator(spec, num_envs=num_envs, num_threads=num_threads)
    try:
        return EpisodicEnv(simulator, seed=seed, max_episode_steps=spec.max_episode_steps, presses=_presses_of(spec))
    except BaseException:
        simulator.close()
        raise


def _simulator(spec: EnvSpec, *, num_envs: int, num_threads: int | None) -> Simulator:
    if spec.mode is not None or spec.difficulty is not None:
        from stablegrad.envs.atari_switches import SwitchedAtari

        return SwitchedAtari(spec, parse_task(spec.game), num_envs=num_envs)
    module, _, name = _SIMULATORS[spec.backend].partition(":")
    build = getattr(importlib.import_module(module), name)
    return build(spec, num_envs=num_envs, num_threads=num_threads)


def _games_of(spec: EnvSpec, task: GameTask, num_envs: int, *, num_threads: int | None) -> Simulator:
    """The games of one task of a schedule, with nothing changed but the switches of the console."""
    if task.asks_of_console:
        from stablegrad.envs.atari_switches import SwitchedAtari

        return SwitchedAtari(spec, task, num_envs=num_envs)
    return _simulator(dataclasses.replace(spec, env_id=task.env_id), num_envs=num_envs, num_threads=num_threads)


def _presses_of(spec: EnvSpec, task: GameTask | None = None) -> "Presses | None":
    """What is pressed after a lost life, in the game of `task` where there is a schedule."""
    if not spec.fire_after_life:
        return None
    from stablegrad.envs.presses import presses_of

    return presses_of(spec if task is None else dataclasses.replace(spec, env_id=task.env_id))
