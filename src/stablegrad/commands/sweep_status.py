"""`stablegrad sweep status FILE|DIR`."""

import time
from pathlib import Path

from rich.live import Live

from stablegrad.commands.parsing import Parser
from stablegrad.commands.sweep_view import Watch, render
from stablegrad.commands.terminal import Terminal
from stablegrad.errors import DONE
from stablegrad.sweeps.file import read
from stablegrad.sweeps.folder import SweepFolder

_REDRAW_SECONDS = 2.0


def main(argv: list[str]) -> int:
    parser = Parser(
        "sweep status",
        "How far a sweep is: a table that follows it in a terminal (Ctrl-C ends), or once elsewhere.",
        example="stablegrad sweep status examples/depth_collapse.toml",
    )
    parser.add_argument("sweep", help="the sweep's file, or its folder")
    parser.add_argument("--out", help="the sweep's folder, if the file's runs are not in runs/<name>")
    parser.add_argument("--once", action="store_true", help="print the table once, also in a terminal")
    arguments = parser.parse(argv)
    folder = SweepFolder.open(_folder(Path(arguments.sweep), arguments.out))
    watch, console = Watch(folder), Terminal()
    if not console.is_terminal or arguments.once:
        console.print(render(folder, watch.now()))
        return DONE
    with Live(console=console, auto_refresh=False) as live:
        while True:
            now = watch.now()
            live.update(render(folder, now, rows=max(4, console.height - 12)), refresh=True)
            if all(progress.state in ("done", "failed") for progress in now.values()):
                return DONE
            time.sleep(_REDRAW_SECONDS)


def _folder(given: Path, out: str | None) -> Path:
    if out is not None:
        return Path(out)
    return given if given.is_dir() else Path("runs") / read(given).name
