"""What a sweep will take: a few hundred real steps of each shape of run, and extrapolation where time runs out."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablegrad.runs.config import RunConfig, known_fields
from stablegrad.runs.files import read_json, read_lines
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.cost import Measured, extrapolate, kind_of, shape_of, total_steps, weights, work
from stablegrad.sweeps.grid import Plan
from stablegrad.sweeps.process import RunProcess, claim
from stablegrad.training.probing import LIMIT

_STEPS = 512
_ROWS_AFTER_WARM_UP = 2
_TYPICAL_STARTUP_SECONDS = 5.0
_FEW_IMAGES: Mapping[str, Any] = {
    "epochs": 3,
    "eval_epochs": 3,
    "stream": "stationary",
    "non_stationary": False,
    "change_points": (),
    "label_noise": None,
    "fresh_networks": False,
}
_POLL_SECONDS = 0.1
_COSTLY = 1e10
_NARROW = 128
# A weight and two moments of it, in float32.
_BYTES_A_WEIGHT = 12


@dataclass(frozen=True)
class Price:
    """What one shape of run costs. `step` are seconds of training a step, `probe` a round of diagnostics,
    `startup` what comes on top of training; `checkpoint` and `row` are bytes, `replay` bytes a stored step."""

    step: float
    probe: float = 0.0
    startup: float = _TYPICAL_STARTUP_SECONDS
    checkpoint: int = 0
    row: int = 0
    replay: float = 0.0
    measured: bool = True


@dataclass(frozen=True)
class Estimate:
    """One run, estimated. `disk` in bytes."""

    seconds: float
    disk: float
    measured: bool


def calibrate(
    plan: Plan,
    *,
    budget_seconds: float,
    known: Mapping[str, float] | None = None,
    on_shape: Callable[[str], None] = lambda text: None,
) -> dict[str, Price]:
    """Shape -> price for all shapes of a plan, within about `budget_seconds`.

    The cheapest shape of every kind (algorithm, environment, optimizer) is measured first, then the next ones;
    before a costly one, the same network at a narrow width. What the time does not reach is extrapolated along the
    work of its network. `known` holds seconds a step of shapes that finished runs tell about.
    """
    asked = {shape_of(cell.config): cell.config for cell in plan.cells}
    shapes = {**asked, **_narrow_ones(asked)}
    works = {shape: work(config) for shape, config in shapes.items()}
    deadline = time.monotonic() + budget_seconds
    prices: dict[str, Price] = {}
    for shape in _in_turn(shapes, works):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        on_shape(f"{shapes[shape].algo}, {shapes[shape].optimizer.optimizer}, {works[shape]:.1e} multiplications")
        price = measure(shapes[shape], limit_seconds=left)
        if price is not None:
            prices[shape] = price
    for shape, seconds in (known or {}).items():
        if shape in asked:
            prices[shape] = dataclasses.replace(prices.get(shape, Price(seconds)), step=seconds)
    return {shape: prices.get(shape) or _guess(shape, shapes, works, prices) for shape in asked}


def estimate(config: RunConfig, price: Price) -> Estimate:
    """What a whole run takes at a price."""
    steps = total_steps(config)
    run = config.run
    seconds = price.startup + steps * price.step
    if run.diagnostics != "off":
        # Without an interval, probes pace themselves by the time they take.
        every = run.diagnostics_every
        seconds += (
            steps * price.step * LIMIT[run.diagnostics] if every is None else math.ceil(steps / every) * price.probe
        )
    stored = min(steps, int(dataclasses.asdict(config.agent).get("buffer_size", 0)))
    rows = math.ceil(steps / (run.log_every or steps))
    disk = run.keep_checkpoints * price.checkpoint + rows * price.row + stored * price.replay
    return Estimate(seconds, disk, price.measured)


def measure(config: RunConfig, *, limit_seconds: float) -> Price | None:
    """Train a few hundred steps of `config` in a process of its own; None when the limit was too short."""
    probe = shortened(config)
    with tempfile.TemporaryDirectory(prefix="stablegrad-calibration-") as temporary:
        path = Path(temporary) / "run"
        RunFolder.create(path, probe)
        claimed = claim(path)
        assert claimed is not None, "nobody else knows of the folder"
        started = time.monotonic()
        process = RunProcess.start(path, claimed, threads=probe.run.threads or 1, environment={})
        while process.poll() is None:
            if time.monotonic() - started > limit_seconds:
                process.kill()
                break
            time.sleep(_POLL_SECONDS)
        return _price(path, config, wall_seconds=time.monotonic() - started)


def shortened(config: RunConfig) -> RunConfig:
    """The same steps at the same price, but only a few hundred of them, and learning from the start."""
    flat = config.flat()
    known = known_fields(config.algo)
    changes: dict[str, Any] = {"checkpoint_every": 10**9, "keep_checkpoints": 1, "track": []}
    if {"num_steps", "num_minibatches"} <= known.keys():
        # A shorter rollout in fewer minibatches of the same size: as many updates a step as before.
        factor = math.gcd(flat["num_steps"], flat["num_minibatches"])
        changes |= {name: flat[name] // factor for name in ("num_steps", "num_minibatches")}
    if "learning_starts" in known:
        changes["learning_starts"] = min(flat["learning_starts"], _STEPS // 4)
    if "total_timesteps" in known:
        iteration = flat["num_envs"] * changes.get("num_steps", 1)
        rows = max(_ROWS_AFTER_WARM_UP + 1, math.ceil(_STEPS / iteration))
        every = max(iteration, _STEPS // 8)
        changes |= {"total_timesteps": rows * iteration, "log_every": every, "eval_every": None}
    else:
        changes |= {**_FEW_IMAGES, "subset": 4 * flat["batch_size"], "log_every": 2}
    if flat["diagnostics_every"] is not None:
        changes["diagnostics_every"] = 10**9
    return RunConfig.from_flat({**flat, **changes})


def _price(path: Path, config: RunConfig, *, wall_seconds: float) -> Price | None:
    rows = [row for row in read_lines(path / "metrics.jsonl") if "seconds" in row]
    if len(rows) < _ROWS_AFTER_WARM_UP or rows[-1]["step"] == rows[0]["step"]:
        return None
    first, last = rows[0], rows[-1]
    stored, checkpoint = _checkpoint_bytes(path / "checkpoints")
    return Price(
        step=(last["seconds"] - first["seconds"]) / (last["step"] - first["step"]),
        probe=first["seconds"] * first.get("time/diagnostics_share", 0.0),
        startup=max(0.0, wall_seconds - last["seconds"]),
        checkpoint=checkpoint or _BYTES_A_WEIGHT * weights(config),
        row=(path / "metrics.jsonl").stat().st_size // len(rows),
        replay=stored / last["step"],
    )


def _checkpoint_bytes(folder: Path) -> tuple[int, int]:
    """Bytes of replay segments, which grow with the run, and of everything else, in the newest checkpoint."""
    newest = max(folder.glob("step_*"), default=None)
    if newest is None:
        return 0, 0
    manifest = read_json(newest / "manifest.json")
    sizes = {name: int(entry["bytes"]) for name, entry in manifest["files"].items()}
    segments = sum(sizes[entry["file"]] for entry in manifest["segments"].values())
    return segments, sum(sizes.values()) - segments


def _narrow_ones(shapes: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """For each kind that has costly shapes only, its cheapest one at a narrow width: something to go by, soon."""
    cheapest: dict[tuple[str, str, str], RunConfig] = {}
    for shape in sorted(shapes, key=lambda shape: work(shapes[shape])):
        cheapest.setdefault(kind_of(shapes[shape]), shapes[shape])
    narrow = [
        dataclasses.replace(config, network=dataclasses.replace(config.network, mlp_width=_NARROW))
        for config in cheapest.values()
        if work(config) > _COSTLY and config.network.width > _NARROW and not config.network.published
    ]
    return {shape_of(config): config for config in narrow}


def _in_turn(shapes: Mapping[str, RunConfig], works: Mapping[str, float]) -> list[str]:
    """The cheapest shape of each kind, then the second of each, and so on."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for shape in sorted(shapes, key=works.__getitem__):
        kinds.setdefault(kind_of(shapes[shape]), []).append(shape)
    ranks = {shape: rank for members in kinds.values() for rank, shape in enumerate(members)}
    return sorted(shapes, key=lambda shape: (ranks[shape], works[shape]))


def _guess(
    shape: str, shapes: Mapping[str, RunConfig], works: Mapping[str, float], prices: Mapping[str, Price]
) -> Price:
    """The price of a shape that was not measured, from those of its kind, or else from all of them."""
    alike = [other for other in prices if kind_of(shapes[other]) == kind_of(shapes[shape])] or list(prices)
    if not alike:
        return Price(math.nan, measured=False)
    nearest = min(alike, key=lambda other: abs(works[other] - works[shape]))
    points = [Measured(works[other], prices[other].step) for other in alike]
    growth = weights(shapes[shape]) / weights(shapes[nearest])
    return dataclasses.replace(
        prices[nearest],
        step=extrapolate(points, works[shape]),
        checkpoint=int(prices[nearest].checkpoint * growth),
        measured=False,
    )
