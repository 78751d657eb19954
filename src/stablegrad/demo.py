"""The depth-collapse demonstration: five small runs of PQN that differ in one thing each.

A 12-layer head without layer norm hardly learns in its first thousand optimizer steps; two repairs and two
controls are set beside it. `arms()` are the configurations, `verdict()` says in words what came of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig
from stablegrad.runs.series import read_games, read_series

LAST_GAMES = 200
"""The score of an arm is the mean of this many last training games; a report's, that of the last tenth of the steps."""

SETTINGS: Mapping[str, Any] = {
    "env_id": "MinAtar/Breakout",
    "total_timesteps": 120_000,
    "num_envs": 64,
    "num_steps": 32,
    "num_minibatches": 8,  # of 256
    "update_epochs": 2,
    "learning_rate": 2.5e-4,
    "q_lambda": 0.65,
    "start_e": 1.0,
    "end_e": 0.02,
    "exploration_fraction": 0.2,
    "mlp_depth": "large",  # 5 blocks: a 12-layer head
    "mlp_width": 256,
    "use_ln": False,
    "threads": 1,
}


@dataclass(frozen=True, eq=False)
class Arm:
    """One configuration of the demonstration, named by what differs from the plain one."""

    name: str
    changes: Mapping[str, Any]
    control: bool = False

    def config(self, *, seed: int, **overrides: Any) -> RunConfig:
        return RunConfig.resolve("pqn", {**SETTINGS, **self.changes, "seed": seed, **overrides})


ARMS = (
    Arm("plain, RAdam", {}),
    Arm("multi-skip, RAdam", {"mlp_type": "multiskip_residual"}),
    Arm("plain, Kron", {"optimizer": "kron"}),
    Arm("plain + layer norm, RAdam", {"use_ln": True}, control=True),
    Arm("plain, RAdam, 12 x lr", {"learning_rate": 12 * 2.5e-4}, control=True),
)


@dataclass(frozen=True)
class Outcome:
    """What one arm came to. `score` is over the last LAST_GAMES training games (`games` of them were played);
    `first_layer` and `last_layer` are mean raw gradient norms of the trunk's first and last layer, by its rows."""

    arm: Arm
    score: float
    games: int
    updates: int
    minutes: float
    first_layer: float
    last_layer: float


def outcome(arm: Arm, folder: Path) -> Outcome:
    """Read an arm's run folder."""
    series, games = read_series(folder), read_games(folder)
    # In the order of the network; rows without an update between them hold no norms.
    layers = [name for name in series if name.startswith("gradients/raw/trunk.")]
    if games is None or not layers:
        raise UserError(f"{folder} has no game that ended or no update: give --total_timesteps more, or leave it out")
    return Outcome(
        arm,
        score=float(games.values[-LAST_GAMES:].mean()),
        games=len(games),
        updates=int(series["update"].values[-1]),
        minutes=float(series["seconds"].values[-1]) / 60,
        first_layer=float(series[layers[0]].values.astype(float).mean()),
        last_layer=float(series[layers[-1]].values.astype(float).mean()),
    )


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """What happened, in sentences that follow from the figures and from nothing else."""
    plain, *others = outcomes
    sentences = [
        f"After {plain.updates} optimizer steps the plain 12-layer net scores {plain.score:.1f}"
        f" (mean of its last {LAST_GAMES} training games)."
    ]
    for kind, control in (("repair", False), ("control", True)):
        for other in (o for o in others if o.arm.control is control):
            ratio = other.score / plain.score if plain.score > 0 else float("inf")
            if ratio >= 1.5:
                how = f"learns faster: {other.score:.1f} against {plain.score:.1f}"
            elif ratio > 1 / 1.5:
                how = f"is about level with the plain net: {other.score:.1f}"
            else:
                how = f"learns slower: {other.score:.1f}"
            sentences.append(f"The {kind} '{other.arm.name}' {how}.")
    sentences.append(
        "One seed and fewer than a thousand optimizer steps: this shows early learning, not where the arms end."
        " docs/depth_collapse.md carries the same arms on to 500,000 steps."
    )
    return sentences
