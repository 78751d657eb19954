"""Run folders made up: as many as one likes, without training anything."""

import json
import math
from pathlib import Path

import numpy as np


def layer_names(blocks):
    trunk = [f"trunk.blocks.{block}.linear{half}" for block in range(blocks) for half in (1, 2)]
    return ["encoder.conv1", "encoder.conv2", "trunk.first", *trunk, "trunk.last", "head"]


def write_run(
    path: Path,
    *,
    seed=1,
    level=1.0,
    noise=0.1,
    rows=60,
    steps=120_000,
    state="done",
    evaluations=0,
    blocks=2,
    diagnostics=True,
    zero=0.0,
    unit=10.0,
    **config,
):
    """A run whose training return grows from `zero` to `zero + unit * level`, with noise between seeds and
    rows."""
    path.mkdir(parents=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    flat = {
        "algo": "pqn", "seed": seed, "env_id": "MinAtar/Breakout", "total_timesteps": steps, "num_envs": 8,
        "mlp_type": "default", "mlp_depth": "small", "mlp_width": "small", "use_ln": True, "optimizer": "radam",
        "learning_rate": 2.5e-4, "lr_scale": 1.0, "cnn_type": "minatar", "checkpoint_every": 1_000, **config,
    }  # fmt: skip
    manifest = {
        "stablegrad": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "platform": "Linux", "cpu": "a processor",
        "gpu": None, "git": {"commit": "0123456789abcdef", "changed": False},
        "command": ["stablegrad", "pqn", "--seed", str(seed)], "created": "2026-01-01T00:00:00+0000",
    }  # fmt: skip
    end = steps if state == "done" else steps // 2
    (path / "config.json").write_text(json.dumps(flat))
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "status.json").write_text(json.dumps({"state": state, "step": end}))
    final = level + noise * rng.normal()
    layers = layer_names(blocks)
    lines, episodes = [], []
    for row in range(1, rows + 1):
        step = steps * row // rows
        if step > end:
            break
        progress = 1 - math.exp(-3 * step / steps)
        score = zero + unit * (final * progress + 0.05 * rng.normal())
        line = {
            "step": step, "update": step // 256, "seconds": step / 900,
            "train/episode_return": score, "train/episodes": 3, "train/epsilon": max(0.01, 1 - 4 * step / steps),
            "losses/td_loss": 0.3 / (1 + 5 * progress), "losses/q_values": 4 * final * progress,
            "time/steps_per_second": 900 + 20 * rng.normal(),
        }  # fmt: skip
        if diagnostics:
            for point, scale in (("raw", 1.0), ("clipped", 0.8), ("update", 1e-3)):
                for depth, layer in enumerate(layers):
                    decay = 10 ** (-(1 - min(level, 1)) * (len(layers) - depth) * progress)
                    line[f"gradients/{point}/{layer}"] = scale * decay * math.exp(0.2 * rng.normal())
            line["gradients/raw/total"] = 2.0 * math.exp(0.1 * rng.normal())
            line["ranks/srank"] = 100 * min(level, 1.5) * (1 - 0.3 * progress)
            for layer in layers[:-1]:
                line[f"units/dormant/{layer}"] = min(1.0, max(0.0, 0.4 * (1 - final) * progress + 0.02 * rng.random()))
            line["units/dormant/total"] = max(0.0, 0.4 * (1 - final) * progress)
        lines.append(json.dumps(line))
        episodes += [{"step": step, "env": env, "score": score, "length": 100} for env in range(3)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (path / "episodes.jsonl").write_text("".join(json.dumps(game) + "\n" for game in episodes))
    if evaluations:
        records = [
            {
                "step": steps * k // evaluations,
                "episodes": [zero + unit * final * k / evaluations + game for game in (-1.0, 0.0, 1.0)],
                "epsilon": 0.005,
                "seed": seed,
            }
            for k in range(1, evaluations + 1)
        ]
        (path / "evaluations.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


ARMS = {
    "plain-radam": {"mlp_type": "default", "optimizer": "radam", "level": 0.3},
    "plain-kron": {
        "mlp_type": "default",
        "optimizer": "kron",
        "learning_rate": 8.3e-5,
        "lr_scale": 0.332,
        "level": 0.7,
    },
    "multi-radam": {"mlp_type": "multiskip_residual", "optimizer": "radam", "level": 0.8},
    "multi-kron": {
        "mlp_type": "multiskip_residual",
        "optimizer": "kron",
        "learning_rate": 8.3e-5,
        "lr_scale": 0.332,
        "level": 1.1,
    },
}


def write_sweep(root: Path, *, games=("MinAtar/Breakout",), seeds=3, depths=("small",), widths=("small",), **options):
    """A grid of runs in `root`: the four arms x depths x widths x games x seeds."""
    blocks = {"small": 1, "medium": 3, "large": 5}
    paths = []
    for arm, settings in ARMS.items():
        for depth in depths:
            for width in widths:
                for game in games:
                    for seed in range(1, seeds + 1):
                        collapse = 0.15 * blocks[depth] if arm == "plain-radam" else 0.0
                        merged = {"blocks": blocks[depth], **settings, **options}
                        merged["level"] = settings["level"] - collapse
                        name = f"{arm}-{depth}-{width}-{game.replace('/', '_')}-{seed}"
                        paths.append(
                            write_run(
                                root / name,
                                seed=seed,
                                env_id=game,
                                mlp_depth=depth,
                                mlp_width=width,
                                **merged,
                            )
                        )
    return paths
