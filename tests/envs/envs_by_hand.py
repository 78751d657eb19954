"""The back ends under test, and the naive play by hand that each is compared with."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.base import NOT_PRESSED, EpisodeEnd, StepBatch, episode_seed
from stablegrad.envs.contract import Play

LADDER = f"{Path(__file__).parent / 'ladder_env.py'}:Ladder"


class Hand(NamedTuple):
    """One game as its package gives it: `begin(seed)` -> (obs, lives), `step(action)` -> (obs, reward, end, lives)."""

    begin: Callable[[int], tuple[np.ndarray, int]]
    step: Callable[[int], tuple[np.ndarray, float, bool, int]]


def atari_hand(game: str, **options: Any) -> Hand:
    from ale_py.vector_env import AtariVectorEnv

    env = AtariVectorEnv(game, 1, num_threads=1, reward_clipping=False, max_num_frames_per_episode=10**9, **options)

    def begin(seed):
        obs, info = env.reset(seed=np.array([seed]))
        return obs[0], info["lives"][0]

    def step(action):
        obs, reward, terminated, _, info = env.step(np.array([action]))
        return obs[0], reward[0], terminated[0], info["lives"][0]

    return Hand(begin, step)


def minatar_hand(game: str, buttons: list[int]) -> Hand:
    from minatar import Environment

    env = Environment(game)

    def begin(seed):
        env.seed(seed)
        env.last_action = 0
        env.reset()
        return env.state().astype(np.uint8).transpose(2, 0, 1), 0

    def step(action):
        reward, end = env.act(buttons[action])
        return env.state().astype(np.uint8).transpose(2, 0, 1), reward, end, 0

    return Hand(begin, step)


def gym_hand(env: Any) -> Hand:
    def begin(seed):
        obs, info = env.reset(seed=seed)
        return obs, info.get("lives", 0)

    def step(action):
        obs, reward, terminated, _, info = env.step(action)
        return obs, reward, terminated, info.get("lives", 0)

    return Hand(begin, step)


def cartpole_hand() -> Hand:
    import gymnasium

    return gym_hand(gymnasium.make("CartPole-v1").unwrapped)


def ladder_hand() -> Hand:
    from stablegrad.registry import load_user_object

    return gym_hand(load_user_object(LADDER)())


class BackEnd(NamedTuple):
    values: dict[str, Any]
    steps: int
    by_hand: Callable[[], Hand]


BACK_ENDS = {
    "atari": BackEnd(
        {"env_id": "Breakout-v5", "max_episode_steps": 110, "repeat_action_probability": 0.25,
         "fire_after_life": False}, 150,
        partial(atari_hand, "breakout", repeat_action_probability=0.25),
    ),
    "minatar": BackEnd(
        {"env_id": "MinAtar/Breakout-v1", "max_episode_steps": 12}, 120, partial(minatar_hand, "breakout", [0, 1, 3])
    ),
    "gym": BackEnd({"env_id": "CartPole-v1", "max_episode_steps": 20}, 120, cartpole_hand),
    "file": BackEnd({"env_id": LADDER, "max_episode_steps": 12}, 120, ladder_hand),
}  # fmt: skip


def build(values: dict[str, Any]) -> Callable[..., Any]:
    """The factory that the contract's checks call."""
    return partial(make, EnvSpec.resolve(values))


def play_by_hand(by_hand: Callable[[], Hand], *, actions: np.ndarray, seed: int, limit: int, session: int) -> Play:
    """The Play that the contract demands, one game after the other and without any of the house's machinery.

    `session` is the number of steps that a seed serves (0: one episode; -1 asks for no new seed).
    """
    steps, num_envs = actions.shape[:2]
    rows = [[None] * num_envs for _ in range(steps)]
    firsts = []
    for env in range(num_envs):
        game = by_hand()
        episode, since_seed = 0, 0
        obs, lives = game.begin(episode_seed(seed, env, episode))
        firsts.append(obs)
        score, length = 0.0, 0
        for t in range(steps):
            obs, reward, terminated, left = game.step(int(actions[t, env]))
            score, length, since_seed = score + reward, length + 1, since_seed + 1
            truncated = not terminated and length == limit
            life_lost = not terminated and left < lives
            final, end = None, None
            lives = left
            if terminated or truncated:
                final, end = obs, EpisodeEnd(env, float(score), length)
                episode, score, length = episode + 1, 0.0, 0
                new_seed = since_seed >= session
                since_seed = 0 if new_seed else since_seed
                obs, lives = game.begin(episode_seed(seed, env, episode) if new_seed else -1)
            rows[t][env] = (obs, reward, terminated, truncated, life_lost, final, end)
    return Play(np.stack(firsts), [_batch(row) for row in rows])


def _batch(row: list[Any]) -> StepBatch:
    obs, reward, terminated, truncated, life_lost, finals, ends = zip(*row, strict=True)
    finals = [final for final in finals if final is not None]
    return StepBatch(
        obs=np.stack(obs),
        reward=np.array(reward, np.float32),
        terminated=np.array(terminated, bool),
        truncated=np.array(truncated, bool),
        life_lost=np.array(life_lost, bool),
        final_obs=np.stack(finals) if finals else np.stack(obs)[:0],
        episodes=tuple(end for end in ends if end is not None),
        pressed=np.full(len(row), NOT_PRESSED),
    )
