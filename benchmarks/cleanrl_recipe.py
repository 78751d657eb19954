"""The five lines of docs/diagnostics.md in CleanRL's own ppo.py: does it train as it does without them?

    python -m pip download cleanrl==1.2.0 --no-deps --ignore-requires-python && unzip cleanrl-1.2.0-*.whl
    python -m pip install --target cleanrl_needs --no-deps gym==0.23.1 gym-notices cloudpickle
    PYTHONPATH=$PWD/cleanrl_needs python benchmarks/cleanrl_recipe.py cleanrl/ppo.py

The file as it is and a copy with the lines put in run from one seed, and every finished game of both is compared. Then
the doctor reads what was recorded.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from stablegrad.doctor import examine

LINES = (
    ("import torch.optim as optim\n", "from stablegrad.integrations.recording import record\n"),
    (
        "    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)\n",
        '    run = record("recorded", agent, optimizer, config=vars(args),'
        " forward=lambda agent, obs: (agent.actor(obs), agent.critic(obs)))\n",
    ),
    (
        '                    writer.add_scalar("charts/episodic_length", item["episode"]["l"], global_step)\n',
        '                    run.episode(global_step, item["episode"]["r"], item["episode"]["l"])\n',
    ),
    (
        '        writer.add_scalar("losses/explained_variance", explained_var, global_step)\n',
        "        run.log(global_step, b_obs)\n",
    ),
    ("    writer.close()\n", "    run.close()\n"),
)
"""A line of CleanRL's 1.2.0 -> the line of ours behind it."""


def with_lines(script: str) -> str:
    """The script with our lines in it; ValueError where one of CleanRL's is not there exactly once."""
    for theirs, ours in LINES:
        if script.count(theirs) != 1:
            raise ValueError(f"this is not CleanRL 1.2.0's ppo.py: no single line {theirs.strip()!r}")
        script = script.replace(theirs, theirs + ours)
    return script


def games(script: Path, scratch: Path, steps: int) -> list[str]:
    """Train, and what CleanRL prints of every finished game."""
    command = [sys.executable, "-W", "ignore", str(script), "--cuda", "False", "--seed", "3"]
    shown = subprocess.run(
        [*command, "--total-timesteps", str(steps)], cwd=scratch, check=True, capture_output=True, text=True
    )
    return [line for line in shown.stdout.splitlines() if "episodic_return" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ppo", type=Path)
    parser.add_argument("--steps", type=int, default=10_240)
    arguments = parser.parse_args()
    original = arguments.ppo.resolve()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        changed = scratch / "ppo.py"
        changed.write_text(with_lines(original.read_text(encoding="utf-8")), encoding="utf-8")
        plain, recorded = (games(script, scratch, arguments.steps) for script in (original, changed))
        print(f"{len(plain)} games without the lines, {len(recorded)} with; the same: {plain == recorded}")
        found = examine(scratch / "recorded")
        print(f"doctor: {[finding.name for finding in found.findings]}, not looked for: {found.not_looked_at}")


if __name__ == "__main__":
    main()
