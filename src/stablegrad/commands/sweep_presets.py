"""`stablegrad sweep presets`: the paper's figures and tables as sweep files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stablegrad.commands.parsing import Parser, whole
from stablegrad.commands.sweep import parse_time
from stablegrad.commands.sweep_plan import prices_of
from stablegrad.commands.terminal import Terminal
from stablegrad.errors import DONE, UserError
from stablegrad.launch import available_cores
from stablegrad.runs.files import check_writable, make_folder, write_text
from stablegrad.settings import coerce, toml_value
from stablegrad.sweeps import presets, scale
from stablegrad.sweeps.file import SweepFile, write
from stablegrad.sweeps.grid import expand, kept
from stablegrad.text import quoted

_UNITS = {"total_timesteps": "steps", "epochs": "epochs"}


def main(argv: list[str]) -> int:
    parser = Parser(
        "sweep presets",
        "The paper's figures and tables as sweeps, with the paper's budgets. Without --write, a list of them.\n"
        "--scale shrinks one to what this machine can do in some hours and says what was given up: first steps of a\n"
        "run, then games, then seeds; the arms and the networks stay.",
        example="stablegrad sweep presets --write skip_k skip_k.toml --scale 12",
    )
    parser.add_argument("--write", nargs=2, metavar=("NAME", "FILE"), help="write a preset as a file to run or edit")
    parser.add_argument(
        "--scale", metavar="HOURS", help="shrink it to this many hours here, or `smoke`: an update or two"
    )
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE",
                        help="change a setting everywhere; several values, with commas, vary it")  # fmt: skip
    parser.add_argument("--slots", type=whole, default=available_cores(), help="runs at a time for --scale [cores]")
    parser.add_argument("--calibration", default="3m", metavar="TIME", help="time that --scale may measure for [3m]")
    arguments = parser.parse(argv)
    console = Terminal()
    if arguments.write is None:
        if arguments.scale or arguments.set:
            raise UserError("--scale and --set change a preset that is written: add --write NAME FILE")
        _list(console)
        return DONE
    name, file = arguments.write
    path = Path(file)
    if path.exists():
        raise UserError(f"{path} is there already: name another file")
    check_writable(path, str(path))
    sweep = presets.with_settings(presets.load(name), dict(_setting(text) for text in arguments.set))
    changed = tuple(f"changed from the preset: {text}" for text in arguments.set)
    sweep = dataclasses.replace(sweep, notes=(*sweep.notes, *changed))
    if arguments.scale is not None:
        sweep = _scaled(
            sweep, arguments.scale, arguments.slots, parse_time(arguments.calibration, "--calibration"), console
        )
    make_folder(path.parent)
    write_text(path, write(sweep))
    console.print(*(Text(f"note: {note}") for note in sweep.notes), Text(f"run it: stablegrad sweep {path}"), sep="\n")
    return DONE


def _list(console: Console) -> None:
    table = Table("preset", "what", "runs", "each", box=None, pad_edge=False)
    for name in presets.names():
        sweep = presets.load(name)
        # Counted, not resolved: a list must not need CIFAR's files, nor torch.
        cells = list(kept(sweep, []))
        table.add_row(name, sweep.description, f"{len(cells):,}", _length([cell.given for cell in cells]))
    console.print(table)
    console.print("write one as a file: stablegrad sweep presets --write NAME FILE [--scale HOURS]")


def _length(cells: Sequence[Mapping[str, Any]]) -> str:
    """How long a run is, as the preset says it."""
    found = {(name, given[name]) for given in cells for name in ("total_timesteps", "epochs") if name in given}
    return " or ".join(f"{count:,} {_UNITS[name]}" for name, count in sorted(found))


def _scaled(sweep: SweepFile, text: str, slots: int, calibration_seconds: float, console: Console) -> SweepFile:
    if text == "smoke":
        return scale.smoke(sweep)
    try:
        hours = coerce(text, float)
    except ValueError as error:
        raise UserError(f"--scale {quoted(text)}: {error} of hours, or smoke") from None
    if not hours > 0:
        raise UserError(f"--scale {text}: must be more than 0 hours")
    prices = prices_of(expand(sweep), console, calibration_seconds=calibration_seconds)
    shrunk = scale.shrink(sweep, prices, hours=hours, slots=slots)
    console.print(f"about {shrunk.hours:.1f} hours with {slots} runs at a time; given up:")
    console.print(*(Text(f"  {sentence}") for sentence in shrunk.given_up or ("nothing",)), sep="\n")
    return shrunk.sweep


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--set {text}: write it as SETTING=VALUE")
    values = [toml_value(part) for part in value.split(",")]
    return name.replace("-", "_"), values[0] if len(values) == 1 else values
