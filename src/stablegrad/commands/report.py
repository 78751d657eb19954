"""`stablegrad report RUN…` and `stablegrad upload RUN`."""

import shlex
from pathlib import Path

from stablegrad.commands.parsing import Parser
from stablegrad.doctor import examine
from stablegrad.errors import DONE
from stablegrad.integrations.trackers import TRACKERS
from stablegrad.integrations.trackers import upload as mirror
from stablegrad.reports.report import write_report
from stablegrad.text import say


def main(argv: list[str]) -> int:
    parser = Parser(
        "report",
        "Judge any set of runs: one self-contained page with curves, intervals, grids and what the evidence supports,\n"
        "for a single run what the doctor finds, a Markdown version, and every figure as PNG, SVG and CSV.",
        example="stablegrad report runs/depth_collapse --out report.html --baseline plain",
    )
    parser.add_argument("runs", nargs="+", help="run folders, or folders of run folders")
    parser.add_argument("--out", help="the page [report.html in the first folder]")
    parser.add_argument("--title", help="the page's title")
    parser.add_argument("--baseline", help="(part of) the label of the arm that the others are compared with")
    parser.add_argument("--no_files", action="store_true", help="the page alone, without the figures as files")
    arguments = parser.parse(argv)
    [first, *others] = arguments.runs
    alone = not others and (Path(first) / "config.json").is_file()
    page = write_report(
        arguments.runs,
        arguments.out or Path(first) / "report.html",
        title=arguments.title,
        command=shlex.join(["stablegrad", "report", *argv]),
        baseline=arguments.baseline,
        findings=examine(first).records() if alone else (),
        files=not arguments.no_files,
    )
    say(f"report: {page}")
    return DONE


def upload(argv: list[str]) -> int:
    parser = Parser(
        "upload",
        "Mirror a run that was made earlier to a tracker.",
        example="stablegrad upload runs/pqn-Breakout-1-0123456789 --to tensorboard",
    )
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--to", required=True, help=f"one of {', '.join(TRACKERS)}, or path/to/file.py:Name")
    arguments = parser.parse(argv)
    rows = mirror(Path(arguments.run), arguments.to)
    say(f"{rows} rows of {arguments.run} are in {arguments.to}")
    return DONE
