"""What an algorithm is, and nothing else. Agents never see optimizers, probes, writers or interventions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from stablegrad.envs.base import StepBatch
from stablegrad.nn.spec import NetworkSpec

Params = Mapping[str, Mapping[str, Tensor]]
"""Parameter group -> parameter name -> tensor; what `loss` is a pure function of."""

Batch = Mapping[str, Tensor]
"""Minibatch fields by name, all on the agent's device; `obs` is always among them."""


class NonFinite(Exception):
    """A policy, a loss or a gradient that is not finite; the parameters are still those from before."""


@dataclass(frozen=True, kw_only=True)
class AgentSetup:
    """What an agent is told about its surroundings.

    `total_steps` counts agent steps over all environments; schedules are fractions of it.
    `seed` seeds every generator the agent owns (initialisation, exploration, minibatches). Where `learns` is False
    only networks and `evaluate` are wanted: what is large and only for learning need neither be built nor loaded.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    num_envs: int
    total_steps: int
    network: NetworkSpec
    seed: int
    reward_clip: bool = False
    life_loss_ends: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    learns: bool = True

    def seeds(self, count: int) -> list[int]:
        """Independent seeds for the generators that an agent owns."""
        return [
            int(seed) for seed in np.random.SeedSequence(self.seed).generate_state(count, np.uint64) >> np.uint64(1)
        ]

    def learning_reward(self, reward: np.ndarray) -> np.ndarray:
        """The reward that targets are made of: clipped to -1 … 1 where the protocol says so, else as it came."""
        return np.clip(reward, -1, 1) if self.reward_clip else reward


class LossOutput(NamedTuple):
    """`loss` is a scalar; `features` [N, D] feed the head; `metrics` are detached scalars by catalogue name.

    Everything else that `after_update` needs of this update (new priorities, say) is in `extras`.
    """

    loss: Tensor
    features: Tensor
    metrics: dict[str, Tensor]
    extras: dict[str, Tensor] = {}  # noqa: RUF012 - never mutated


class Footprint(NamedTuple):
    """What a run of an algorithm holds in memory, at the least, so that the impossible is refused beforehand.

    So many `networks` of the configured size (target networks are some), each with so many `outputs`, which the flags
    `widens_with` multiply; `experience` in bytes, and `grows_with` the flags that it grows with. A replay is not
    counted: it says itself how much of it would fit.
    """

    outputs: int = 1
    networks: int = 1
    widens_with: tuple[str, ...] = ()
    experience: int = 0
    grows_with: tuple[str, ...] = ()


class Algorithm(ABC):
    """What can be trained: parameter groups, where batches come from, and their loss.

    One update follows from each batch of `batches()`, with `after_update` behind it.
    """

    Config: ClassVar[type]
    """A frozen dataclass of the algorithm's own hyper-parameters, named as their flags."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """The values the algorithm wants for shared flags (`num_envs`, `learning_rate`, …)."""

    published_behaviour: ClassVar[Mapping[str, Any]] = {}
    """What `--faithful` sets, by flag."""

    groups: dict[str, nn.Module]
    """The trained modules, in any order: one optimizer each. An update whose loss gives a group no gradient leaves it
    as it is."""

    @classmethod
    def check(cls, **sections: Any) -> list[str]:
        """What is wrong with a whole configuration (its sections by name), one sentence each."""
        return []

    @classmethod
    def remarks(cls, **sections: Any) -> list[str]:
        """What is odd about a configuration that can run all the same, one sentence each: told before it starts."""
        return []

    @classmethod
    def total_steps(cls, **sections: Any) -> int:
        """The length of a run, in the unit that its rows and checkpoints count."""
        return sections["budget"].total_timesteps

    @classmethod
    def footprint(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **sections: Any
    ) -> Footprint:
        """What a run with this configuration (its sections by name) holds in memory in these spaces."""
        return Footprint()

    @property
    def boundary(self) -> bool:
        """True where the agent holds no half-filled rollout: a cheap moment for a checkpoint."""
        return True

    @property
    def storage_bytes(self) -> int:
        """Bytes of experience that a checkpoint holds by the end of the run, beside networks and optimizers."""
        return 0

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Minibatches to learn from now; empty while there is nothing to learn from."""

    @abstractmethod
    def loss(self, params: Params, batch: Batch, generator: torch.Generator) -> LossOutput:
        """Pure in `params`, `batch` and `generator`: probes differentiate it, so it changes nothing."""

    def after_update(self, output: LossOutput, batch: Batch) -> None:  # noqa: B027 - most agents have nothing to do
        """Target networks, priorities: what follows an optimizer step."""

    def probe_batch(self, rows: int) -> Batch | None:
        """A batch of up to `rows` rows for probes to look at, found without changing any state of the agent.

        None where the newest minibatches, put together, are as good.
        """
        return None

    def probe_inputs(self, group: str, batch: Batch) -> Tensor | tuple[Tensor, ...] | None:
        """What probes call the group's module with: a tensor [N, *], or several, all with a row for each of `batch`.

        None where the module is no function of a batch, or is not to be probed.
        """
        return batch["obs"]

    def optimizer_settings(self, group: str) -> Mapping[str, Any]:
        """Where a group's optimizer differs from the run's, by flag: `{"optimizer": "sgd", "learning_rate": 0.1}`."""
        return {}

    def learning_rate_factor(self, group: str) -> float:
        """What the group's learning rate is multiplied by at the next update (annealing)."""
        return 1.0

    def metrics(self) -> dict[str, float]:
        """Scalars of the agent itself by catalogue name (epsilon, buffer size), read when a row is logged."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything, as a tree of dicts, lists, numbers, strings, None, tensors and numpy arrays."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, in place where tensors are shared (parameters, buffers)."""


class Agent(Algorithm):
    """An algorithm that acts, built as `Agent(config, setup)`; subclass it, and only it: agents inherit from no agent.

    The loop calls `act` and `observe`, and then learns from `batches()`.
    """

    @abstractmethod
    def __init__(self, config: Any, setup: AgentSetup) -> None:
        """Build networks, storage and generators; draw only from `setup.seeds`."""

    @abstractmethod
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Exploring actions for obs [B, *]."""

    @abstractmethod
    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        """Evaluation actions for obs [B, *]: the greedy policy, with probability epsilon a uniform action."""

    @abstractmethod
    def observe(self, step: StepBatch) -> None:
        """Store what the last action led to."""

    def likeliest(self, obs: np.ndarray, *, generator: torch.Generator) -> np.ndarray:
        """The actions that the policy prefers, for obs [B, *]; what it draws from `generator` changes none of them."""
        return self.evaluate(obs, epsilon=0.0, generator=generator)

    def drawn(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        """Actions for obs [B, *] drawn from the policy; where it is greedy, with probability epsilon a uniform one."""
        return self.evaluate(obs, epsilon=epsilon, generator=generator)


def outputs_for(space: spaces.Space[Any]) -> int:
    """Outputs of a network that has one for each action, or for each dimension of one."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or (1,)))


def positive(config: Any, *names: str) -> list[str]:
    """A sentence for each of the settings that is below 1."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"--{name} {value}: must be at least 1" for name, value in values.items() if value is not None and value < 1
    ]


def fractions(config: Any, *names: str) -> list[str]:
    """A sentence for each of the settings that is not between 0 and 1."""
    values = {name: getattr(config, name) for name in names}
    return [f"--{name} {value}: must be between 0 and 1" for name, value in values.items() if not 0 <= value <= 1]


def rollout_remarks(total: int, *, num_envs: int, num_steps: int) -> list[str]:
    """A sentence where `total` steps fill no rollout, or where more than a hundredth of them fill none at the end."""
    rows, played = num_envs * num_steps, -(-total // num_envs) * num_envs
    tail = played % rows
    if played < rows:
        return [
            f"--total_timesteps {total:,} is less than one rollout (num_envs * num_steps = {rows:,}): no update will be"
            " made and nothing learned"
        ]
    if tail * 100 > played:
        return [
            f"the last {tail:,} of {played:,} steps will be played and not learned from: they fill no rollout"
            f" (num_envs * num_steps = {rows:,})"
        ]
    return []
