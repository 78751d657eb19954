"""`stablegrad watch RUN`: the live numbers of a run in the terminal, until it ends."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stablegrad.commands.doctor import COLOURS
from stablegrad.commands.parsing import Parser, finite
from stablegrad.commands.terminal import Terminal
from stablegrad.doctor import Examination, Signals, judge
from stablegrad.doctor.pictures import chart, number, sparkline
from stablegrad.errors import DONE, UserError
from stablegrad.runs.series import Series

SHOWN: Mapping[str, tuple[str, ...]] = {
    "evaluation": ("eval/episode_return", "eval/accuracy"),
    "episode length": ("train/episode_length",),
    "loss": ("losses/loss",),
    "value": ("losses/q_values", "losses/values"),
    "entropy": ("losses/entropy",),
    "epsilon": ("train/epsilon",),
    "learning rate": ("train/learning_rate",),
    "gradient norm": ("gradients/raw/total",),
    "weight norm": ("weights/norm/total",),
    "dead units": ("units/dead/total",),
    "dormant units": ("units/dormant/total",),
    "effective rank": ("ranks/effective_rank",),
    "policy churn": ("churn/policy",),
    "Hessian trace": ("curvature/hessian_trace",),
    "steps per second": ("time/steps_per_second",),
}
"""A label, and the first of these metrics that the run logs."""

_ENDED = frozenset({"done", "stopped", "failed"})
_LONGEST_SECONDS = 86_400


def main(argv: list[str]) -> int:
    parser = Parser(
        "watch",
        "Show a run's numbers while it trains: progress, learning curve, diagnostics, and what the doctor says.\n"
        "Ends with the run; Ctrl-C ends the watching only.",
        example="stablegrad watch runs/pqn-Breakout-1-0123456789",
    )
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--once", action="store_true", help="print once and end, for scripts")
    parser.add_argument("--every", type=finite, default=2.0, help="seconds between looks [2]")
    arguments = parser.parse(argv)
    if not 0 < arguments.every <= _LONGEST_SECONDS:
        raise UserError(f"--every {arguments.every}: must be more than 0 and at most {_LONGEST_SECONDS}")
    path = Path(arguments.run)
    console = Terminal()
    examination = judge(Signals.read(path))
    if arguments.once:
        console.print(screen(examination))
        return DONE
    with Live(screen(examination), console=console, auto_refresh=False) as live:
        while examination.signals.status.get("state") not in _ENDED:
            time.sleep(arguments.every)
            examination = judge(Signals.read(path))
            live.update(screen(examination), refresh=True)
    return DONE


def screen(examination: Examination) -> RenderableType:
    """One look at a run."""
    signals = examination.signals
    state = signals.status.get("state", "unknown")
    share = signals.last_step / max(signals.budget, 1)
    head = Text.assemble(
        (signals.path.name or str(signals.path), "bold"),
        f"  {state}  step {signals.last_step:,} of {signals.budget:,} ({share:.0%}){_left(signals)}",
    )
    parts: list[RenderableType] = [head]
    if state == "stopped" and "reason" in signals.status:
        parts.append(Text(f"Nobody trains it: {signals.status['reason']}. `stablegrad resume {signals.path}` goes on."))
    parts.append(ProgressBar(total=1.0, completed=min(share, 1.0), width=60))
    scores = signals.get("train/episode_return", "train/accuracy")
    if scores is not None:
        name = "return of training games" if "train/episode_return" in signals.series else "training accuracy"
        values = scores.values.tolist()
        parts += ["", f"{name}: {number(values[-1])}   (from {number(min(values))} to {number(max(values))})"]
        parts += [Text(line, style="green") for line in chart(values)]
    parts += ["", _table(signals)]
    layers = _layers(signals)
    if layers is not None:
        parts += ["", layers]
    parts.append("")
    parts += [
        Text(f"{finding.severity}: {finding.illness.title.lower()}. {finding.summary}", style=COLOURS[finding.severity])
        for finding in examination.findings
    ] or [Text("The doctor finds nothing wrong so far.", style="green")]
    return Group(*parts)


def _table(signals: Signals) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, names in SHOWN.items():
        series = signals.get(*names)
        if series is not None:
            table.add_row(label, number(float(series.values[-1])), sparkline(series.values.tolist(), width=36))
    return table


def _layers(signals: Signals) -> RenderableType | None:
    """The newest gradient norms from the first layer to the last, as one line; None where none were logged."""
    layers: dict[str, Series] = signals.layers("gradients/raw")
    if len(layers) < 2:
        return None
    newest = [float(series.values[-1]) for series in layers.values()]
    line = sparkline(newest, width=len(newest), log=True)
    low, high = (number(pick(newest)) for pick in (min, max))
    return Text(f"gradient by layer, first to last (log)  {line}  {low} to {high}")


def _left(signals: Signals) -> str:
    """Time left at the speed so far."""
    seconds = signals.get("seconds")
    if seconds is None or signals.status.get("state") in _ENDED or not signals.last_step:
        return ""
    left = float(seconds.values[-1]) / int(seconds.steps[-1]) * max(signals.budget - signals.last_step, 0)
    hours, minutes = divmod(round(left / 60), 60)
    return f", about {hours} h {minutes:02} min left" if hours else f", about {minutes} min left"
