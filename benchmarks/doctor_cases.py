"""The runs that `doctor_study.py` judges the doctor on: healthy ones, and ones made sick on purpose.

Thresholds are fixed on TUNING and HELD_OUT. FRESH, with other games, sizes and seeds and all four agents, was written
down and trained after that, and is judged once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

HEALTHY = "healthy"

NAMES_THAT_HIT: Mapping[str, frozenset[str]] = {
    "deep plain head": frozenset({"rank_collapse", "vanishing_gradients", "exploding_gradients"}),
    "learning rate x 30": frozenset({"steps_too_large", "exploding_gradients", "value_divergence", "failed"}),
    "frozen encoder": frozenset({"frozen_layers"}),
    "dead ReLUs": frozenset({"dead_units"}),
}
"""What was done to a run -> the findings that name it. Any other warning beside them is not counted, for or against."""

TOO_HIGH = 30

_AGENTS = "benchmarks/doctor_agents.py"
_CATCH = "benchmarks/doctor_games.py:Catch"
_FORAGE = "benchmarks/doctor_games.py:Forage"


@dataclass(frozen=True)
class Case:
    """One run. `truth` is HEALTHY or what was done to it."""

    truth: str
    net: str
    algo: str
    settings: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name of its folder."""
        game = str(self.settings["env_id"]).rpartition("/")[2].rpartition(":")[2]
        agent = self.algo.rpartition(":")[2]
        return f"{agent}-{game}-{self.net}-{self.settings['seed']}-{self.truth}".replace(" ", "_")


@dataclass(frozen=True)
class Design:
    """All cases of one algorithm; `networks` are the healthy ones, `deep` the 12-layer head without norm.

    `sick_name` is what stands behind `Dead` and `Frozen` in the names of doctor_agents.py.
    """

    algo: str
    sick_name: str
    settings: Mapping[str, Any]
    games: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Mapping[str, Any]]
    deep: Mapping[str, Any]
    healthy_seeds: Sequence[int]
    sick_seeds: Sequence[int]

    def cases(self) -> Iterator[Case]:
        for game, own in self.games.items():
            shared = {**_WATCHED, **self.settings, **own, "env_id": game}
            for net, network in self.networks.items():
                for seed in self.healthy_seeds:
                    yield Case(HEALTHY, net, self.algo, {**shared, **network, "seed": seed})
            for seed in self.sick_seeds:
                yield from self._sick(game, {**shared, "seed": seed})

    def _sick(self, game: str, shared: Mapping[str, Any]) -> Iterator[Case]:
        """Every harm once a seed; the harms of a healthy network are done to another one each seed."""
        names = list(self.networks)
        net = names[shared["seed"] % len(names)]
        network = {**shared, **self.networks[net]}
        plain = next(name for name, one in self.networks.items() if "mlp_type" not in one)
        yield Case("deep plain head", "deep", self.algo, {**shared, **self.deep})
        too_high = TOO_HIGH * float(shared["learning_rate"])
        yield Case("learning rate x 30", net, self.algo, {**network, "learning_rate": too_high})
        yield Case("dead ReLUs", plain, f"{_AGENTS}:Dead{self.sick_name}", {**shared, **self.networks[plain]})
        if game.startswith("MinAtar"):
            yield Case("frozen encoder", net, f"{_AGENTS}:Frozen{self.sick_name}", network)
        elif game == _FORAGE:  # whose own observations are flattened, without an encoder
            seen = {**network, "env_id": f"{_FORAGE}Seen", "cnn_type": "minatar"}
            yield Case("frozen encoder", net, f"{_AGENTS}:Frozen{self.sick_name}", seen)


_WATCHED = {"diagnostics": "full", "threads": 1, "checkpoint_every": 10**9}

_SHORT = {"total_timesteps": 16_000, "log_every": 400, "diagnostics_every": 1600}

# Few inputs make more units look dead and ranks look lower: thresholds must hold from 32 of them to 512.
TUNING = (
    Design(
        algo="pqn",
        sick_name="PQN",
        settings={
            **_SHORT,
            "num_envs": 16,
            "num_steps": 64,
            "num_minibatches": 8,
            "learning_rate": 5e-4,
            "exploration_fraction": 0.3,
            "end_e": 0.05,
        },
        games={"MinAtar/Breakout": {}, "CartPole-v1": {"q_lambda": 0.95, "update_epochs": 4}},
        networks={
            "plain": {"mlp_depth": 1, "mlp_width": 64, "use_ln": True, "diagnostics_batch": 32},
            "residual": {"mlp_type": "residual", "mlp_depth": 2, "mlp_width": 128, "use_ln": True},
            "skip": {"mlp_type": "multiskip_residual", "mlp_depth": 2, "mlp_width": 128, "use_ln": True},
        },
        deep={"mlp_depth": 5, "mlp_width": 128, "use_ln": False},
        healthy_seeds=(1, 2),
        sick_seeds=(1, 2),
    ),
    Design(
        algo="ppo",
        sick_name="PPO",
        settings={**_SHORT, "num_envs": 8, "num_steps": 128, "learning_rate": 5e-4},
        games={"MinAtar/Breakout": {}, "CartPole-v1": {}},
        networks={
            "plain": {"mlp_depth": 1, "mlp_width": 64, "use_ln": False, "diagnostics_batch": 32},
            "residual": {"mlp_type": "residual", "mlp_depth": 2, "mlp_width": 128, "use_ln": True},
            "published": {"mlp_depth": "published", "use_ln": False},
        },
        deep={"mlp_depth": 5, "mlp_width": 128, "use_ln": False},
        healthy_seeds=(1, 2),
        sick_seeds=(1, 2),
    ),
)

_REPLAY = {
    "total_timesteps": 12_000,
    "log_every": 400,
    "diagnostics_every": 1500,
    "num_envs": 8,
    "batch_size": 64,
    "train_frequency": 8,
    "learning_starts": 1000,
    "buffer_size": 12_000,
    "target_network_frequency": 200,
    "learning_rate": 1e-3,
}

_EXPLORED = {"exploration_fraction": 0.2, "end_e": 0.05}

_OTHER_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"mlp_depth": 1, "mlp_width": 96, "use_ln": True},
    "dense": {"mlp_type": "densenet", "mlp_depth": 2, "mlp_width": 96, "use_ln": True},
    "skip": {"mlp_type": "multiskip_residual", "mlp_depth": 3, "mlp_width": 192, "use_ln": True},
}

HELD_OUT = (
    Design(
        algo="dqn",
        sick_name="DQN",
        settings={**_REPLAY, **_EXPLORED, "double": True},
        games={"MinAtar/SpaceInvaders": {}, "Acrobot-v1": {}},
        networks=_OTHER_NETWORKS,
        deep={"mlp_depth": 5, "mlp_width": 192, "use_ln": False},
        healthy_seeds=(11, 12, 13),
        sick_seeds=(11, 12, 13),
    ),
    Design(
        algo="rainbow",
        sick_name="Rainbow",
        settings=_REPLAY,
        games={
            "MinAtar/SpaceInvaders": {"noisy": "head"},
            "Acrobot-v1": {**_EXPLORED, "noisy": "off", "v_min": -100.0, "v_max": 0.0},
        },
        networks=_OTHER_NETWORKS,
        deep={"mlp_depth": 5, "mlp_width": 192, "use_ln": False},
        healthy_seeds=(11, 12, 13),
        sick_seeds=(11, 12, 13),
    ),
)

_FRESH_ON_POLICY = {"log_every": 512, "num_envs": 8, "update_epochs": 4, "gamma": 0.95}

_FRESH_REPLAY = {
    "log_every": 400,
    "diagnostics_every": 1600,
    "num_envs": 8,
    "gamma": 0.95,
    "batch_size": 32,
    "train_frequency": 8,
    "learning_starts": 1000,
    "buffer_size": 16_000,
    "target_network_frequency": 250,
    "learning_rate": 5e-4,
}

_FRESH_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"mlp_depth": 1, "mlp_width": 160, "use_ln": True},
    "residual": {"mlp_type": "residual", "mlp_depth": 3, "mlp_width": 160, "use_ln": True},
    "dense": {"mlp_type": "densenet", "mlp_depth": 3, "mlp_width": 64, "use_ln": True},
}

_fresh = partial(Design, networks=_FRESH_NETWORKS, deep={"mlp_depth": 5, "mlp_width": 160, "use_ln": False})

FRESH = (
    _fresh(
        algo="pqn",
        sick_name="PQN",
        settings={
            **_FRESH_ON_POLICY,
            "total_timesteps": 12_288,
            "diagnostics_every": 1536,
            "learning_rate": 5e-4,
            "num_steps": 32,
            "num_minibatches": 8,
            "exploration_fraction": 0.3,
            "end_e": 0.05,
        },
        games={_CATCH: {}, _FORAGE: {}},
        healthy_seeds=(21, 22),
        sick_seeds=(21, 22),
    ),
    _fresh(
        algo="ppo",
        sick_name="PPO",
        settings={
            **_FRESH_ON_POLICY,
            "total_timesteps": 20_480,
            "diagnostics_every": 2048,
            "learning_rate": 1e-3,
            "num_steps": 64,
            "clip_coef": 0.2,
        },
        games={_CATCH: {}, _FORAGE: {}},
        healthy_seeds=(21, 22),
        sick_seeds=(21, 22),
    ),
    _fresh(
        algo="dqn",
        sick_name="DQN",
        settings={**_FRESH_REPLAY, **_EXPLORED, "total_timesteps": 12_000, "double": True},
        games={_CATCH: {}, _FORAGE: {}},
        healthy_seeds=(21,),
        sick_seeds=(23,),
    ),
    _fresh(
        algo="rainbow",
        sick_name="Rainbow",
        settings={**_FRESH_REPLAY, "total_timesteps": 8000},
        games={_CATCH: {**_EXPLORED, "noisy": "off"}, _FORAGE: {"noisy": "head"}},
        healthy_seeds=(21,),
        sick_seeds=(22,),
    ),
)
