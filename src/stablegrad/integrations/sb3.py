"""A Stable-Baselines3 callback that records a run for `stablegrad doctor`, `watch` and `report`.

    from stablegrad.integrations.sb3 import DiagnosticsCallback

    model.learn(100_000, callback=DiagnosticsCallback("runs/ppo-cartpole"))

PPO, A2C and DQN, as they are. Stable-Baselines3 is not a dependency: it must be installed to import this module.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from stablegrad.errors import UserError
from stablegrad.integrations.recording import Recording, record

_LOGGED = {
    "train/loss": "losses/loss",
    "train/value_loss": "losses/value_loss",
    "train/policy_gradient_loss": "losses/policy_loss",
    "train/policy_loss": "losses/policy_loss",
    "train/approx_kl": "losses/approx_kl",
    "train/clip_fraction": "losses/clip_fraction",
    "train/explained_variance": "losses/explained_variance",
    "train/learning_rate": "train/learning_rate",
}
"""Stable-Baselines3's name -> the catalogue's; only where both mean the same."""

_PARTS = ("policy_loss", "value_loss", "entropy")

_SETTINGS = ("learning_rate", "gamma", "seed", "batch_size", "n_steps", "n_epochs", "max_grad_norm", "buffer_size",
             "learning_starts", "train_freq", "gradient_steps", "target_update_interval", "ent_coef", "vf_coef",
             "gae_lambda")  # fmt: skip


class DiagnosticsCallback(BaseCallback):
    """Writes a run folder at `path` while the model learns: a row every `every` steps (200 in all unless given).

    Probes look at `batch` of the newest observations. Training is as without it, bit for bit. UserError for an
    algorithm or an observation space that it cannot look into.
    """

    def __init__(self, path: str | Path, *, every: int | None = None, batch: int = 512, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.path = Path(path)
        self._every, self._batch = every, batch
        self._recording: Recording | None = None
        self._rollout: np.ndarray | None = None

    def _on_training_start(self) -> None:
        model: Any = self.model
        if not isinstance(
            model.observation_space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
        ):
            raise UserError(f"DiagnosticsCallback needs array observations, not {model.observation_space}")
        config = {name: getattr(model, name) for name in _SETTINGS if hasattr(model, name)}
        environment = self.training_env
        names = environment.get_attr("spec")
        config |= {
            "algo": f"sb3-{type(model).__name__.lower()}",
            "env_id": getattr(names[0], "id", "unknown"),
            "num_envs": environment.num_envs,
            "total_timesteps": model._total_timesteps,
            "network": str(type(model.policy).__name__),
        }
        self._recording = record(
            self.path, _network_of(model), model.policy.optimizer, config=config, every=self._every, batch=self._batch
        )

    def _on_rollout_start(self) -> None:
        self._log()

    def _on_rollout_end(self) -> None:
        # A rollout is wiped before the next one starts.
        if isinstance(self.model, OnPolicyAlgorithm):
            self._rollout = _of_rollout(self.model, self._batch)

    def _on_step(self) -> bool:
        assert self._recording is not None
        for env, info in enumerate(self.locals["infos"]):
            if "episode" in info:
                self._recording.episode(self.num_timesteps, info["episode"]["r"], info["episode"]["l"], env=env)
        return True

    def _on_training_end(self) -> None:
        assert self._recording is not None
        self._log()
        self._recording.close()

    def _log(self) -> None:
        assert self._recording is not None
        logged = self.model.logger.name_to_value
        metrics = {ours: float(logged[theirs]) for theirs, ours in _LOGGED.items() if theirs in logged}
        if "train/entropy_loss" in logged:
            metrics["losses/entropy"] = -float(logged["train/entropy_loss"])
        if "train/loss" not in logged and {f"losses/{part}" for part in _PARTS} <= set(metrics):
            metrics["losses/loss"] = _total_loss(self.model, metrics)
        self._recording.log(self.num_timesteps, self._observations, metrics)

    def _observations(self) -> Tensor:
        stored = _of_replay(self.model, self._batch) if self._rollout is None else self._rollout
        return torch.as_tensor(stored, device=self.model.device)


class _ActorCritic(nn.Module):
    """The networks of an actor-critic policy, from observations [N, *] to (policy [N, A], values [N])."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.shared = policy.share_features_extractor
        if self.shared:
            self.features_extractor = policy.features_extractor
        else:
            self.pi_features_extractor = policy.pi_features_extractor
            self.vf_features_extractor = policy.vf_features_extractor
        self.mlp_extractor = policy.mlp_extractor
        self.action_net, self.value_net = policy.action_net, policy.value_net
        self.training = policy.training
        self._space, self._scaled = policy.observation_space, policy.normalize_images

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        inputs = preprocess_obs(obs, self._space, normalize_images=self._scaled)
        if self.shared:
            acted = valued = self.features_extractor(inputs)
        else:
            acted, valued = self.pi_features_extractor(inputs), self.vf_features_extractor(inputs)
        policy = self.action_net(self.mlp_extractor.forward_actor(acted))
        return policy, self.value_net(self.mlp_extractor.forward_critic(valued)).squeeze(-1)


def _network_of(model: Any) -> nn.Module:
    """What probes look at: the action values' network, or actor and critic as one module."""
    if hasattr(model.policy, "q_net"):
        return model.policy.q_net
    if hasattr(model.policy, "mlp_extractor"):
        return _ActorCritic(model.policy)
    raise UserError(
        f"DiagnosticsCallback looks into PPO, A2C and DQN, not {type(model).__name__}: use"
        " stablegrad.integrations.recording.record with one of its networks and that network's optimizer"
    )


def _total_loss(model: Any, metrics: Mapping[str, float]) -> float:
    """The loss of A2C, which logs only its parts."""
    policy, value, entropy = (metrics[f"losses/{part}"] for part in _PARTS)
    return policy + float(model.vf_coef) * value - float(model.ent_coef) * entropy


def _of_rollout(model: OnPolicyAlgorithm, count: int) -> np.ndarray:
    """`count` observations from all over a full rollout, [N, *]."""
    buffer = model.rollout_buffer
    rows = np.swapaxes(buffer.observations, 0, 1).reshape(-1, *buffer.obs_shape)
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def _of_replay(model: Any, count: int) -> np.ndarray:
    """The `count` newest observations in a replay buffer, [N, *]."""
    buffer = model.replay_buffer
    filled = len(buffer.observations) if buffer.full else buffer.pos
    rows = np.arange(buffer.pos - min(filled, count), buffer.pos) % len(buffer.observations)
    return buffer.observations[rows].reshape(-1, *buffer.obs_shape)
