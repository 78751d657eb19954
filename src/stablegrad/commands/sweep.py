"""`stablegrad sweep FILE.toml`, and its sub-commands: status, presets, tune."""

import importlib
import math
import re
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stablegrad.commands.parsing import Parser, whole
from stablegrad.commands.report import main as write_report
from stablegrad.commands.sweep_view import Board, Watch, failures, headline
from stablegrad.commands.terminal import Terminal
from stablegrad.errors import DONE, FAILED, STOPPED, UserError
from stablegrad.integrations.trackers import check_trackers
from stablegrad.sweeps.file import read
from stablegrad.sweeps.folder import SweepFolder
from stablegrad.sweeps.grid import Plan, expand
from stablegrad.sweeps.pool import Executor, LocalPool
from stablegrad.text import quoted
from stablegrad.training.stop import StopRequest

_MOST_AT_ONCE = 1024  # processes
_SUB_COMMANDS = ("status", "presets", "tune")
_EXAMPLE = """stablegrad sweep examples/depth_collapse.toml --dry-run
  stablegrad sweep examples/depth_collapse.toml --time-budget 40m --report
  stablegrad sweep status examples/depth_collapse.toml
  stablegrad sweep presets
  stablegrad sweep tune FILE.toml --help"""


def main(argv: list[str]) -> int:
    """A sub-command, or a sweep's file."""
    if argv and argv[0] in _SUB_COMMANDS:
        module = importlib.import_module(f"stablegrad.commands.sweep_{argv[0]}")
        return module.main(argv[1:])
    return run(argv)


def run(argv: list[str]) -> int:
    """Run what is missing of a sweep."""
    parser = Parser(
        "sweep",
        "Run every cell of a sweep file that is not done yet. Asked again, it goes on where it stopped and repeats\n"
        "nothing. `stablegrad sweep status | presets | tune` are further commands; docs/sweeps.md has the file.",
        example=_EXAMPLE,
    )
    parser.add_argument("file", help="the sweep, a TOML file")
    parser.add_argument("--out", help="the sweep's folder [runs/<name>]")
    parser.add_argument(
        "--dry_run", action="store_true", help="print what would run, its time and its disk; run nothing"
    )
    parser.add_argument(
        "--calibration", default="60s", metavar="TIME", help="time that --dry_run may measure for [60s]"
    )
    parser.add_argument("--time_budget", metavar="TIME", help="stop cleanly after this long: 40m, 2h, 1h30m")
    parser.add_argument("--retry", action="store_true", help="run failed cells again, from their last checkpoint")
    parser.add_argument("--report", action="store_true", help="write the report at the end, or of what there is then")
    add_executor_options(parser)
    arguments = parser.parse(argv)
    budget = None if arguments.time_budget is None else parse_time(arguments.time_budget, "--time_budget")

    path = Path(arguments.file)
    sweep = read(path)
    plan = expand(sweep, threads=arguments.threads)
    check_trackers(plan.trackers)
    out = Path(arguments.out) if arguments.out is not None else Path("runs") / sweep.name
    executor = make_executor(arguments, plan)
    console = Terminal()
    if arguments.dry_run:
        from stablegrad.commands.sweep_plan import show_plan

        show_plan(
            plan,
            out,
            console,
            slots=executor.slots,
            calibration_seconds=parse_time(arguments.calibration, "--calibration"),
        )
        return DONE
    if arguments.executor == "local":
        from stablegrad.sweeps.memory import check_memory  # brings torch

        check_memory(plan, out)
    folder = SweepFolder.create(out, plan, text=path.read_text(encoding="utf-8"), slots=executor.slots)
    console.print(Text(headline(folder, Watch(folder).now())))
    with StopRequest() as stop, Board(folder, console) as board:
        until = deadline(budget)
        executor.run(
            folder.missing(plan, retry=arguments.retry), stop=lambda: bool(stop) or until(), on_tick=board.update
        )
    return _conclude(folder, console, report=arguments.report)


def _conclude(folder: SweepFolder, console: Console, *, report: bool) -> int:
    """Say what came of it, judge it if asked to; the exit code."""
    now = Watch(folder).now()
    console.print(Text(headline(folder, now)), *failures(now), sep="\n", soft_wrap=True)
    states = {progress.state for progress in now.values()}
    if states - {"done", "failed"}:
        console.print("stopped; the same command goes on from here")
    elif "failed" in states:
        console.print("failed runs stay as they are; --retry runs them again")
    if report:
        write_report([str(folder.path)])
    else:
        console.print(f"report: stablegrad report {folder.path}", soft_wrap=True)
    if states - {"done", "failed"}:
        return STOPPED
    return FAILED if "failed" in states else DONE


def add_executor_options(parser: Parser) -> None:
    """Where runs are trained: shared by `sweep` and `sweep tune`."""
    group = parser.add_argument_group("where the runs are trained")
    group.add_argument("--slots", type=whole, help="runs at a time [cores / threads, or GPUs x runs per GPU]")
    group.add_argument("--threads", type=whole, default=1, help="CPU threads of a run that the file does not set [1]")
    group.add_argument("--gpus", metavar="0,1", help='GPUs to spread the runs over; the file sets device = "cuda"')
    group.add_argument("--runs_per_gpu", type=whole, default=1, help="runs that share a GPU [1]")
    group.add_argument("--executor", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    group.add_argument("--address", help="the Ray cluster: auto, HOST:PORT [start Ray on this machine]")


def make_executor(arguments: Namespace, plan: Plan) -> Executor:
    """The executor that the options describe."""
    problems = [
        f"--{name} {value}: must be at least 1"
        for name in ("slots", "threads", "runs_per_gpu")
        if (value := getattr(arguments, name)) is not None and value < 1
    ]
    problems += [
        f"--{name} {value}: must be at most {_MOST_AT_ONCE}"
        for name in ("slots", "runs_per_gpu")
        if (value := getattr(arguments, name)) is not None and value > _MOST_AT_ONCE
    ]
    threads, devices = plan.threads, plan.devices
    gpus = [gpu for gpu in (arguments.gpus or "").split(",") if gpu]
    if not all(gpu.isdigit() for gpu in gpus):
        problems.append(f"--gpus {arguments.gpus}: must be numbers of GPUs with commas between them")
    if gpus and devices != {"cuda"}:
        problems.append('--gpus needs device = "cuda" under [settings]: the slot chooses which GPU that is')
    if arguments.executor == "local" and arguments.address is not None:
        problems.append("--address needs --executor ray")
    if arguments.executor == "ray" and (gpus or arguments.slots):
        problems.append("--gpus and --slots belong to the local pool: Ray knows its nodes; --runs_per_gpu applies")
    if problems:
        raise UserError(problems)
    if arguments.executor == "ray":
        from stablegrad.sweeps.ray_executor import RayExecutor

        share = 1 / arguments.runs_per_gpu if any(device.startswith("cuda") for device in devices) else 0.0
        return RayExecutor(arguments.address, threads=threads, gpus=share)
    from stablegrad import launch  # brings torch: a mistake in the file is said before

    for device in devices:
        launch.check_device(device)
    places = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus for _ in range(arguments.runs_per_gpu)]
    slots = arguments.slots or len(places) or max(1, launch.available_cores() // threads)
    return LocalPool(slots, threads=threads, environment=places)


def parse_time(text: str, option: str) -> float:
    """`40m`, `2h`, `1h30m`, `90s` in seconds."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    given = () if parts is None else parts.groups()
    seconds = sum(float(part or 0) * unit for part, unit in zip(given, (86400, 3600, 60, 1), strict=False))
    if not any(given) or not math.isfinite(seconds):
        raise UserError(f"{option} {quoted(text)}: write a time with its unit: 40m, 2h, 1h30m, 90s")
    return seconds


def deadline(budget: float | None) -> Callable[[], bool]:
    """Whether `budget` seconds from now are over; never without a budget."""
    if budget is None:
        return lambda: False
    end = time.monotonic() + budget
    return lambda: time.monotonic() >= end
