"""A scripted environment and a naive replay of whole stacks: what the ring is compared with.

Every transition is known by its action, which is its own number: a unique name under which the naive twin keeps it.
"""

from dataclasses import dataclass, field

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import StepBatch

ACTIONS = spaces.Discrete(2**31)


class ScriptedEnv:
    """B environments that show random frames and end at random: stacks of k frames, or whole observations (k = 1)."""

    def __init__(
        self,
        num_envs: int,
        *,
        seed: int,
        stack: int = 4,
        frame: tuple[int, ...] = (3, 2),
        end_rate: float = 0.2,
        padding: str = "zeros",
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.stack, self.frame = num_envs, stack, frame
        self.end_rate, self.padding = end_rate, padding
        shape = (stack, *frame) if stack > 1 else frame
        self.space = spaces.Box(0, 255, shape, np.uint8)
        self.obs = np.stack([self._first() for _ in range(num_envs)])

    def _frame(self) -> np.ndarray:
        return self.rng.integers(1, 256, self.frame, dtype=np.uint8)

    def _first(self) -> np.ndarray:
        newest = self._frame()
        if self.stack == 1:
            return newest
        older = {"zeros": 0 * newest, "repeat": newest}.get(self.padding)
        frames = [self._frame() if older is None else older for _ in range(self.stack - 1)]
        return np.stack([*frames, newest])

    def _next(self, obs: np.ndarray) -> np.ndarray:
        newest = self._frame()
        return newest if self.stack == 1 else np.concatenate([obs[1:], newest[None]])

    def step(self) -> StepBatch:
        draws = self.rng.random(self.num_envs)
        terminated, truncated = draws < self.end_rate / 2, (draws >= self.end_rate / 2) & (draws < self.end_rate)
        life_lost = ~terminated & (self.rng.random(self.num_envs) < self.end_rate)
        successors = np.stack([self._next(obs) for obs in self.obs])
        ended = terminated | truncated
        self.obs = np.stack([self._first() if end else obs for obs, end in zip(successors, ended, strict=True)])
        reward = self.rng.normal(size=self.num_envs).astype(np.float32) * 3
        return StepBatch(self.obs.copy(), reward, terminated, truncated, life_lost, successors[ended], ())


@dataclass
class Row:
    obs: np.ndarray
    reward: float
    successor: np.ndarray
    terminated: bool
    truncated: bool


@dataclass
class NaiveReplay:
    """Every transition with both of its whole observations, one list for each environment."""

    num_envs: int
    life_loss_ends: bool = False
    clip_rewards: bool = False
    rows: list[list[tuple[int, Row]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = [[] for _ in range(self.num_envs)]

    def add(self, obs: np.ndarray, actions: np.ndarray, step: StepBatch) -> None:
        finals = iter(step.final_obs)
        for b in range(self.num_envs):
            ended = step.terminated[b] or step.truncated[b]
            reward = float(step.reward[b])
            if self.clip_rewards:
                reward = max(-1.0, min(1.0, reward))
            terminated = bool(step.terminated[b] or (self.life_loss_ends and step.life_lost[b]))
            successor = next(finals) if ended else step.obs[b]
            row = Row(obs[b].copy(), reward, successor.copy(), terminated, bool(step.truncated[b]))
            self.rows[b].append((int(actions[b]), row))

    def transitions(self, n_step: int, gamma: float) -> dict[int, tuple]:
        """By action: (obs, n-step reward, successor, discount) of all windows that are complete."""
        found = {}
        for rows in self.rows:
            for start in range(len(rows)):
                reward, discount = 0.0, 1.0
                for number in range(start, min(start + n_step, len(rows))):
                    row = rows[number][1]
                    reward += discount * row.reward
                    discount *= gamma
                    complete = row.terminated or row.truncated or number - start == n_step - 1
                    if complete:
                        discount = 0.0 if row.terminated else discount
                        found[rows[start][0]] = (rows[start][1].obs, reward, row.successor, discount)
                        break
        return found


def play(env: ScriptedEnv, ring, twin: NaiveReplay | None, steps: int, first_action: int = 0) -> list:
    """Play `steps` steps into the ring and its twin; returns what `ring.add` returned."""
    if not ring.begun:
        ring.begin(env.obs)
    changes = []
    for number in range(steps):
        obs = env.obs.copy()
        actions = first_action + number * env.num_envs + np.arange(env.num_envs)
        step = env.step()
        changes.append(ring.add(actions, step))
        if twin is not None:
            twin.add(obs, actions, step)
    return changes


def live_slots(changes: list) -> np.ndarray:
    """The slots that may be sampled, as somebody who follows every change knows them."""
    live: set[int] = set()
    for change in changes:
        live -= set(change.dropped.tolist())
        assert not live & set(change.ready.tolist()), "a slot became ready twice"
        live |= set(change.ready.tolist())
    return np.array(sorted(live), np.int64)
