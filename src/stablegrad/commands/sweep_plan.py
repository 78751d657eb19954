"""What `stablegrad sweep FILE --dry-run` prints: runs, time and disk."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stablegrad.commands.sweep_view import Watch, duration
from stablegrad.sweeps.calibrate import Estimate, Price, calibrate, estimate
from stablegrad.sweeps.cost import shape_of, total_steps
from stablegrad.sweeps.folder import SweepFolder, entries_of
from stablegrad.sweeps.grid import Cell, Plan
from stablegrad.text import in_bytes

_UNKNOWN = "unknown"


def show_plan(plan: Plan, out: Path, console: Console, *, slots: int, calibration_seconds: float) -> None:
    """Measure, then print one line an arm and the sums. Nothing is written."""
    now = Watch(SweepFolder(out, plan.name, slots, entries_of(plan))).now()
    states = {entry.run: progress for entry, progress in now.items()}
    known = {
        entry.shape: speed
        for entry, progress in now.items()
        if progress.state == "done" and (speed := progress.seconds_per_step)
    }
    prices = prices_of(plan, console, calibration_seconds=calibration_seconds, known=known)
    costs = {cell: estimate(cell.config, prices[shape_of(cell.config)]) for cell in plan.cells}
    console.print(_table(plan, costs))
    left = {cell: cost for cell, cost in costs.items() if states[cell.config.name].state not in ("done", "failed")}
    console.print(*_sums(plan, costs, left, slots=slots), sep="\n", soft_wrap=True)


def prices_of(
    plan: Plan, console: Console, *, calibration_seconds: float, known: Mapping[str, float] | None = None
) -> dict[str, Price]:
    """Calibrate, saying what is being measured where somebody watches."""
    with console.status("measuring a few hundred steps of each shape of run") as status:
        return calibrate(
            plan,
            budget_seconds=calibration_seconds,
            known=known,
            on_shape=lambda text: status.update(f"measuring a few hundred steps: {text}"),
        )


def _table(plan: Plan, costs: Mapping[Cell, Estimate]) -> Table:
    table = Table("arm", "runs", "steps each", "time each", "disk each", "", box=None, pad_edge=False)
    for arm in plan.arms:
        cells = [cell for cell in plan.cells if cell.arm == arm]
        worst = max((costs[cell] for cell in cells), key=lambda cost: cost.seconds)
        steps = max(total_steps(cell.config) for cell in cells)
        table.add_row(Text(arm), str(len(cells)), f"{steps:,}", *_of_one(worst))
    return table


def _of_one(cost: Estimate) -> tuple[str, str, str]:
    """Time, disk, and where both come from."""
    if math.isnan(cost.seconds):
        return _UNKNOWN, _UNKNOWN, ""
    return duration(cost.seconds), in_bytes(cost.disk), "measured" if cost.measured else "extrapolated"


def _sums(plan: Plan, costs: Mapping[Cell, Estimate], left: Mapping[Cell, Estimate], *, slots: int) -> list[str]:
    work = sum(cost.seconds for cost in left.values())
    longest = max((cost.seconds for cost in left.values()), default=0.0)
    count = len(plan.tasks)
    lines = [
        f"{plan.name}: {len(plan.cells)} runs, {len(left)} of them to do"
        f" ({len(plan.arms)} arms, {count} task{'s' if count > 1 else ''}, {len(plan.seeds)} seeds)"
    ]
    notes = [f"note: {text}" for text in plan.merged]
    if math.isnan(work):
        why = "the calibration time was too short to measure; try --calibration 10m"
        return [*lines, f"time and disk unknown: {why}", *notes]
    lines.append(
        f"about {duration(max(work / slots, longest))} with {slots} at a time ({duration(work)} of runs),"
        f" {in_bytes(sum(cost.disk for cost in costs.values()))} of disk"
    )
    if not all(cost.measured for cost in costs.values()):
        lines.append("extrapolated: the calibration time did not reach these shapes; --calibration 10m measures more")
    return lines + notes
