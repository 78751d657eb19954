"""`stablegrad demo`: the depth-collapse demonstration, live, with a picture, a page and a verdict in words."""

import time
from pathlib import Path

from rich.table import Table

from stablegrad import demo
from stablegrad.commands.board import Board
from stablegrad.commands.parsing import Parser, whole
from stablegrad.commands.terminal import Terminal
from stablegrad.errors import DONE, FAILED, STOPPED, UserError
from stablegrad.launch import available_cores
from stablegrad.reports.report import write_report
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.reading import read_config
from stablegrad.runs.trust import check, names_of
from stablegrad.sweeps.pool import LocalPool
from stablegrad.training.stop import StopRequest


def main(argv: list[str]) -> int:
    parser = Parser(
        "demo",
        "PQN on MinAtar Breakout with a 12-layer head: a plain net, two repairs, two controls; one seed each.\n"
        "Asked again, it goes on where it stopped and repeats nothing.",
        example="stablegrad demo --run_dir demo",
    )
    parser.add_argument("--run_dir", default="demo", help="where the five runs and the page go [demo]")
    parser.add_argument("--seed", type=whole, default=1, help="seed of every arm [1]")
    parser.add_argument("--slots", type=whole, default=available_cores(), help="runs at a time [all cores]")
    parser.add_argument("--total_timesteps", type=whole, help="steps of each arm [120000]; fewer only to try it out")
    arguments = parser.parse(argv)
    if arguments.slots < 1:
        raise UserError(f"--slots {arguments.slots}: must be at least 1")
    steps, least = arguments.total_timesteps, demo.SETTINGS["num_envs"] * demo.SETTINGS["num_steps"]
    if steps is not None and steps < least:
        raise UserError(f"--total_timesteps {steps}: one rollout has {least:,} steps, and nothing is learned before")
    overrides = {} if steps is None else {"total_timesteps": steps}
    folders = _folders(Path(arguments.run_dir), arguments.seed, overrides)

    console = Terminal()
    console.print(_introduction(len(folders), arguments.seed))
    started = time.monotonic()
    # Kron takes about as long as the other arms together: first in line, it does not end alone.
    order = sorted(folders, key=lambda arm: arm.changes.get("optimizer") != "kron")
    unfinished = [folders[arm] for arm in order if RunFolder.open(folders[arm]).status["state"] != "done"]
    labels = {folders[arm]: arm.name for arm in demo.ARMS}
    with StopRequest() as stop, Board(labels, console) as board:
        codes = LocalPool(arguments.slots).run(unfinished, stop=lambda: bool(stop), on_tick=board.update)
    if stop:
        console.print("stopped; `stablegrad demo` goes on from here")
        return STOPPED
    failed = [path for path, code in codes.items() if code != 0]
    if failed:
        console.print(*(f"{labels[path]} failed: {path / 'log.txt'} says why" for path in failed), sep="\n")
        return FAILED

    outcomes = [demo.outcome(arm, folder) for arm, folder in folders.items()]
    console.print(_table(outcomes))
    console.print(*demo.verdict(outcomes), sep="\n")
    page = write_report(
        list(folders.values()),
        Path(arguments.run_dir) / "report.html",
        title="Depth collapse on MinAtar Breakout",
        command="stablegrad demo",
    )
    pictures = page.with_name(f"{page.stem}_files")
    console.print(f"\n{time.monotonic() - started:.0f} s. Page: {page}   pictures: {pictures}")
    return DONE


def _folders(root: Path, seed: int, overrides: dict[str, int]) -> dict[demo.Arm, Path]:
    """The arms' run folders, made where they are not there yet: a configuration asked twice is run once."""
    folders = {}
    for arm in demo.ARMS:
        config = arm.config(seed=seed, **overrides)
        path = root / config.identity
        RunFolder.ensure(path, config)
        check(path, read_config(path), names_of(config.flat()))
        folders[arm] = path
    return folders


def _introduction(arms: int, seed: int) -> str:
    return (
        f"Depth collapse: PQN on MinAtar Breakout, a 12-layer head of width 256 without layer norm,"
        f" {demo.SETTINGS['total_timesteps']:,} steps; {arms} arms, seed {seed}.\n"
        "'return' is the mean score of the training games that ended since the row before; no smoothing.\n"
    )


def _table(outcomes: list[demo.Outcome]) -> Table:
    table = Table("arm", "score", "games", "updates", "gradient, first layer", "last layer", "minutes")
    for result in outcomes:
        table.add_row(
            result.arm.name,
            f"{result.score:.2f}",
            str(result.games),
            str(result.updates),
            f"{result.first_layer:.1e}",
            f"{result.last_layer:.1e}",
            f"{result.minutes:.1f}",
        )
    table.caption = (
        f"score: mean of the last {demo.LAST_GAMES} training games; gradients: mean L2 norms before clipping"
    )
    return table
