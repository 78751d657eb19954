"""Evaluation: a separate pool of environments with its own seeds, whole episodes, raw scores, a fixed epsilon."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from stablegrad.agents.base import Agent
from stablegrad.agents.own import check_actions
from stablegrad.envs import EnvSpec, make
from stablegrad.envs.base import episode_seed

POOL = 8
"""Environments that an evaluation plays in, at most."""
MOST_STEPS = 27_000
"""Agent steps after which an evaluation ends an episode, where neither the caller nor the protocol says another
number: half an hour of an Atari game."""

Progress = Callable[[int, int], None]
"""(episodes ended, agent steps made)."""


@dataclass(frozen=True)
class Evaluation:
    """Raw scores of whole games [episodes], in the order of their seeds.

    `idle_steps` counts, game by game, the steps that changed nothing in what the agent sees: it stands still, or waits
    for something that it does not do. `capped` of the games were ended after `max_episode_steps` steps: their scores
    are of that time. `first_seed` and `first_actions` [length, *], those that were played, are enough to play the first
    of them again.
    """

    scores: tuple[float, ...]
    lengths: tuple[int, ...]
    epsilon: float
    seed: int
    max_episode_steps: int
    capped: int
    first_seed: int
    first_actions: np.ndarray = field(repr=False, compare=False)
    idle_steps: tuple[int, ...] = ()
    step: int | None = None
    """Of the checkpoint that played, where it was one."""

    def summary(self) -> dict[str, float]:
        """mean, standard_error, median, min, max of the scores, and the share of idle steps."""
        scores = np.asarray(self.scores)
        error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else float("nan")
        return {
            "mean": float(scores.mean()),
            "standard_error": float(error),
            "median": float(np.median(scores)),
            "min": float(scores.min()),
            "max": float(scores.max()),
            **({"idle_share": sum(self.idle_steps) / sum(self.lengths)} if self.idle_steps else {}),
        }

    def record(self) -> dict[str, Any]:
        return {
            "scores": list(self.scores),
            "lengths": list(self.lengths),
            "idle_steps": list(self.idle_steps),
            "epsilon": self.epsilon,
            "seed": self.seed,
            "max_episode_steps": self.max_episode_steps,
            "capped": self.capped,
        }


def evaluate(
    agent: Agent,
    spec: EnvSpec,
    *,
    episodes: int,
    seed: int,
    epsilon: float | None = None,
    task: int | None = None,
    max_episode_steps: int | None = None,
    pool: int = POOL,
    progress: Progress | None = None,
) -> Evaluation:
    """Play `episodes` whole games and return their raw scores.

    `epsilon` and `max_episode_steps` (MOST_STEPS where it has none) are the protocol's unless given. `task` (from 0)
    is the one to play of a schedule, and None where there is no schedule. `progress` is told after every step.

    The games' seeds are derived from `seed` apart from those of training, so no evaluation game is a training game.

    Which environment plays which game is fixed beforehand (game k runs in slot k mod pool), so that short games
    are not counted more often than long ones.
    """
    epsilon = spec.eval_epsilon if epsilon is None else epsilon
    limit = max_episode_steps or spec.eval_max_episode_steps or MOST_STEPS
    pool = min(pool, episodes)
    envs = make(dataclasses.replace(spec, max_episode_steps=limit), num_envs=pool, seed=_pool_seed(seed), task=task)
    quota = [len(range(slot, episodes, pool)) for slot in range(pool)]
    played: list[list[tuple[float, int, int]]] = [[] for _ in range(pool)]
    idle = np.zeros(pool, np.int64)
    device = next(iter(next(iter(agent.groups.values())).parameters())).device
    generator = torch.Generator(device=device).manual_seed(seed)
    first_actions: list[np.ndarray] = []
    ended = steps = capped = 0
    try:
        while any(len(games) < wanted for games, wanted in zip(played, quota, strict=True)):
            obs = envs.obs
            actions = agent.evaluate(obs, epsilon=epsilon, generator=generator)
            check_actions(agent, actions, envs.action_space, num_envs=pool, method="evaluate")
            step = envs.step(actions)
            if not played[0]:
                first_actions.append(step.executed(actions)[0])
            idle += (step.next_obs == obs).reshape(pool, -1).all(1)
            for end in step.episodes:
                if len(played[end.env]) < quota[end.env]:
                    played[end.env].append((end.score, end.length, int(idle[end.env])))
                    ended += 1
                    capped += bool(step.truncated[end.env]) and end.length >= limit
                idle[end.env] = 0
            steps += pool
            if progress is not None:
                progress(ended, steps)
    finally:
        envs.close()
    games = [played[k % pool][k // pool] for k in range(episodes)]
    scores, lengths, idle_steps = zip(*games, strict=True)
    return Evaluation(
        scores=tuple(map(float, scores)),
        lengths=tuple(map(int, lengths)),
        idle_steps=idle_steps,
        epsilon=epsilon,
        seed=seed,
        max_episode_steps=limit,
        capped=capped,
        first_seed=episode_seed(_pool_seed(seed), env=0, episode=0),
        first_actions=np.stack(first_actions),
    )


def _pool_seed(seed: int) -> int:
    return int(np.random.SeedSequence((seed, 0xE7A1)).generate_state(1, np.uint32)[0])
