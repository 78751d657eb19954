"""What a sweep's runs need in memory, asked before the first of them starts."""

from pathlib import Path

from stablegrad.errors import UserError
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.cost import shape_of
from stablegrad.sweeps.grid import Plan
from stablegrad.training.memory import check_run


def check_memory(plan: Plan, out: Path) -> None:
    """UserError where a run of the plan that is left to do in `out` would not fit in this machine's memory."""
    asked = set()
    for cell in plan.cells:
        alike = (shape_of(cell.config), cell.task)
        if alike in asked or RunFolder(out / cell.config.name).status["state"] in ("done", "failed"):
            continue
        asked.add(alike)
        try:
            check_run(cell.config)
        except UserError as error:
            raise UserError(f"{cell.arm}: {error}") from error
