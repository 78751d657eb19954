"""What it costs to look at everything that an environment returns, as a share of the time of training.

    python benchmarks/border_cost.py

For each case a short run is trained, and the processor time of a vector step, updates included, is taken. What the
environments returned is recorded and played back, which costs next to nothing: once through `SingleSimulator`, and once
through a twin of it that casts and assigns without looking, as the first version did. The difference is what the border
costs. The two take turns, and the median over the turns counts. Processor time, because other processes on the machine
do not count in it. Writes benchmarks/results/border_cost.json.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from stablegrad.envs import EnvSpec
from stablegrad.envs.episodes import Played
from stablegrad.envs.observations import Observations
from stablegrad.envs.single import SingleSimulator
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import write_json
from stablegrad.runs.folder import RunFolder, describe_machine
from stablegrad.training.contract import StopAfter
from stablegrad.training.loop import Training

RESULTS = Path("benchmarks/results/border_cost.json")
TURNS, STEPS = 31, 200
SHARED: dict[str, Any] = {"threads": 1, "diagnostics": "off", "checkpoint_every": 10**9}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "DQN, CartPole, 1 environment": ("dqn", {"env_id": "CartPole-v1", "learning_starts": 100, "buffer_size": 10_000}),
    "PPO, CartPole, 8 environments": ("ppo", {"env_id": "CartPole-v1"}),
    "PPO, Pendulum, 8 environments": ("ppo", {"env_id": "Pendulum-v1"}),
    "PQN, CartPole, 128 environments": ("pqn", {"env_id": "CartPole-v1"}),
    "PPO, images 84x84x3, 8 environments": ("ppo", {"env_id": "Pictures-v0"}),
}


class Pictures(gymnasium.Env):
    """An environment that shows one picture."""

    observation_space = spaces.Box(0, 255, (84, 84, 3), np.uint8)
    action_space = spaces.Discrete(4)
    picture = np.random.default_rng(0).integers(0, 255, (84, 84, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return self.picture, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.picture, 1.0, self.t == 100, False, {}


class Recorded(gymnasium.Env):
    """Returns what another environment returned, again and again."""

    def __init__(self, env: gymnasium.Env) -> None:
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.first = env.reset(seed=1)
        env.action_space.seed(1)
        self.returned = []
        for _ in range(8):
            self.returned.append(env.step(env.action_space.sample()))
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.first

    def step(self, action: Any) -> Any:
        self.t = (self.t + 1) % 8
        return self.returned[self.t]


class Blind(SingleSimulator):
    """The twin that casts and assigns what comes."""

    def step(self, actions: np.ndarray) -> Played:
        played = Played.empty(self.num_envs, self.observation_space)
        image = len(self.observation_space.shape) == 3
        for i, (border, action) in enumerate(zip(self._envs, self._act(actions), strict=True)):
            obs, played.reward[i], played.terminated[i], played.truncated[i], info = border.env.step(action)
            played.obs[i] = obs.transpose(2, 0, 1) if image else np.asarray(obs).ravel()
            played.lives[i] = info.get("lives", 0)
        return played


def training_step(algo: str, values: dict[str, Any]) -> tuple[float, RunConfig]:
    """Seconds of a vector step of training, its share of the updates included."""
    config = RunConfig.resolve(algo, {**SHARED, **values})
    assert config.budget is not None
    steps = {"dqn": 600, "ppo": 2 * 128, "pqn": 32}[algo]
    with tempfile.TemporaryDirectory() as folder:
        training = Training(config)
        try:
            training.attach(RunFolder.create(Path(folder) / "run", config))
            start = time.process_time()
            training.run(StopAfter(steps))  # type: ignore[arg-type]
            return (time.process_time() - start) / steps, config
        finally:
            training.close()


def step_seconds(simulator: SingleSimulator, actions: np.ndarray) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        simulator.step(actions)
    return (time.process_time() - start) / STEPS


def border_seconds(spec: EnvSpec, num_envs: int) -> float:
    """Seconds that the border adds to a vector step."""
    inner = gymnasium.make(spec.env_id, disable_env_checker=True).unwrapped
    gymnasium.register("Recorded-v0", entry_point=lambda: Recorded(inner))
    recorded = EnvSpec.resolve({"env_id": "Recorded-v0"})
    looking, blind = (kind(recorded, num_envs=num_envs, num_threads=1) for kind in (SingleSimulator, Blind))
    del gymnasium.registry["Recorded-v0"]
    space = Observations(inner.observation_space).space
    obs, lives = np.zeros((num_envs, *space.shape), space.dtype), np.zeros(num_envs, np.int64)
    for simulator in (looking, blind):
        simulator.begin(np.arange(num_envs), np.arange(num_envs), obs, lives)
    actions = np.zeros((num_envs, *(looking.action_space.shape or ())), looking.action_space.dtype)
    turns = [step_seconds(looking, actions) - step_seconds(blind, actions) for _ in range(TURNS)]
    return statistics.median(turns)


def main() -> None:
    gymnasium.register("Pictures-v0", entry_point=Pictures)
    found = {}
    for name, (algo, values) in CASES.items():
        whole, config = training_step(algo, values)
        assert config.budget is not None
        assert config.env is not None
        extra = border_seconds(config.env, config.budget.num_envs)
        share = extra / (whole - extra)
        found[name] = {
            "training_microseconds": round(1e6 * whole, 1),
            "border_microseconds": round(1e6 * extra, 1),
            "share": round(share, 5),
        }
        print(f"{name}: {1e6 * extra:.1f} of {1e6 * whole:.0f} microseconds a vector step, {share:.2%}", flush=True)
    write_json(RESULTS, {"cases": found, "machine": describe_machine()})


if __name__ == "__main__":
    main()
