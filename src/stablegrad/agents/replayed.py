"""What agents that learn from a replay share: when updates fall due, sampled experience, target networks."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.agents.base import AgentSetup, Footprint, fractions, positive
from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.replay.memory import MOST_ROWS, check_memory, estimate_bytes
from stablegrad.replay.prioritized import Priorities
from stablegrad.replay.ring import ReplayRing, Transitions
from stablegrad.text import in_bytes


def updates_due(steps: int, num_envs: int, *, every: int, after: int) -> range:
    """The moments, in steps, of the updates that fell due within the last vector step of `num_envs` environments.

    An update falls due at each multiple of `every` beyond `after`. So B environments make B / every updates a
    vector step on average, and over any span the same moments come by, whatever B is. `steps` counts the last
    vector step.
    """
    first = max(steps - num_envs, after) // every + 1
    return range(first * every, steps + 1, every)


def turns(due: range, gradient_steps: int) -> Iterator[int | None]:
    """One entry for each update of these moments: its moment for the last of those at the same one, else None."""
    for moment in due:
        yield from (None,) * (gradient_steps - 1)
        yield moment


def falls_due(moment: int, *, since: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (since, moment]."""
    return moment // every > since // every


def target_is_due(moment: int | None, config: Any) -> bool:
    """Whether the target network follows after an update with this entry of `turns`."""
    return moment is not None and falls_due(
        moment, since=moment - config.train_frequency, every=config.target_network_frequency
    )


@torch.no_grad()
def follow_(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- tau * online + (1 - tau) * target, parameter by parameter; 1 copies exactly. Buffers are copied."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
    for kept, current in zip(target.buffers(), online.buffers(), strict=True):
        kept.copy_(current)


class Experience:
    """A replay, the priorities of its transitions where it has any, and the generator that samples from it.

    Building it raises UserError, which says what would fit, where the memory does not hold what a run fills of it.
    For an agent that does not learn it is as small as a replay can be, whatever its capacity, and takes over no state.

    `bytes_at_end` is what the run fills of it.
    """

    def __init__(
        self,
        setup: AgentSetup,
        *,
        capacity: int,
        gamma: float,
        n_step: int = 1,
        share_frames: bool = True,
        alpha: float | None = None,
        epsilon: float = 1e-6,
        seed: int,
    ) -> None:
        space, stack = setup.observation_space, None if share_frames else 1
        assert isinstance(space, spaces.Box)
        self._learns = setup.learns
        self.bytes_at_end = 0
        kept: dict[str, Any] = {"num_envs": setup.num_envs, "stack": stack}
        if setup.learns:
            self.bytes_at_end = check_memory(
                space,
                setup.action_space,
                capacity=min(capacity, setup.total_steps),
                prioritized=alpha is not None,
                **kept,
            )
        else:
            capacity = least_capacity(setup.num_envs, n_step)
        try:
            self.replay = ReplayRing(
                space,
                setup.action_space,
                capacity=capacity,
                n_step=n_step,
                gamma=gamma,
                life_loss_ends=setup.life_loss_ends,
                clip_rewards=setup.reward_clip,
                **kept,
            )
            self.priorities = None if alpha is None else Priorities(self.replay.capacity, alpha=alpha, epsilon=epsilon)
        except MemoryError as error:
            whole = estimate_bytes(space, setup.action_space, capacity=capacity, **kept)
            raise UserError(
                f"--buffer_size {capacity}: {in_bytes(whole)} cannot be set aside here, filled or not"
            ) from error
        self._generator = np.random.default_rng(seed)
        self._device = setup.device

    def __len__(self) -> int:
        """How many transitions may be sampled."""
        return len(self.replay)

    def begin(self, obs: np.ndarray) -> None:
        """The first observations [B, *] to act on; called again, it does nothing."""
        if not self.replay.begun:
            self.replay.begin(obs)

    def add(self, actions: np.ndarray, step: StepBatch) -> None:
        """What `actions` [B] on the last observations led to."""
        change = self.replay.add(actions, step)
        if self.priorities is not None:
            self.priorities.follow(change)

    def sample(self, size: int, *, beta: float = 1.0) -> dict[str, Tensor]:
        """`size` transitions on the device: obs, actions, rewards, discounts, next_obs, weights and slots, [N, *].

        `rewards` are n-step returns and `discounts` what their bootstrap value is multiplied by; `weights` undo the
        bias of the priorities with the exponent `beta` and are 1 without any.
        """
        if self.priorities is None:
            weights = np.ones(size, np.float32)
            found = self.replay.sample(size, self._generator)
        else:
            slots, weights = self.priorities.sample(size, beta=beta, rng=self._generator)
            found = self.replay.gather(slots)
        return self._batch(found, weights)

    def _batch(self, found: Transitions, weights: np.ndarray) -> dict[str, Tensor]:
        arrays = {
            "obs": found.obs,
            "actions": found.action,
            "rewards": found.reward,
            "discounts": found.discount,
            "next_obs": found.next_obs,
            "weights": weights,
            "slots": found.slot,
        }
        return {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}

    def peek(self, size: int, *, seed: int) -> dict[str, Tensor]:
        """Up to `size` transitions, drawn uniformly by a generator of the call's own, with weights of 1."""
        found = self.replay.sample(min(size, len(self)), np.random.default_rng(seed))
        return self._batch(found, np.ones(len(found.slot), np.float32))

    def prioritise(self, slots: Tensor, errors: Tensor) -> None:
        """New priorities of `slots` [N] from their absolute errors [N]; nothing without priorities."""
        if self.priorities is not None:
            self.priorities.update(slots.cpu().numpy(), errors.cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        return {
            "replay": self.replay.state_dict(),
            "priorities": None if self.priorities is None else self.priorities.state_dict(),
            "generator": self._generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self._learns:
            return
        self.replay.load_state_dict(state["replay"])
        if self.priorities is not None:
            self.priorities.load_state_dict(state["priorities"])
        self._generator.bit_generator.state = state["generator"]


def replay_problems(config: Any) -> list[str]:
    """What is wrong with the settings that DQN and Rainbow share, one sentence each."""
    problems = positive(
        config, "buffer_size", "batch_size", "train_frequency", "gradient_steps", "target_network_frequency"
    )
    if config.buffer_size > MOST_ROWS:
        problems.append(f"--buffer_size {config.buffer_size}: must be at most {MOST_ROWS}")
    problems += fractions(config, "tau", "gamma", "start_e", "end_e", "exploration_fraction")
    if config.learning_starts < 0:
        problems.append(f"--learning_starts {config.learning_starts}: must not be negative")
    return problems


def batch_footprint(observation_space: spaces.Space[Any], *, batch_size: int, outputs: int) -> Footprint:
    """Two networks, the trained one and its target, and a batch of transitions: observations before and after."""
    shape, dtype = observation_space.shape or (), observation_space.dtype or np.float32
    batch = 2 * batch_size * math.prod(shape) * np.dtype(dtype).itemsize
    return Footprint(outputs=outputs, networks=2, experience=batch, grows_with=("batch_size",))


def least_capacity(num_envs: int, n_step: int) -> int:
    """Transitions of the smallest replay: one window of n steps of every environment, and a row to write."""
    return num_envs * (n_step + 1)


def capacity_problems(capacity: int, num_envs: int, n_step: int) -> list[str]:
    """A sentence where a replay of `capacity` is smaller than the smallest."""
    least = least_capacity(num_envs, n_step)
    if capacity >= least:
        return []
    return [f"--buffer_size {capacity}: {num_envs} environments with {n_step}-step returns need at least {least}"]


def replay_remarks(config: Any, budget: Any) -> list[str]:
    """A sentence where a run of DQN or Rainbow ends before its first update."""
    played = -(-budget.total_timesteps // budget.num_envs) * budget.num_envs
    first = (config.learning_starts // config.train_frequency + 1) * config.train_frequency
    if played >= first:
        return []
    return [
        f"--total_timesteps {budget.total_timesteps:,} ends before the first update, at step {first:,}"
        f" (--learning_starts {config.learning_starts:,}): nothing will be learned"
    ]


def discrete_actions(algo: str, space: spaces.Space[Any]) -> int:
    """How many actions there are; UserError where they are not discrete."""
    if not isinstance(space, spaces.Discrete):
        raise UserError(f"{algo} needs discrete actions, this environment has {space}: use ppo")
    return int(space.n)
