"""Environments: `make(EnvSpec.resolve({"env_id": "Breakout-v5"}), num_envs=8, seed=1)` steps eight games.

Every back end holds the contract of `base.py`; `contract.py` checks it, for a user's own environment too.
"""

import importlib

from stablegrad.envs.base import VectorEnv
from stablegrad.envs.episodes import EpisodicEnv
from stablegrad.envs.spec import EnvSpec

__all__ = ["EnvSpec", "make"]

# Imported on use: a run needs one of them, and their packages take seconds or are extras.
_SIMULATORS = {
    "atari": "stablegrad.envs.atari:AtariSimulator",
    "minatar": "stablegrad.envs.minatar:MinAtarSimulator",
    "gym": "stablegrad.envs.single:SingleSimulator",
    "file": "stablegrad.envs.single:SingleSimulator",
    "envpool": "stablegrad.envs.envpool:EnvPoolSimulator",
}


def make(spec: EnvSpec, *, num_envs: int, seed: int, num_threads: int | None = None) -> VectorEnv:
    """`num_envs` environments at the start of their first episodes, seeded from `seed`.

    `num_threads` is for the back ends in C++ (None: one for each core this process may use); it never
    changes what happens. Raises UserError where the environment cannot be built: a missing extra, no ROM, a
    space that no agent here can take.
    """
    module, _, name = _SIMULATORS[spec.backend].partition(":")
    build = getattr(importlib.import_module(module), name)
    simulator = build(spec, num_envs=num_envs, num_threads=num_threads)
    return EpisodicEnv(simulator, seed=seed, max_episode_steps=spec.max_episode_steps)
