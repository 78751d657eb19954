"""`stablegrad bench`: steps per second of configurations beside each other, with where the time goes."""

import itertools
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from stablegrad import api
from stablegrad.agents import AGENTS
from stablegrad.commands.parsing import Parser, add_settings, whole
from stablegrad.commands.terminal import Terminal
from stablegrad.errors import DONE, UserError
from stablegrad.runs.config import RunConfig, known_fields, section_types
from stablegrad.runs.files import check_writable, write_text
from stablegrad.runs.folder import describe_machine
from stablegrad.settings import coerce

_PARTS = ("environment", "inference", "update", "diagnostics")


def main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        if argv[:1] not in (["-h"], ["--help"]):
            raise UserError(f"say what to measure: `stablegrad bench ALGO …` with one of {', '.join(AGENTS)}")
        algo = "pqn"
    else:
        algo, argv = argv[0], argv[1:]
    parser = Parser(
        f"bench {algo}",
        "Train short runs of every combination of the varied settings, in turn, several times over, and report steps"
        "\nper second (median, min, max) and the share of time in each part. The first rows of a run are not counted.",
        example="stablegrad bench pqn --total_timesteps 20480 --vary optimizer=radam,kron --vary diagnostics=off,light",
    )
    parser.add_argument("--vary", action="append", default=[], metavar="SETTING=A,B", help="values to compare")
    parser.add_argument("--repeats", type=whole, default=3, help="times that each configuration runs [3]")
    parser.add_argument("--json", metavar="FILE", help="also write every figure, with the machine, to a file")
    for name, section in section_types(algo).items():
        add_settings(parser, name, section, dict(AGENTS[algo].defaults))
    arguments = vars(parser.parse(argv))
    vary, repeats, file = (arguments.pop(name) for name in ("vary", "repeats", "json"))
    if file is not None:
        check_writable(Path(file), f"--json {file}")
    if repeats < 1:
        raise UserError(f"--repeats {repeats}: must be at least 1")
    cells = [dict(zip(names, values, strict=True)) for names, values in _combinations(algo, vary)]
    configs = [RunConfig.resolve(algo, _with_rows({**arguments, **cell})) for cell in cells]

    measured: list[list[dict[str, float]]] = [[] for _ in cells]
    for _ in range(repeats):  # in turn, so that a machine whose speed drifts is fair to all
        for results, config in zip(measured, configs, strict=True):
            results.append(_measure(config))
    results = [_summary(cell, runs) for cell, runs in zip(cells, measured, strict=True)]
    Terminal().print(_table(algo, results, repeats))
    if file is not None:
        record = {
            "algo": algo,
            "settings": arguments,
            "repeats": repeats,
            "results": results,
            "machine": describe_machine(),
        }
        write_text(Path(file), json.dumps(record, indent=1) + "\n")
    return DONE


def _combinations(algo: str, vary: list[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    choices: dict[str, list[str]] = {}
    for text in vary:
        name, equals, values = text.replace("-", "_").partition("=")
        if not equals or name not in known_fields(algo):
            raise UserError(f"--vary {text}: write SETTING=A,B with a setting of {algo}")
        choices[name] = values.split(",")
    names = tuple(choices)
    return [(names, values) for values in itertools.product(*choices.values())]


def _with_rows(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Ten rows a run: the first ones hold the warm-up."""
    try:
        rows = {"log_every": max(1, coerce(settings.get("total_timesteps", 40_960), int) // 10)}
    except ValueError:
        rows = {}  # what is wrong with it is said when the settings are resolved
    return {"total_timesteps": 40_960, **rows, **settings}


def _measure(config: RunConfig) -> dict[str, float]:
    """One short run: steps per second and time shares, from the rows behind the first fifth."""
    with tempfile.TemporaryDirectory() as folder:
        run = api.train(config, run_dir=Path(folder) / "run")
        if run.status["state"] != "done":
            raise UserError("stopped before a measurement was complete: nothing was written")
        rows = run.metrics
    start = next(row for row in rows if row["step"] * 5 >= rows[-1]["step"])
    counted = [row for row in rows if row["step"] > start["step"]]
    if not counted:
        raise UserError(f"{rows[-1]['step']} steps are too few to measure: give more --total_timesteps")
    seconds = counted[-1]["seconds"] - start["seconds"]
    shares = {part: statistics.fmean(row.get(f"time/{part}_share", 0.0) for row in counted) for part in _PARTS}
    return {"steps_per_second": (counted[-1]["step"] - start["step"]) / seconds, **shares}


def _summary(cell: Mapping[str, str], runs: list[dict[str, float]]) -> dict[str, Any]:
    speeds = [run["steps_per_second"] for run in runs]
    shares = {part: statistics.median(run[part] for run in runs) for part in _PARTS}
    return {
        "cell": dict(cell),
        "median": statistics.median(speeds),
        "min": min(speeds),
        "max": max(speeds),
        "runs": speeds,
        "shares": shares,
    }


def _table(algo: str, results: list[dict[str, Any]], repeats: int) -> Table:
    table = Table("configuration", "steps/s", "min", "max", *_PARTS, title=f"{algo}, {repeats} runs each, in turn")
    for result in results:
        name = ", ".join(f"{key} {value}" for key, value in result["cell"].items()) or algo
        speeds = (f"{result[key]:,.0f}" for key in ("median", "min", "max"))
        table.add_row(name, *speeds, *(f"{result['shares'][part]:.0%}" for part in _PARTS))
    return table
