"""Steps per second beside Stable-Baselines3, at the same settings, in turn, in one process each time.

    python benchmarks/sb3_speed.py --algo ppo --steps 8192 --repeats 3 --json benchmarks/results/sb3_speed_ppo.json

Both train on Atari Breakout with the Nature network (one 512-unit layer, no norm), Adam and float32 on the CPU. PPO: 8
environments, 128 steps, 4 epochs, 4 minibatches. DQN: 1 environment, batch 32, one update every 4 steps. Construction
and the first fifth of the steps are not counted. Beside the wall clock stands the processor time of the process, all
its threads: on a machine that others share, it is the fairer of the two.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PPO = {"num_envs": 8, "num_steps": 128, "epochs": 4, "minibatches": 4}
DQN = {"learning_starts": 1000, "train_freq": 4, "batch": 32, "buffer": 20_000}


class Clock:
    """Steps per second, and per second of processor time, behind the first fifth of the steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.start: tuple[float, ...] | None = None
        self.end: tuple[float, ...] = ()

    def read(self, step: int) -> None:
        self.end = (step, time.perf_counter(), time.process_time())
        if self.start is None and step * 5 >= self.steps:
            self.start = self.end

    def speeds(self) -> dict[str, float]:
        assert self.start is not None
        made, wall, processor = (last - first for last, first in zip(self.end, self.start, strict=True))
        return {"wall": made / wall, "processor": made / processor}


def timed(settings: dict[str, Any]) -> dict[str, float]:
    """The speeds of one of our runs, whose folder goes with it."""
    from stablegrad import train

    clock = Clock(settings["total_timesteps"])

    class Watch:
        def on_row(self, row: object) -> None: ...

        def on_progress(self, step: int, total: int) -> None:
            clock.read(step)

        def close(self) -> None: ...

    with tempfile.TemporaryDirectory() as folder:
        train(settings, run_dir=Path(folder) / "run", observers=[Watch()])
    return clock.speeds()


def ours(algo: str, steps: int, threads: int) -> dict[str, float]:
    settings = {
        "algo": algo, "env_id": "Breakout-v5", "total_timesteps": steps, "mlp_depth": "published", "use_ln": False,
        "optimizer": "adam", "threads": threads, "log_every": steps // 10, "diagnostics": "off", "seed": 1,
    }  # fmt: skip
    if algo == "dqn":
        settings |= {"buffer_size": DQN["buffer"], "learning_starts": DQN["learning_starts"]}
    return timed(settings)


def theirs(algo: str, steps: int, threads: int) -> dict[str, float]:
    import ale_py
    import gymnasium
    import stable_baselines3 as sb3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(threads)

    clock = Clock(steps)

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            clock.read(self.num_timesteps)
            return True

    envs = VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=8 if algo == "ppo" else 1, seed=1), n_stack=4)
    if algo == "ppo":
        model = sb3.PPO(
            "CnnPolicy", envs, n_steps=PPO["num_steps"], n_epochs=PPO["epochs"], batch_size=256, learning_rate=2.5e-4,
            clip_range=0.1, clip_range_vf=0.1, ent_coef=0.01, seed=1, device="cpu",
        )  # fmt: skip
    else:
        model = sb3.DQN(
            "CnnPolicy", envs, buffer_size=DQN["buffer"], learning_starts=DQN["learning_starts"], batch_size=32,
            train_freq=4, learning_rate=1e-4, target_update_interval=1000, seed=1, device="cpu",
        )  # fmt: skip
    model.learn(steps, callback=Watch())
    if algo == "ppo":
        clock.read(steps)  # the last update comes after the last step: it is part of the work
    return clock.speeds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", choices=["ppo", "dqn"], required=True)
    parser.add_argument("--steps", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        speed = {"ours": ours, "theirs": theirs}[arguments.one](arguments.algo, arguments.steps, arguments.threads)
        print(json.dumps(speed))
        return
    speeds: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(arguments.repeats):
        for who, measured in speeds.items():
            command = [sys.executable, __file__, "--one", who, "--algo", arguments.algo]
            command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{who}: {measured[-1]['wall']:.0f} steps/s, {measured[-1]['processor']:.0f} a processor second")
    ratios = {}
    for clock in ("wall", "processor"):
        pairs = [a[clock] / b[clock] for a, b in zip(speeds["ours"], speeds["theirs"], strict=True)]
        ratios[clock] = {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
        print(f"{clock}: {ratios[clock]['median']:.2f} times theirs, {min(pairs):.2f} to {max(pairs):.2f} pair by pair")
    if arguments.json:
        from stablegrad.runs.folder import describe_machine

        record = {"algo": arguments.algo, "steps": arguments.steps, "threads": arguments.threads, "speeds": speeds}
        record |= {"ratios": ratios, "machine": describe_machine()}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
