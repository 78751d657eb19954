"""The replay ring: one-step rows of B environments that point into a store of frames."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import StepBatch
from stablegrad.replay.frames import FrameStore
from stablegrad.replay.memory import frame_slots, frame_stack, row_dtype
from stablegrad.replay.nstep import fold
from stablegrad.replay.segments import SegmentedArray


class Transitions(NamedTuple):
    """A sample of N transitions; `slot` says where each lies, for priorities.

    The target is `reward + discount * v(next_obs)`: `reward` [N] is the m-step return, `discount` [N] is γᵐ,
    or 0 at a termination. obs and next_obs are [N, *], action is [N, …].
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    discount: np.ndarray
    slot: np.ndarray


class Change(NamedTuple):
    """What storing a step changed: slots that may be sampled from now on, and slots that lost their row.

    A slot is in both when its old row made place for a new one: drop first.
    """

    ready: np.ndarray
    dropped: np.ndarray


class ReplayRing:
    """Replay of `capacity` transitions from `num_envs` environments stepped together.

    Every frame is stored once: a row holds the addresses of the frames of its observation and of the one
    frame that its successor adds (the true final observation where an episode ended). `stack` is found from
    the space unless given (`frame_stack`).

    Rows are one-step and raw. n-step returns are folded when sampled (`nstep`), so `n_step` and `gamma` may
    be assigned during training; they are settings, and no part of the state. `life_loss_ends`: a lost life
    counts as a termination, though the game plays on. `clip_rewards`: each step's to [-1, 1], before folding.

    Where episodes are very short (under forty steps, for Atari), frames run out before rows do, and a little
    less than `capacity` is kept.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        *,
        capacity: int,
        num_envs: int = 1,
        stack: int | None = None,
        n_step: int = 1,
        gamma: float = 0.99,
        life_loss_ends: bool = False,
        clip_rewards: bool = False,
        key: str = "replay",
    ) -> None:
        self.n_step = n_step
        self.gamma = gamma
        self.num_envs = num_envs
        self.capacity = capacity // num_envs * num_envs
        self._life_loss_ends = life_loss_ends
        self._clip_rewards = clip_rewards
        self._length = capacity // num_envs
        if self._length <= n_step:
            raise ValueError(f"a capacity of {capacity} is too small for {n_step} steps of {num_envs} environments")
        self._stack = frame_stack(observation_space) if stack is None else stack
        self._frames = FrameStore(
            f"{key}/frames",
            frame_slots(observation_space, capacity=self.capacity, num_envs=num_envs, stack=self._stack),
            shape=observation_space.shape,
            dtype=np.dtype(observation_space.dtype),
            stack=self._stack,
        )
        self._rows = SegmentedArray(f"{key}/rows", self._length, (num_envs,), row_dtype(action_space, self._stack))
        # Rows are numbered from the first one ever stored; row r lies at r % length.
        self._count = 0
        self._oldest = 0
        self._pending = np.zeros(num_envs, np.int64)
        """For each environment, the first row whose window is not complete."""
        self._current: np.ndarray | None = None
        """The addresses of the observations to act on, [B, stack]."""

    def __len__(self) -> int:
        """How many transitions may be sampled."""
        return int((self._pending - self._oldest).sum())

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._frames.nbytes + self._rows.data.nbytes

    @property
    def begun(self) -> bool:
        """Whether the observations to act on are known."""
        return self._current is not None

    def begin(self, obs: np.ndarray) -> None:
        """Take the very first observations [B, *]; later ones come with `add`."""
        if self.begun:
            raise ValueError("the replay has begun already; the observations to act on come with add()")
        self._current = self._frames.store(obs)

    def add(self, action: np.ndarray, step: StepBatch) -> Change:
        """Store what `action` [B, …], done on the last observations, led to; or what was pressed in its place."""
        if self._current is None:
            raise ValueError("begin() has to give the replay its first observations")
        ended = np.flatnonzero(step.ended)
        dropped = self._make_room(self.num_envs + len(ended) * self._stack)

        row: np.ndarray = np.empty(self.num_envs, self._rows.data.dtype)
        row["frames"][:, :-1] = self._current
        row["action"] = step.executed(action)
        row["reward"] = step.reward
        row["terminated"] = step.terminated
        row["truncated"] = step.truncated
        row["life_lost"] = step.life_lost
        row["frames"][:, -1] = self._frames.extend(self._current, step.next_obs)
        self._current = row["frames"][:, 1:].copy()
        if len(ended):
            self._current[ended] = self._frames.store(step.obs[ended])
        self._rows.write(self._count % self._length, row)
        self._count += 1
        return Change(self._release(row), dropped)

    def sample(self, size: int, rng: np.random.Generator) -> Transitions:
        """`size` transitions, each uniformly from all that may be sampled, with replacement."""
        counts = self._pending - self._oldest
        ends = counts.cumsum()
        if not ends[-1]:
            raise ValueError("the replay holds no complete transition yet")
        drawn = rng.integers(ends[-1], size=size)
        env = ends.searchsorted(drawn, side="right")
        number = self._oldest + drawn - (ends - counts)[env]
        return self.gather(number % self._length * self.num_envs + env)

    def gather(self, slots: np.ndarray) -> Transitions:
        """The transitions at `slots` [N], folded over `n_step` steps, or those taken so far where fewer."""
        index, env = np.divmod(slots, self.num_envs)
        taken = (self._count - 1 - index) % self._length + 1
        window = (index[:, None] + np.arange(self.n_step)) % self._length
        steps = self._rows.data[window, env[:, None]]
        rewards = steps["reward"].clip(-1, 1) if self._clip_rewards else steps["reward"]
        folded = fold(rewards, self._terminated(steps), steps["truncated"], taken, self.gamma)
        last = steps[np.arange(len(slots)), folded.length - 1]
        # One read into one block of memory: the allocator reuses it, where it would return two to the system.
        obs, next_obs = self._frames.read(np.stack([steps["frames"][:, 0, :-1], last["frames"][:, 1:]]))
        return Transitions(
            obs=obs,
            action=np.ascontiguousarray(steps["action"][:, 0]),
            reward=folded.reward,
            next_obs=next_obs,
            discount=folded.discount,
            slot=slots,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything but the settings, the stored experience as segments (views, not copies)."""
        return {
            "capacity": self.capacity,
            "count": self._count,
            "oldest": self._oldest,
            "pending": self._pending.copy(),
            "current": None if self._current is None else self._current.copy(),
            "rows": self._rows.segments(),
            "frames": self._frames.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of a ring of the same spaces, capacity and environments; settings may be others.

        ValueError where the state is of another capacity or number of environments.
        """
        size = state.get("capacity", self.capacity), len(state["pending"])
        if size != (self.capacity, self.num_envs):
            raise ValueError(
                f"the saved replay is of {size[0]} transitions from {size[1]} environments,"
                f" not of {self.capacity} from {self.num_envs}"
            )
        self._count = state["count"]
        self._oldest = state["oldest"]
        self._pending[:] = state["pending"]
        self._current = None if state["current"] is None else state["current"].copy()
        self._rows.load(state["rows"])
        self._frames.load_state_dict(state["frames"])

    def _terminated(self, rows: np.ndarray) -> np.ndarray:
        """Where nothing is bootstrapped."""
        return rows["terminated"] | rows["life_lost"] if self._life_loss_ends else rows["terminated"]

    def _make_room(self, frames: int) -> np.ndarray:
        """Drop the oldest rows until a row and `frames` frames can be written; returns the dropped slots."""
        first = self._oldest
        while self._oldest < self._count:
            # The oldest frames of the oldest row are the oldest that any row needs.
            needed = self._rows.data["frames"][self._oldest % self._length, :, 0]
            if self._count - self._oldest < self._length and self._frames.room(needed) >= frames:
                break
            self._oldest += 1
        self._pending = np.maximum(self._pending, self._oldest)
        rows = np.arange(first, self._oldest) % self._length
        return (rows[:, None] * self.num_envs + np.arange(self.num_envs)).reshape(-1)

    def _release(self, newest: np.ndarray) -> np.ndarray:
        """The slots whose windows the newest row completed: they span n steps, or the episode ended."""
        ended = self._terminated(newest) | newest["truncated"]
        first = self._pending
        complete = np.maximum(first, self._count - self.n_step + 1)
        self._pending = np.where(ended, self._count, complete)
        counts = self._pending - first
        env = np.arange(self.num_envs).repeat(counts)
        nth = np.arange(len(env)) - (counts.cumsum() - counts).repeat(counts)
        return (first.repeat(counts) + nth) % self._length * self.num_envs + env
