"""PPO and DQN beside Stable-Baselines3's, every setting the same: do they learn the same?

    python benchmarks/parity.py run --task acrobot --algos ppo dqn --seeds 1 2 3 4 5 --out parity.jsonl
    python benchmarks/parity.py table parity.jsonl --json benchmarks/results/parity.json   # cheetah: stablegrad[mujoco]

`run` adds one line for each training that is not in the file yet, each in a process of its own; killed, it goes on with
the next missing one. Of a pair, ours and theirs start from the same weights and play the same evaluation games.

What is the same: network and starting weights (ours, copied), environments (theirs are Gymnasium's own, MinAtar's
through a wrapper of a page), time limits and what is bootstrapped behind them, learning rate and its annealing, Adam
and its epsilon, gradient clipping, losses (Huber; PPO's value loss is not clipped, for theirs clips another formula,
and its weight is halved in theirs, which has no ½), normalisation of advantages, observations and rewards, replay,
batch, update-to-step ratio, exploration from the first step (theirs draws uniformly until learning starts: taken out).
What is not: random streams, and that theirs copies the target network before the update of that step, ours after it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHARED = {"use_ln": False, "mlp_depth": "published", "optimizer": "adam", "diagnostics": "off", "threads": 1}
PPO = {
    "num_envs": 8, "num_steps": 128, "num_minibatches": 4, "update_epochs": 4, "gae_lambda": 0.95, "clip_vloss": False,
    "optimizer_eps": 1e-5, "max_grad_norm": 0.5,
}  # fmt: skip
DQN = {
    "num_envs": 1, "loss": "huber", "optimizer_eps": 1e-8, "max_grad_norm": 10.0, "train_frequency": 4,
    "share_frames": False,
}  # fmt: skip

TASKS: dict[str, dict[str, dict[str, Any]]] = {
    "acrobot": {
        "ppo": {
            **PPO, "env_id": "Acrobot-v1", "total_timesteps": 100_352, "learning_rate": 1e-3, "clip_coef": 0.2,
            "ent_coef": 0.0, "shared_trunk": False,
        },
        "dqn": {
            **DQN, "env_id": "Acrobot-v1", "total_timesteps": 100_000, "learning_rate": 1e-3, "batch_size": 64,
            "buffer_size": 50_000, "learning_starts": 1000, "target_network_frequency": 250, "end_e": 0.05,
            "exploration_fraction": 0.5,
        },
    },
    "breakout": {
        "ppo": {
            **PPO, "env_id": "MinAtar/Breakout", "total_timesteps": 300_032, "learning_rate": 1e-3, "clip_coef": 0.2,
            "ent_coef": 0.01, "shared_trunk": True,
        },
        "dqn": {
            **DQN, "env_id": "MinAtar/Breakout", "total_timesteps": 100_000, "learning_rate": 2.5e-4, "batch_size": 32,
            "buffer_size": 100_000, "learning_starts": 5000, "target_network_frequency": 1000, "end_e": 0.05,
            "exploration_fraction": 0.1,
        },
    },
    "cheetah": {
        "ppo": {
            **PPO, "env_id": "HalfCheetah-v5", "total_timesteps": 301_056, "learning_rate": 3e-4, "clip_coef": 0.2,
            "ent_coef": 0.0, "shared_trunk": False, "activation_fn": "tanh", "num_envs": 1, "num_steps": 2048,
            "num_minibatches": 32, "update_epochs": 10,
        },
    },
}  # fmt: skip

EVALUATION = {"episodes": 100, "seed": 7, "epsilon": 0.0}


def config(task: str, algo: str, seed: int) -> dict[str, Any]:
    return {**SHARED, **TASKS[task][algo], "algo": algo, "seed": seed, "log_every": 20_000}


def ours(task: str, algo: str, seed: int) -> dict[str, Any]:
    from stablegrad import train

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = train(config(task, algo, seed), run_dir=Path(folder) / "run")
        seconds = time.perf_counter() - start
        games = [game["score"] for game in run.episodes[-100:]]
        scores = run.evaluate(**EVALUATION).scores
    return {"evaluation": scores, "training_last_100": float(np.mean(games)), "seconds": seconds}


def theirs(task: str, algo: str, seed: int) -> dict[str, Any]:
    import torch
    from stable_baselines3 import DQN as TheirDQN
    from stable_baselines3 import PPO as TheirPPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    from stablegrad.api import resolve
    from stablegrad.envs import make
    from stablegrad.training.evaluate import evaluate
    from stablegrad.training.loop import build_agent

    torch.set_num_threads(1)
    settings, run_config = config(task, algo, seed), resolve(config(task, algo, seed))
    assert run_config.env is not None
    envs = make(run_config.env, num_envs=settings["num_envs"], seed=seed)
    twin = build_agent(run_config, envs)  # for its starting weights
    envs.close()

    vector = make_vec_env(lambda: environment(settings["env_id"]), n_envs=settings["num_envs"], seed=seed)
    normalised = VecNormalize(vector, gamma=0.99) if task == "cheetah" else None
    common = {"env": normalised or vector, "gamma": 0.99, "seed": seed, "device": "cpu"}
    common["max_grad_norm"] = settings["max_grad_norm"]
    kwargs = policy_kwargs(task, algo, settings)
    if algo == "ppo":
        rows, rate = settings["num_envs"] * settings["num_steps"], settings["learning_rate"]
        first = rows / settings["total_timesteps"]  # ours gives the first rollout the full rate
        model: Any = TheirPPO(
            "MlpPolicy", n_steps=settings["num_steps"], batch_size=rows // settings["num_minibatches"],
            n_epochs=settings["update_epochs"], gae_lambda=settings["gae_lambda"], clip_range=settings["clip_coef"],
            learning_rate=lambda left: rate * min(1.0, left + first), ent_coef=settings["ent_coef"], vf_coef=0.25,
            policy_kwargs=kwargs, **common,
        )  # fmt: skip
    else:

        class ExploringFromTheStart(TheirDQN):
            """Epsilon falls from the first step on, as in ours; theirs acts uniformly until learning starts."""

            def _sample_action(self, learning_starts: int, *rest: Any) -> Any:
                return super()._sample_action(0, *rest)

        model = ExploringFromTheStart(
            "MlpPolicy", learning_rate=settings["learning_rate"], buffer_size=settings["buffer_size"],
            learning_starts=settings["learning_starts"], batch_size=settings["batch_size"],
            train_freq=settings["train_frequency"], target_update_interval=settings["target_network_frequency"],
            exploration_fraction=settings["exploration_fraction"], exploration_final_eps=settings["end_e"],
            policy_kwargs=kwargs, **common,
        )  # fmt: skip
    copy_weights(twin, model, algo)

    start = time.perf_counter()
    model.learn(settings["total_timesteps"])
    seconds = time.perf_counter() - start

    class Player:
        """Their policy as our evaluation calls it: PPO's actions are sampled, its mean where they are continuous."""

        groups = {"policy": model.policy}  # noqa: RUF012

        def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
            obs = normalised.normalize_obs(obs).astype(np.float32) if normalised else obs
            return model.policy.predict(obs, deterministic=algo == "dqn" or task == "cheetah")[0]

    scores = evaluate(Player(), run_config.env, **EVALUATION).scores  # type: ignore[arg-type]
    games = [game["r"] for game in model.ep_info_buffer]
    return {"evaluation": scores, "training_last_100": float(np.mean(games)), "seconds": seconds}


def environment(env_id: str) -> Any:
    """The environment as Gymnasium has it; MinAtar's straight from its package, under our time limit."""
    import gymnasium
    from gymnasium import spaces

    if not env_id.startswith("MinAtar"):
        return gymnasium.make(env_id)
    from minatar import Environment

    class MinAtar(gymnasium.Env):
        def __init__(self) -> None:
            self.game = Environment(env_id.rpartition("/")[2].lower(), sticky_action_prob=0.1)
            height, width, channels = self.game.state_shape()
            self.observation_space = spaces.Box(0, 1, (channels, height, width), np.uint8)
            self.action_space = spaces.Discrete(self.game.num_actions())

        def _state(self) -> np.ndarray:
            return np.ascontiguousarray(self.game.state().transpose(2, 0, 1)).astype(np.uint8)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            if seed is not None:
                self.game.seed(seed)
            self.game.reset()
            return self._state(), {}

        def step(self, action: int) -> Any:
            reward, done = self.game.act(int(action))
            return self._state(), float(reward), done, False, {}

    return gymnasium.wrappers.TimeLimit(MinAtar(), 10_000)


def policy_kwargs(task: str, algo: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Our network in their words: one layer of 512 units, behind MinAtar's convolution where there are images."""
    import torch
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from torch import nn

    kwargs: dict[str, Any] = {"activation_fn": nn.Tanh if settings.get("activation_fn") == "tanh" else nn.ReLU}
    kwargs["optimizer_kwargs"] = {"eps": settings["optimizer_eps"]}
    kwargs["net_arch"] = [512] if algo == "dqn" else {"pi": [512], "vf": [512]}
    if task != "breakout":
        return kwargs

    class Extractor(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            planes, height, width = space.shape
            flat = 16 * (height - 2) * (width - 2)
            super().__init__(space, flat if algo == "dqn" else 512)
            self.net = nn.Sequential(nn.Conv2d(planes, 16, 3), nn.ReLU(), nn.Flatten())
            if algo == "ppo":  # one trunk for actor and critic
                self.net.extend([nn.Linear(flat, 512), nn.ReLU()])

        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return self.net(obs.float())

    kwargs |= {"features_extractor_class": Extractor, "normalize_images": False}
    return kwargs if algo == "dqn" else {**kwargs, "net_arch": []}


def copy_weights(twin: Any, model: Any, algo: str) -> None:
    """Our starting weights into their model, layer by layer."""
    import torch

    network, policy = twin.network, model.policy
    if algo == "dqn":
        pairs = [(network, policy.q_net), (network, policy.q_net_target)]
    else:
        pairs = [(network.actor, policy.action_net), (network.critic, policy.value_net)]
        if network.critic_torso is None:
            pairs += [(network.torso, policy.features_extractor)]
        else:
            pairs += [(network.torso, policy.mlp_extractor.policy_net)]
            pairs += [(network.critic_torso, policy.mlp_extractor.value_net)]
    copied = 0
    with torch.no_grad():
        for source, target in pairs:
            for from_, to in zip(source.parameters(), target.parameters(), strict=True):
                assert from_.shape == to.shape
                to.copy_(from_)
                copied += to.numel()
    assert copied == sum(p.numel() for name, p in policy.named_parameters() if name != "log_std")


def run(arguments: argparse.Namespace) -> None:
    """Every training of the grid that has no line yet, seed by seed, so that a part is a whole comparison."""
    for seed in arguments.seeds:
        for algo in arguments.algos:
            for who in ("ours", "theirs"):
                cell = {"task": arguments.task, "algo": algo, "who": who, "seed": seed}
                if cell in [{key: line[key] for key in cell} for line in lines(arguments.out)]:
                    continue
                command = [sys.executable, __file__, "one", arguments.task, algo, who, str(seed)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                result = json.loads(done.stdout.splitlines()[-1])
                with arguments.out.open("a") as file:
                    file.write(json.dumps({**cell, **result, "settings": config(arguments.task, algo, seed)}) + "\n")
                print(cell, f"{np.mean(result['evaluation']):.2f} in {result['seconds']:.0f} s", flush=True)


def one(arguments: argparse.Namespace) -> None:
    train = {"ours": ours, "theirs": theirs}[arguments.who]
    print(json.dumps(train(arguments.task, arguments.algo, arguments.seed)))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(arguments: argparse.Namespace) -> None:
    """Means over seeds; the difference with a 95 % interval from resampling each side's seeds, and a permutation test's
    p, which is valid with few seeds, where the interval is too narrow."""
    found = [line for path in arguments.files for line in lines(path)]
    record = []
    print(
        "| task | algorithm | steps | seeds | ours | theirs | difference, 95 % | and of the last 100 training games |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for task, algo in sorted({(line["task"], line["algo"]) for line in found}):
        cells = {
            who: {
                line["seed"]: line for line in found if (line["task"], line["algo"], line["who"]) == (task, algo, who)
            }
            for who in ("ours", "theirs")
        }
        seeds = sorted(cells["ours"].keys() & cells["theirs"].keys())
        if not seeds:
            continue
        settings = cells["ours"][seeds[0]]["settings"]
        row: dict[str, Any] = {"task": task, "algo": algo, "seeds": seeds, "settings": settings}
        for what in ("evaluation", "training_last_100"):
            means = {who: np.array([np.mean(cells[who][seed][what]) for seed in seeds]) for who in cells}
            row[what] = {who: values.tolist() for who, values in means.items()}
            row[what] |= dict(
                zip(("difference", "low", "high", "p"), difference(means["ours"], means["theirs"]), strict=True)
            )
        row["seconds"] = {who: [cells[who][seed]["seconds"] for seed in seeds] for who in cells}
        record.append(row)
        one, two = row["evaluation"], row["training_last_100"]
        print(
            f"| {settings['env_id']} | {algo} | {settings['total_timesteps']:,} | {len(seeds)}"
            f" | {np.mean(one['ours']):.1f} | {np.mean(one['theirs']):.1f}"
            f" | {one['difference']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f}; p {one['p']:.2f})"
            f" | {two['difference']:+.1f} ({two['low']:+.1f} to {two['high']:+.1f}; p {two['p']:.2f}) |"
        )
    if arguments.json:
        from stablegrad.runs.folder import describe_machine

        whole = {"evaluation": EVALUATION, "shared": SHARED, "comparisons": record, "machine": describe_machine()}
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n")


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float, float]:
    """mean(first) - mean(second), the percentile interval of 50,000 stratified resamples of the seeds, and p."""
    from stablegrad.reports.comparisons import permutation_test

    rng = np.random.default_rng(0)
    resampled = [side[rng.integers(len(side), size=(50_000, len(side)))].mean(1) for side in (first, second)]
    low, high = np.percentile(resampled[0] - resampled[1], [2.5, 97.5])
    p = permutation_test(first[:, None], second[:, None], rng=rng)
    return float(first.mean() - second.mean()), float(low), float(high), p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("--task", choices=list(TASKS), required=True)
    command.add_argument("--algos", nargs="+", choices=["ppo", "dqn"], default=["ppo"])
    command.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(act=run)
    command = commands.add_parser("table")
    command.add_argument("files", nargs="+", type=Path)
    command.add_argument("--json", type=Path)
    command.set_defaults(act=table)
    command = commands.add_parser("one")
    for name, kind in (("task", str), ("algo", str), ("who", str), ("seed", int)):
        command.add_argument(name, type=kind)
    command.set_defaults(
        act=lambda a: print(json.dumps({"ours": ours, "theirs": theirs}[a.who](a.task, a.algo, a.seed)))
    )
    arguments = parser.parse_args()
    arguments.act(arguments)


if __name__ == "__main__":
    main()
