"""The promises of a `VectorEnv`, as checks that anybody's environment can be put to.

`violations(factory)` plays random actions and returns one sentence for every broken promise. What it cannot
know is the game itself: that rewards are raw, say, only a comparison with the game played by hand can tell.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import StepBatch, VectorEnv
from stablegrad.envs.border import BrokenPromise
from stablegrad.errors import UserError

NUM_ENVS = 3
"""Environments that are played together."""


class Factory(Protocol):
    """Builds the environments that are checked, as `make` does."""

    def __call__(self, *, num_envs: int, seed: int, num_threads: int | None) -> VectorEnv: ...


class Play(NamedTuple):
    """What one run of a vector environment gave: its first observation, and one StepBatch for each action."""

    first: np.ndarray
    steps: list[StepBatch]


def violations(factory: Factory, *, num_envs: int = NUM_ENVS, steps: int = 200, seed: int = 1) -> list[str]:
    """Sentences that say what is broken; none where every promise is kept.

    What an environment returns is looked at as it comes (`border.py`): one broken promise of that kind ends the checks.
    """
    try:
        return list(dict.fromkeys(_violations(factory, num_envs=num_envs, steps=steps, seed=seed)))
    except BrokenPromise as broken:
        return list(broken.problems)


def _violations(factory: Factory, *, num_envs: int, steps: int, seed: int) -> Iterator[str]:
    env = factory(num_envs=num_envs, seed=seed, num_threads=1)
    try:
        actions = random_actions(env, steps, np.random.default_rng(seed))
        first = env.obs.copy()
        kept: list[StepBatch] = []
        copies: list[StepBatch] = []
        for row in actions:
            kept.append(env.step(row))
            copies.append(copy.deepcopy(kept[-1]))
    finally:
        env.close()
    env.close()  # closing twice does no harm
    play = Play(first, copies)
    yield from _rows(env, play)
    yield from _scores(play)
    if difference(Play(first, kept), play) is not None:
        yield "arrays of a StepBatch are written into by later steps"
    if env.exact_resume:
        yield from _alone(factory, play, actions, seed)
        yield from _again(factory, play, actions, seed)


def random_actions(env: VectorEnv, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform actions [T, B, *]; an infinite bound counts as 1."""
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, (steps, env.num_envs))
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(0, space.nvec, (steps, env.num_envs, *space.shape))
    assert isinstance(space, spaces.Box)
    low, high = np.where(np.isfinite(space.low), space.low, -1.0), np.where(np.isfinite(space.high), space.high, 1.0)
    return rng.uniform(low, high, (steps, env.num_envs, *space.shape)).astype(space.dtype)


def difference(one: Play, other: Play) -> str | None:
    """Where two plays first differ, or None where they are equal bit for bit."""
    if not _equal(one.first, other.first):
        return "the first observation"
    for t, (a, b) in enumerate(zip(one.steps, other.steps, strict=True)):
        for field in fields(StepBatch):
            if not _equal(getattr(a, field.name), getattr(b, field.name)):
                return f"{field.name} of step {t}"
    return None


def _rows(env: VectorEnv, play: Play) -> Iterator[str]:
    """Shapes, types, and which signals may come together."""
    batch = (env.num_envs,)
    shape, dtype = (*batch, *(env.observation_space.shape or ())), env.observation_space.dtype
    for step in play.steps:
        if step.obs.shape != shape or step.obs.dtype != dtype:
            yield f"obs is {step.obs.dtype} {step.obs.shape}, not {dtype} {shape}"
        if not all(env.observation_space.contains(obs) for obs in (*step.obs, *step.final_obs)):
            yield "an observation lies outside the observation space"
        if step.reward.dtype != np.float32 or step.reward.shape != batch or not np.isfinite(step.reward).all():
            yield "reward is not a finite float32 for each environment"
        for name in ("terminated", "truncated", "life_lost"):
            if getattr(step, name).dtype != np.bool_ or getattr(step, name).shape != batch:
                yield f"{name} is not a bool for each environment"
        if (step.terminated & step.truncated).any():
            yield "an episode is both terminated and truncated"
        if (step.terminated & step.life_lost).any():
            yield "life_lost is true where the game ended"
        if len(step.final_obs) != step.ended.sum():
            yield "final_obs has not one row for each episode that ended"


def _scores(play: Play) -> Iterator[str]:
    """Every end, time-outs too, closes a score: the sum of the rewards since the end before it."""
    score = np.zeros(len(play.first))
    length = np.zeros(len(play.first), int)
    for step in play.steps:
        score += step.reward
        length += 1
        ended = np.flatnonzero(step.ended)
        if [end.env for end in step.episodes] != ended.tolist():
            yield "episodes does not name the games that ended"
        for end in step.episodes:
            if not np.isclose(end.score, score[end.env], rtol=1e-5, atol=1e-5) or end.length != length[end.env]:
                yield "a score or length is not that of the whole game"
        score[ended], length[ended] = 0, 0


def _alone(factory: Factory, play: Play, actions: np.ndarray, seed: int) -> Iterator[str]:
    """What an environment plays does not depend on its neighbours."""
    env = factory(num_envs=1, seed=seed, num_threads=1)
    try:
        for t, row in enumerate(actions):
            if not _equal(env.step(row[:1]).obs[0], play.steps[t].obs[0]):
                yield f"what an environment plays depends on its neighbours (obs of step {t})"
                return
    finally:
        env.close()


def _again(factory: Factory, play: Play, actions: np.ndarray, seed: int) -> Iterator[str]:
    """The same seed and actions give the same play, saved and restored on the way or not, with more threads too.

    The moments of saving: in the middle, and just behind the first end, where no row may have been made up.
    """
    first_end = next((t + 1 for t, step in enumerate(play.steps) if step.ended.any()), 1)
    states: dict[int, Any] = {}
    num_envs = actions.shape[1]
    env = factory(num_envs=num_envs, seed=seed, num_threads=2)
    try:
        again = Play(env.obs.copy(), [])
        for t, row in enumerate(actions):
            if t in (first_end, len(actions) // 2):
                states[t] = through_json(env.state_dict())
            again.steps.append(env.step(row))
        where = difference(play, again)
        if where is not None:
            yield f"the same seed and actions under another number of threads give another play ({where})"
    except TypeError as error:
        yield f"its state cannot be stored: {error}"
    finally:
        env.close()
    env = factory(num_envs=num_envs, seed=seed + 1, num_threads=1)
    try:
        for t, state in states.items():
            env.load_state_dict(state)
            restored = Play(env.obs.copy(), [env.step(row) for row in actions[t:]])
            where = difference(Play(play.steps[t - 1].obs, play.steps[t:]), restored)
            if where is not None:
                yield f"restored after {t} steps, it plays on otherwise ({where} behind them)"
    except UserError as error:
        yield f"it cannot be restored: {error}"
    finally:
        env.close()


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    """The state as it comes back from disk: JSON, with arrays kept apart. TypeError for any other leaf."""
    arrays: list[np.ndarray] = []

    def store(leaf: Any) -> dict[str, int]:
        if not isinstance(leaf, np.ndarray):
            raise TypeError(f"{type(leaf).__name__} is neither JSON nor an array")
        arrays.append(leaf.copy())
        return {"__array__": len(arrays) - 1}

    def load(node: dict[str, Any]) -> Any:
        return arrays[node["__array__"]] if "__array__" in node else node

    return json.loads(json.dumps(state, default=store), object_hook=load)


def _equal(one: Any, other: Any) -> bool:
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
