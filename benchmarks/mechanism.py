"""Where learning happens in a deep head: gradient, step and change of the function, layer by layer.

    python benchmarks/mechanism.py run --slots 2 --time-budget 10m
    python benchmarks/mechanism.py report

PQN on MinAtar Breakout without norm; plain and multi-skip heads of 4, 8 and 12 layers; Adam, RAdam and Kron. At some
updates of the training, for every layer's weight W: the norm of its gradient before clipping, the norm of the change
dW that the optimizer makes, and how much the network's outputs change on the batch when this layer alone takes its
step, |f(W + dW) - f(W)|, all others standing still. `run` keeps one file an arm and goes on where it stopped; `report`
writes the figure and the table of docs/mechanism.md.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from stablegrad.agents.base import Batch, LossOutput, Params
from stablegrad.commands.sweep import deadline, parse_time
from stablegrad.nn import taps
from stablegrad.plasticity.base import Intervention, Moment
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import read_json, write_json
from stablegrad.runs.folder import RunFolder
from stablegrad.training.loop import Training
from stablegrad.training.stop import StopRequest

RESULTS = Path("benchmarks/results/mechanism.json")
PAGE = Path("docs/mechanism.md")
FIGURE = Path("docs/images/mechanism.png")
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"

OPTIMIZERS = ("adam", "radam", "kron")
NETWORKS = {"plain": "default", "multi-skip": "multiskip_residual"}
BLOCKS = {4: 1, 8: 3, 12: 5}
"""Linear layers of the head -> `--mlp_depth`."""

MEASURES = {
    "gradient": "gradient norm |g|",
    "step": "relative step |dW| / |W|",
    "function": "output change by\nthis layer's step",
}

SETTINGS: Mapping[str, Any] = {
    "env_id": "MinAtar/Breakout",
    "num_envs": 32,
    "num_steps": 32,
    "num_minibatches": 8,
    "update_epochs": 2,
    "learning_rate": 2.5e-4,
    "exploration_fraction": 0.2,
    "end_e": 0.02,
    "use_ln": False,
    "diagnostics": "off",
    "threads": 1,
    "checkpoint_every": 10**9,
}


@dataclass(frozen=True)
class Arm:
    """One training run."""

    optimizer: str
    network: str
    layers: int
    seed: int
    steps: int
    width: int

    @property
    def label(self) -> str:
        return f"{self.network}-{self.layers}-{self.optimizer}-{self.width}-{self.steps}-{self.seed}"

    def config(self) -> RunConfig:
        return RunConfig.resolve(
            "pqn",
            {
                **SETTINGS,
                "optimizer": self.optimizer,
                "mlp_type": NETWORKS[self.network],
                "mlp_depth": BLOCKS[self.layers],
                "mlp_width": self.width,
                "total_timesteps": self.steps,
                "seed": self.seed,
            },
        )


class LayerByLayer(Intervention):
    """Changes nothing: measures every layer at the updates whose number is in `at` (counted from 1)."""

    def __init__(self, at: Sequence[int]) -> None:
        self.measured: list[dict[str, Any]] = []
        self._at = frozenset(at)
        self._old: dict[str, Tensor] = {}
        self._gradients: dict[str, float] = {}

    def loss_term(self, params: Params, batch: Batch, output: LossOutput) -> None:
        self._obs = batch["obs"]

    def after_backward(self, moment: Moment) -> None:
        if moment.update + 1 not in self._at:
            return
        network = next(iter(moment.modules.values()))
        weights = {layer: network.get_parameter(name) for layer, name in taps.layers(network).items()}
        self._old = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        self._gradients = {layer: _norm(w.grad) if w.grad is not None else 0.0 for layer, w in weights.items()}

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        if not self._old:
            return
        network = next(iter(moment.modules.values()))
        before = functional_call(network, self._old, (self._obs,))
        rows = {}
        for layer, name in taps.layers(network).items():
            new, old = network.get_parameter(name).detach(), self._old[name]
            moved = functional_call(network, {**self._old, name: new}, (self._obs,))
            rows[layer] = {
                "gradient": self._gradients[layer],
                "step": _norm(new - old) / _norm(old),
                "function": (moved - before).norm(dim=1).mean().item(),
            }
        whole = (network(self._obs) - before).norm(dim=1).mean().item()
        self.measured.append({"update": moment.update, "whole": whole, "layers": rows})
        self._old = {}


def train(arm: Arm, moments: int) -> dict[str, Any]:
    """Train an arm and measure it `moments` times, evenly spread over its updates."""
    torch.set_num_threads(1)
    config = arm.config()
    rollout = SETTINGS["num_envs"] * SETTINGS["num_steps"]
    updates = arm.steps // rollout * SETTINGS["num_minibatches"] * SETTINGS["update_epochs"]
    probe = LayerByLayer([updates * (moment + 1) // moments for moment in range(moments)])
    with tempfile.TemporaryDirectory() as scratch, StopRequest() as stop:
        training = Training(config, interventions=[probe])
        try:
            folder = RunFolder.create(Path(scratch) / "run", config)
            training.attach(folder)
            training.run(stop)
            scores = [json.loads(line)["score"] for line in folder.episodes.read_text().splitlines()]
        finally:
            training.close()
    last = scores[-len(scores) // 5 :]
    return {"arm": asdict(arm), "score": sum(last) / len(last), "measured": probe.measured}


def run(arms: Sequence[Arm], out: Path, *, moments: int, slots: int, budget: float | None) -> None:
    """Train the arms that have no file yet, shallow and cheap ones first."""
    over = deadline(budget)
    out.mkdir(parents=True, exist_ok=True)
    waiting = [arm for arm in arms if not (out / f"{arm.label}.json").exists()]
    started = time.monotonic()
    with ProcessPoolExecutor(slots) as pool:
        running = {pool.submit(train, arm, moments): arm for arm in waiting}
        for done in as_completed(running):
            if done.cancelled():
                continue
            write_json(out / f"{running[done].label}.json", done.result())
            if over():
                for other in running:
                    other.cancel()
    missing = sum(not (out / f"{arm.label}.json").exists() for arm in arms)
    print(f"{len(arms) - missing} of {len(arms)} arms, {time.monotonic() - started:.0f} s")


def report(arms: Sequence[Arm], out: Path) -> None:
    """The results as one small file, the figure, and the table of the page."""
    results = [read_json(path) for arm in arms if (path := out / f"{arm.label}.json").exists()]
    summary = [_summary(cell) for cell in _cells(results)]
    write_json(RESULTS, {"settings": dict(SETTINGS), "cells": summary})
    _draw(summary)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{_table(summary)}\n{_END}{after}", encoding="utf-8")
    print(_table(summary))


def _cells(results: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The seeds of each arm together."""
    keys = dict.fromkeys((r["arm"]["network"], r["arm"]["layers"], r["arm"]["optimizer"]) for r in results)
    for key in keys:
        yield [r for r in results if (r["arm"]["network"], r["arm"]["layers"], r["arm"]["optimizer"]) == key]


def _summary(cell: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the later half of the moments, per seed, of the trunk's layers from first to last."""
    arm = cell[0]["arm"]
    profiles: dict[str, list[list[float]]] = {measure: [] for measure in MEASURES}
    for result in cell:
        late = result["measured"][len(result["measured"]) // 2 :]
        names = [layer for layer in late[0]["layers"] if taps.group(layer) == "trunk"]
        for measure, found in profiles.items():
            found.append([statistics.median(m["layers"][layer][measure] for m in late) for layer in names])
    return {
        "network": arm["network"],
        "layers": arm["layers"],
        "optimizer": arm["optimizer"],
        "width": arm["width"],
        "steps": arm["steps"],
        "seeds": [result["arm"]["seed"] for result in cell],
        "score": [result["score"] for result in cell],
        "profiles": profiles,
        "first_to_last": {
            measure: [profile[0] / profile[-1] if profile[-1] else None for profile in found]
            for measure, found in profiles.items()
        },
        "least_to_median": {
            measure: [min(profile) / statistics.median(profile) for profile in found]
            for measure, found in profiles.items()
        },
    }


def _table(summary: Sequence[Mapping[str, Any]]) -> str:
    """One row an arm: smallest layer relative to the median layer, by measure, median of the seeds [least, most]."""
    lines = [
        "| head | optimizer | least gradient / median | least step / median | least output change / median | score |",
        "|---|---|---|---|---|---|",
    ]
    for cell in sorted(summary, key=lambda c: (c["layers"], c["network"], c["optimizer"])):
        ranges = " | ".join(_range(cell["least_to_median"][measure]) for measure in MEASURES)
        head = f"{cell['network']}, {cell['layers']} layers"
        lines.append(f"| {head} | {cell['optimizer']} | {ranges} | {_range(cell['score'])} |")
    return "\n".join(lines)


def _range(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.2g}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.2g}, {max(values):.2g}]"


def _draw(summary: Sequence[Mapping[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = [(network, layers) for network in NETWORKS for layers in BLOCKS]
    figure, axes = plt.subplots(
        len(MEASURES), len(columns), figsize=(2.6 * len(columns), 7), sharey="row", squeeze=False, layout="constrained"
    )
    colours = dict(zip(OPTIMIZERS, ("#2a78d6", "#1baf7a", "#eb6834"), strict=True))
    for cell in summary:
        column = columns.index((cell["network"], cell["layers"]))
        for row, measure in enumerate(MEASURES):
            for number, profile in enumerate(cell["profiles"][measure]):
                label = cell["optimizer"] if number == 0 else None
                axes[row, column].plot(
                    range(1, len(profile) + 1), profile, color=colours[cell["optimizer"]], linewidth=1.2, label=label
                )
    for column, (network, layers) in enumerate(columns):
        for row in range(len(MEASURES)):
            axes[row, column].xaxis.get_major_locator().set_params(integer=True)
        axes[0, column].set_title(f"{network}, {layers} layers")
        axes[-1, column].set_xlabel("layer of the head, first to last")
    for row, text in enumerate(MEASURES.values()):
        axes[row, 0].set_ylabel(text)
        axes[row, 0].set_yscale("log")
    axes[0, 0].legend(frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--out", type=Path, default=Path("runs/mechanism"), help="one file an arm")
    parser.add_argument("--steps", type=int, default=20_480)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--moments", type=int, default=8, help="measurements of a run")
    parser.add_argument("--slots", type=int, default=1, help="runs at a time")
    parser.add_argument("--time-budget", help="start no further run after this long: 9m, 90s")
    options = parser.parse_args()
    arms = [
        Arm(optimizer, network, layers, seed, options.steps, options.width)
        for seed in range(1, options.seeds + 1)
        for layers in BLOCKS
        for network in NETWORKS
        for optimizer in OPTIMIZERS
    ]
    if options.what == "report":
        report(arms, options.out)
    else:
        budget = None if options.time_budget is None else parse_time(options.time_budget, "--time-budget")
        run(arms, options.out, moments=options.moments, slots=options.slots, budget=budget)


if __name__ == "__main__":
    main()
