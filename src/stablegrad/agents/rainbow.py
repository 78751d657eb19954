"""Rainbow: DQN with six extensions, each with a switch of its own; with all of them off it is our DQN.

Hessel et al. 2018 (arXiv:1710.02298): value distributions on fixed atoms (Bellemare et al. 2017), dueling streams
(Wang et al. 2016), noisy layers (Fortunato et al. 2018), Double DQN (van Hasselt et al. 2016), prioritised replay
(Schaul et al. 2016) and n-step returns. Defaults: Castanyer et al. 2025 (arXiv:2506.15544), table 8, with the Adam
eps of the original paper, 1.5e-4; the published code used 1e-8.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call

from stablegrad.agents.base import (
    Agent,
    AgentSetup,
    Batch,
    Footprint,
    LossOutput,
    Params,
    fractions,
    outputs_for,
    positive,
)
from stablegrad.agents.rainbow_network import RainbowNetwork
from stablegrad.agents.replayed import (
    Experience,
    batch_footprint,
    capacity_problems,
    discrete_actions,
    follow_,
    replay_problems,
    replay_remarks,
    target_is_due,
    turns,
    updates_due,
)
from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.nn.noisy import draw_noise
from stablegrad.rl import distributional, exploration, losses, schedules
from stablegrad.settings import setting


@dataclass(frozen=True, kw_only=True)
class RainbowConfig:
    """Rainbow's own hyper-parameters."""

    distributional: bool = setting(True, "learn the distribution of returns on fixed atoms (C51), not their mean")
    dueling: bool = setting(True, "separate trunks for state value and advantages")
    noisy: Literal["all", "head", "off"] = setting(
        "all", "noisy layers: trunks and last layers (as published: depth multiplies them), the last ones, or none"
    )
    double: bool = setting(True, "the trained network chooses the action that the target network values")
    prioritized: bool = setting(True, "sample transitions by how much was left to learn from them")
    n_step: int = setting(3, "steps of reward in a target before it bootstraps; 1 is off")
    buffer_size: int = setting(1_000_000, "transitions that the replay holds, over all environments")
    batch_size: int = setting(32, "transitions an update learns from")
    learning_starts: int = setting(80_000, "steps before the first update")
    train_frequency: int = setting(4, "steps from one update that is due to the next, over all environments")
    gradient_steps: int = setting(1, "updates each time that one is due: more make a replay ratio above 1", since=2)
    target_network_frequency: int = setting(8000, "steps between updates of the target network")
    tau: float = setting(1.0, "share of the trained network that the target network takes over; 1 copies it")
    gamma: float = setting(0.99, "discount factor")
    n_atoms: int = setting(51, "atoms of the distribution")
    v_min: float = setting(-10.0, "smallest atom: no smaller return can be told")
    v_max: float = setting(10.0, "largest atom: no larger return can be told")
    prioritized_replay_alpha: float = setting(0.5, "exponent of the priorities; 0 samples uniformly")
    prioritized_replay_beta: float = setting(0.4, "exponent of the importance weights at the start; 1 at the end")
    prioritized_replay_eps: float = setting(1e-6, "added to every error, so that no transition is lost")
    start_e: float = setting(1.0, "with --noisy off: exploration epsilon at the start")
    end_e: float = setting(0.01, "with --noisy off: exploration epsilon at the end")
    exploration_fraction: float = setting(0.1, "with --noisy off: fraction of the run over which epsilon falls")
    share_frames: bool = setting(True, "keep each frame of stacked images once (false: whole observations)")

    def __post_init__(self) -> None:
        problems = positive(self, "n_step") + replay_problems(self)
        problems += fractions(self, "prioritized_replay_alpha", "prioritized_replay_beta")
        if self.prioritized_replay_eps <= 0:
            problems.append(f"--prioritized_replay_eps {self.prioritized_replay_eps}: must be positive")
        if self.n_atoms < 2 or self.v_min >= self.v_max:
            problems.append("--n_atoms must be at least 2, and --v_min below --v_max")
        for needed, used, names in (
            ("--distributional", self.distributional, ("n_atoms", "v_min", "v_max")),
            ("--prioritized", self.prioritized, tuple(f"prioritized_replay_{p}" for p in ("alpha", "beta", "eps"))),
            ("--noisy off", self.noisy == "off", ("start_e", "end_e", "exploration_fraction")),
        ):
            changed = [name for name in names if getattr(self, name) != getattr(RainbowConfig, name)]
            problems += [] if used else [f"--{name} has no effect without {needed}" for name in changed]
        if problems:
            raise UserError(problems)


class Rainbow(Agent):
    """A network and its target, a replay, and two generators: one explores, one draws noise for acting and targets."""

    Config = RainbowConfig
    defaults: ClassVar = {
        "env_id": "Breakout-v5",
        "protocol": "cleanrl",
        "num_envs": 1,
        "learning_rate": 6.25e-5,
        "optimizer": "adam",
        "optimizer_eps": 1.5e-4,
        "use_ln": False,
    }
    published_behaviour: ClassVar = {"optimizer_eps": 1e-8, "lr_scale": 1.0, "conv_view": "published"}

    @classmethod
    def check(cls, **sections: Any) -> list[str]:
        config = sections["agent"]
        problems = capacity_problems(config.buffer_size, sections["budget"].num_envs, config.n_step)
        if config.noisy == "all" and sections["network"].use_spectral_norm:
            problems.append("--use_spectral_norm divides plain weights: it needs --noisy head or --noisy off")
        if config.noisy != "off" and sections["network"].head_init != "orthogonal":
            problems.append("--head_init: noisy last layers begin as their paper says, so it needs --noisy off")
        return problems

    @classmethod
    def remarks(cls, **sections: Any) -> list[str]:
        return replay_remarks(sections["agent"], sections["budget"])

    @classmethod
    def footprint(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **sections: Any
    ) -> Footprint:
        config = sections["agent"]
        outputs = outputs_for(action_space) * (config.n_atoms if config.distributional else 1)
        footprint = batch_footprint(observation_space, batch_size=config.batch_size, outputs=outputs)
        return footprint._replace(widens_with=("n_atoms",))

    def __init__(self, config: RainbowConfig, setup: AgentSetup) -> None:
        self.config, self.setup = config, setup
        n_actions = discrete_actions("rainbow", setup.action_space)
        init, explore, sample, noise = setup.seeds(4)
        self.experience = Experience(
            setup,
            capacity=config.buffer_size,
            gamma=config.gamma,
            n_step=config.n_step,
            share_frames=config.share_frames,
            alpha=config.prioritized_replay_alpha if config.prioritized else None,
            epsilon=config.prioritized_replay_eps,
            seed=sample,
        )
        self.network = RainbowNetwork(
            setup.network,
            setup.observation_space,
            n_actions,
            atoms=torch.linspace(config.v_min, config.v_max, config.n_atoms) if config.distributional else None,
            dueling=config.dueling,
            noisy=config.noisy,
            generator=torch.Generator().manual_seed(init),
        ).to(setup.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.groups = {"q": self.network}
        self._explore = torch.Generator().manual_seed(explore)
        self._noise = torch.Generator().manual_seed(noise)
        self.steps = self.updates = 0

    @property
    def storage_bytes(self) -> int:
        return self.experience.bytes_at_end

    @property
    def epsilon(self) -> float:
        """The exploration rate of the next action: 0 where noisy layers explore."""
        c = self.config
        duration = c.exploration_fraction * self.setup.total_steps
        return schedules.linear(self.steps, start=c.start_e, end=c.end_e, duration=duration) * (c.noisy == "off")

    @property
    def beta(self) -> float:
        """The exponent of the importance weights; it reaches 1 at the end of the run."""
        start = self.config.prioritized_replay_beta
        return schedules.linear(self.steps, start=start, end=1.0, duration=self.setup.total_steps)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Noise is drawn anew for every step, one draw for all environments."""
        self.experience.begin(obs)
        q = self._drawn(self.network, torch.as_tensor(obs, device=self.setup.device))
        self._actions = exploration.epsilon_greedy(q, self.epsilon, self._explore).cpu().numpy()
        return self._actions

    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        """Acts by the mean network, without noise."""
        with torch.no_grad():
            q = self.network(torch.as_tensor(obs, device=self.setup.device))
        return exploration.epsilon_greedy(q, epsilon, generator).cpu().numpy()

    def observe(self, step: StepBatch) -> None:
        self.experience.add(self._actions, step)
        self.steps += self.setup.num_envs

    def batches(self) -> Iterator[Batch]:
        c = self.config
        due = updates_due(self.steps, self.setup.num_envs, every=c.train_frequency, after=c.learning_starts)
        for moment in turns(due, c.gradient_steps) if len(self.experience) else ():
            self._moment = moment
            data = self.experience.sample(c.batch_size, beta=self.beta)
            yield {**data, "targets": self._targets(data)}

    def probe_batch(self, rows: int) -> Batch:
        kept = self._noise.get_state()
        data = self.experience.peek(rows, seed=self.steps)
        batch = {**data, "targets": self._targets(data)}
        self._noise.set_state(kept)
        return batch

    @torch.no_grad()
    def _targets(self, data: Batch) -> Tensor:
        """Targets [N], or [N, atoms]; the network that chooses and the one that values have noise of their own."""
        outputs, _ = self._drawn(self.target, data["next_obs"], whole=True)
        q = self.target.values(outputs)
        selector = self._drawn(self.network, data["next_obs"]) if self.config.double else q
        rewards, discounts, atoms = data["rewards"], data["discounts"], self.target.atoms
        if atoms is None:
            return losses.q_targets(rewards, discounts, q, selector)
        best = outputs[torch.arange(len(outputs)), exploration.greedy(selector)].softmax(-1)
        return distributional.project(atoms, best, rewards[:, None] + discounts[:, None] * atoms)

    def loss(self, params: Params, batch: Batch, generator: torch.Generator) -> LossOutput:
        """Weighted cross-entropy to the projected distributions, or squared error; noise is drawn from `generator`.

        Priorities are KL(target || prediction), as in Hessel et al. 2018, or absolute errors.
        """
        noisy = {**params["q"], **draw_noise(self.network, generator)}
        outputs, features = functional_call(self.network, noisy, (batch["obs"],), {"whole": True})
        chosen, targets = outputs[torch.arange(len(outputs)), batch["actions"]], batch["targets"]
        if self.network.atoms is None:
            each, errors = losses.regression(chosen, targets), (chosen - targets).abs()
            means = [chosen, targets]
        else:
            each = distributional.cross_entropy(targets, chosen)
            errors = (each - torch.special.entr(targets).sum(-1)).clamp(min=0)
            means = [distributional.mean(self.network.atoms, p) for p in (chosen.softmax(-1), targets)]
        metrics = {
            "losses/td_loss": each.mean(),
            "losses/q_values": means[0].mean(),
            "losses/targets_mean": means[1].mean(),
            "losses/priority_mean": errors.mean(),
        }
        detached = {name: value.detach() for name, value in metrics.items()}
        return LossOutput((batch["weights"] * each).mean(), features, detached, {"errors": errors.detach()})

    def after_update(self, output: LossOutput, batch: Batch) -> None:
        c = self.config
        self.updates += 1
        self.experience.prioritise(batch["slots"], output.extras["errors"])
        if target_is_due(self._moment, c):
            follow_(self.target, self.network, c.tau)

    def metrics(self) -> dict[str, float]:
        ratio = self.updates * self.config.batch_size / max(1, self.steps)
        values = {"train/epsilon": self.epsilon, "replay/size": len(self.experience), "replay/ratio": ratio}
        if self.experience.priorities is not None:
            values |= {"train/beta": self.beta, "replay/max_priority": self.experience.priorities.largest}
        return values

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "experience": self.experience.state_dict(),
            "explore": self._explore.get_state(),
            "noise": self._noise.get_state(),
            "steps": self.steps,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.experience.load_state_dict(state["experience"])
        self._explore.set_state(state["explore"])
        self._noise.set_state(state["noise"])
        self.steps, self.updates = state["steps"], state["updates"]

    @torch.no_grad()
    def _drawn(self, network: RainbowNetwork, obs: Tensor, **options: Any) -> Any:
        """What `network` gives under fresh noise."""
        return functional_call(network, draw_noise(network, self._noise), (obs,), options)
