"""Steps per second beside Stable-Baselines3, at the same settings, in turn, in one process each time.

    python benchmarks/sb3_speed.py --algo ppo --steps 8192 --repeats 3 --json benchmarks/results/sb3_speed_ppo.json

Both train on Atari Breakout with the Nature network (one 512-unit layer, no norm), Adam and float32 on the CPU. PPO: 8
environments, 128 steps, 4 epochs, 4 minibatches. DQN: 1 environment, batch 32, one update every 4 steps. Construction
and the first fifth of the steps are not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

PPO = {"num_envs": 8, "num_steps": 128, "epochs": 4, "minibatches": 4}
DQN = {"learning_starts": 1000, "train_freq": 4, "batch": 32, "buffer": 20_000}


def ours(algo: str, steps: int, threads: int) -> float:
    import tempfile

    from stablegrad import train

    settings = {
        "algo": algo, "env_id": "Breakout-v5", "total_timesteps": steps, "mlp_depth": "published", "use_ln": False,
        "optimizer": "adam", "threads": threads, "log_every": steps // 10, "diagnostics": "off", "seed": 1,
    }  # fmt: skip
    if algo == "dqn":
        settings |= {"buffer_size": DQN["buffer"], "learning_starts": DQN["learning_starts"]}
    with tempfile.TemporaryDirectory() as folder:
        rows = train(settings, run_dir=Path(folder) / "run").metrics
    first = next(row for row in rows if row["step"] * 5 >= rows[-1]["step"])
    return (rows[-1]["step"] - first["step"]) / (rows[-1]["seconds"] - first["seconds"])


def theirs(algo: str, steps: int, threads: int) -> float:
    import ale_py
    import gymnasium
    import stable_baselines3 as sb3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(threads)

    class Clock(BaseCallback):
        start: tuple[int, float] | None = None
        end = (0, 0.0)

        def _on_step(self) -> bool:
            now = (self.num_timesteps, time.perf_counter())
            if self.start is None and self.num_timesteps * 5 >= steps:
                self.start = now
            self.end = now
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
    clock = Clock()
    model.learn(steps, callback=clock)
    # PPO's last update comes after its last step: it is part of the work.
    finish = time.perf_counter() if algo == "ppo" else clock.end[1]
    assert clock.start is not None
    return (clock.end[0] - clock.start[0]) / (finish - clock.start[1])


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
    speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(arguments.repeats):
        for who, measured in speeds.items():
            command = [sys.executable, __file__, "--one", who, "--algo", arguments.algo]
            command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{who}: {measured[-1]:.0f} steps/s", flush=True)
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["theirs"], strict=True)]
    print(f"ratio, pair by pair: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    if arguments.json:
        from stablegrad.runs.folder import describe_machine

        record = {"algo": arguments.algo, "steps": arguments.steps, "threads": arguments.threads, "speeds": speeds}
        record |= {"ratio_median": statistics.median(ratios), "machine": describe_machine()}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
