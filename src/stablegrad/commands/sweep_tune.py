"""`stablegrad sweep tune FILE.toml`."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from stablegrad.commands.parsing import Parser
from stablegrad.commands.sweep import (
    add_executor_options,
    deadline,
    make_executor,
    parse_time,
)
from stablegrad.commands.terminal import Terminal
from stablegrad.errors import DONE, STOPPED
from stablegrad.integrations.trackers import check_trackers
from stablegrad.runs.files import write_text
from stablegrad.sweeps.file import read, write
from stablegrad.sweeps.memory import check_memory
from stablegrad.sweeps.tuning import Best, Tuning
from stablegrad.training.stop import StopRequest


def main(argv: list[str]) -> int:
    parser = Parser(
        "sweep tune",
        "Tune every arm of a sweep file with the same budget, on the seeds of its [tune] table, and write the sweep\n"
        "of the tuned arms on its own seeds. Asked again, it goes on where it stopped. Needs the extra [hpo].",
        example="stablegrad sweep tune arms.toml --time-budget 2h && stablegrad sweep runs/arms_tune/tuned.toml",
    )
    parser.add_argument("file", help="the sweep, with a [tune] table")
    parser.add_argument("--out", help="where the trials' runs and the journal go [runs/<name>_tune]")
    parser.add_argument("--time_budget", metavar="TIME", help="stop cleanly after this long: 40m, 2h, 1h30m")
    add_executor_options(parser)
    arguments = parser.parse(argv)
    budget = None if arguments.time_budget is None else parse_time(arguments.time_budget, "--time_budget")
    sweep = read(Path(arguments.file))
    out = Path(arguments.out) if arguments.out is not None else Path("runs") / f"{sweep.name}_tune"
    tuning = Tuning(sweep, out, threads=arguments.threads)
    check_trackers(tuning.plan.trackers)
    executor = make_executor(arguments, tuning.plan)
    if arguments.executor == "local":
        check_memory(tuning.plan, out)
    console = Terminal()
    with StopRequest() as stop, console.status("starting") as status:
        until = deadline(budget)
        bests = tuning.run(
            executor,
            stop=lambda: bool(stop) or until(),
            on_tick=lambda running: status.update(f"{len(running)} runs at work"),
            on_round=lambda so_far: console.print(_table(so_far, tuning.spec.trials, tuning.spec.metric)),
        )
    if any(best.tried < tuning.spec.trials for best in bests):
        console.print("stopped; the same command goes on from here")
        return STOPPED
    tuned = out / "tuned.toml"
    write_text(tuned, write(tuning.tuned(bests)))
    console.print(f"judge the tuned arms on their own seeds: stablegrad sweep {tuned}", soft_wrap=True)
    return DONE


def _table(bests: list[Best], trials: int, metric: str) -> Table:
    table = Table("arm", "tried", "failed", metric, "best settings", box=None, pad_edge=False)
    for best in bests:
        value = "" if best.value is None else f"{best.value:.4g}"
        settings = ", ".join(f"{name} = {_short(setting)}" for name, setting in (best.settings or {}).items())
        table.add_row(Text(best.arm), f"{best.tried}/{trials}", str(best.failed or ""), value, Text(settings))
    return table


def _short(setting: object) -> str:
    return f"{setting:.3g}" if isinstance(setting, float) else str(setting)
