"""Steps per second of each agent on Atari, and what share of it environment and arithmetic alone would allow.

    python benchmarks/agent_speed.py --repeats 3 --json benchmarks/results/agent_speed.json

Atari Breakout, Nature network (one 512-unit layer), Adam, float32, one thread, each agent's published sizes. All
figures are steps for each second of processor time: on a machine that others share, the wall clock measures the others.

The bound is what the same steps cost with everything else taken away: the environments stepped with fixed actions, the
network's forward pass on the observations to act on, and for each update the agent's loss forwards and backwards on one
fixed batch, the forward passes that its targets need, and Adam. No storage, sampling, minibatches, clipping, logging or
episodes. Construction and the first fifth of a run are not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sb3_speed import timed

SHARED = {
    "env_id": "Breakout-v5", "mlp_depth": "published", "use_ln": False, "optimizer": "adam", "threads": 1,
    "diagnostics": "off", "seed": 1,
}  # fmt: skip
REPLAY = {"buffer_size": 20_000, "learning_starts": 400}
AGENTS: dict[str, dict[str, Any]] = {
    "pqn": {"total_timesteps": 16_384},
    "ppo": {"total_timesteps": 6144},
    "dqn": {"total_timesteps": 3000, **REPLAY},
    "rainbow": {"total_timesteps": 2000, **REPLAY},
}
TARGET_PASSES = {"pqn": 0, "ppo": 0, "dqn": 1, "rainbow": 2}
"""Forward passes without gradient for each update: the target network's, and with Double DQN the trained one's."""


def trained(algo: str) -> float:
    """Steps for each second of processor time of a run."""
    return timed({**SHARED, **AGENTS[algo], "algo": algo})["processor"]


def bound(algo: str) -> float:
    """The same of environment and arithmetic alone."""
    from stablegrad.api import resolve
    from stablegrad.envs import make
    from stablegrad.training.loop import build_agent

    torch.set_num_threads(1)
    config = resolve({**SHARED, **AGENTS[algo], "algo": algo})
    assert config.env is not None
    assert config.budget is not None
    num_envs = config.budget.num_envs
    envs = make(config.env, num_envs=num_envs, seed=1)
    agent: Any = build_agent(config, envs)
    batch = first_batch(agent, envs)
    parameters = list(agent.network.parameters())
    adam = torch.optim.Adam(parameters, lr=1e-5, fused=True)
    named = {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
    generator = torch.Generator().manual_seed(1)
    obs, actions = torch.as_tensor(envs.obs), agent.act(envs.obs)

    def forward(rows: torch.Tensor) -> None:
        with torch.no_grad():
            agent.network(rows)

    def update() -> None:
        for _ in range(TARGET_PASSES[algo]):
            forward(batch["obs"])
        adam.zero_grad()
        agent.loss(named, batch, generator).loss.backward()
        adam.step()

    own: Any = config.agent
    if algo in ("dqn", "rainbow"):
        updates = num_envs / own.train_frequency
    else:
        updates = own.update_epochs * own.num_minibatches / own.num_steps
    cost = seconds(lambda: envs.step(actions), 200) + seconds(lambda: forward(obs), 50) + updates * seconds(update, 30)
    envs.close()
    return num_envs / cost


def first_batch(agent: Any, envs: Any) -> dict[str, torch.Tensor]:
    """Play until the agent has something to learn from, and take the first batch of it."""
    while True:
        agent.observe(envs.step(agent.act(envs.obs)))
        for batch in agent.batches():
            return batch


def seconds(what: Callable[[], object], times: int) -> float:
    """Mean processor time of one call, over `times` calls behind three that warm up."""
    for _ in range(3):
        what()
    start = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algos", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=["trained", "bound"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print({"trained": trained, "bound": bound}[arguments.one](arguments.algos[0]))
        return
    record: dict[str, Any] = {}
    for algo in arguments.algos:
        speeds: dict[str, list[float]] = {"trained": [], "bound": []}
        for _ in range(arguments.repeats):
            for what, measured in speeds.items():
                command = [sys.executable, __file__, "--one", what, "--algos", algo]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                measured.append(float(done.stdout.splitlines()[-1]))
        shares = [run / most for run, most in zip(speeds["trained"], speeds["bound"], strict=True)]
        record[algo] = {**speeds, "share": statistics.median(shares), "shares": shares}
        print(
            f"{algo}: {statistics.median(speeds['trained']):.0f} steps a processor second, bound"
            f" {statistics.median(speeds['bound']):.0f}, share {record[algo]['share']:.2f}"
            f" ({min(shares):.2f} to {max(shares):.2f})",
            flush=True,
        )
    if arguments.json:
        from stablegrad.runs.folder import describe_machine

        arguments.json.write_text(json.dumps({"agents": record, "machine": describe_machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
