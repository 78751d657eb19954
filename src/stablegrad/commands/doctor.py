"""`stablegrad doctor RUN [OTHER]`: what is wrong with a run, what to try, and how it differs from another."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stablegrad.commands.parsing import Parser, add_trust, whole
from stablegrad.commands.terminal import Terminal
from stablegrad.doctor import Comparison, Examination, Finding, compare, examine, illness
from stablegrad.doctor.pictures import number, sparkline
from stablegrad.errors import DONE, UserError
from stablegrad.text import say

COLOURS = {"critical": "red", "warning": "yellow", "info": "cyan"}
_LAYERS_NAMED = 4


def main(argv: list[str]) -> int:
    parser = Parser(
        "doctor",
        "Read a run's record and say what is wrong with it, most serious first: the evidence, how sure that is, and\n"
        "flags to try. With a second run, also what sets the two apart. Works while a run is still training.",
        example="stablegrad doctor runs/pqn-Breakout-1-0123456789",
    )
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("other", nargs="?", help="another run to compare it with")
    parser.add_argument(
        "--capacity",
        nargs="?",
        type=whole,
        const=500,
        metavar="STEPS",
        help="also how many steps a copy of the newest checkpoint's network needs to fit random targets, beside the"
        " network that the run began with; tried for up to STEPS [500]",
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    add_trust(parser)
    arguments = parser.parse(argv)
    if arguments.other is not None and arguments.capacity is not None:
        raise UserError("--capacity is of one run: ask for each by itself")
    if arguments.other is None:
        examination = examine(arguments.run)
        fits = (
            {}
            if arguments.capacity is None
            else capacity_record(arguments.run, arguments.capacity, trust=arguments.trust)
        )
        record, shown = lambda: examination.record() | fits, lambda: Group(page(examination), *_capacity_lines(fits))
    else:
        comparison = compare(arguments.run, arguments.other)
        record, shown = comparison.record, lambda: Group(page(comparison.first), beside(comparison))
    if arguments.json:
        say(json.dumps(record(), indent=2))
    else:
        Terminal().print(shown())
    return DONE


def page(examination: Examination) -> RenderableType:
    """All findings of one run as panels, under a line that says how far the run is."""
    signals = examination.signals
    config = signals.config
    game = config.get("env_id", config.get("dataset", ""))
    title = Text.assemble(
        (signals.path.name or str(signals.path), "bold"), f"  {config.get('algo', '')} {game}".rstrip()
    )
    state = signals.status.get("state", "unknown")
    parts: list[RenderableType] = [title, f"{signals.last_step:,} of {signals.budget:,} steps, {state}", ""]
    parts += [_panel(finding, config) for finding in examination.findings]
    if examination.healthy:
        parts.append(Text("Nothing is wrong, as far as what was logged tells.", style="green"))
    if examination.not_looked_at:
        names = ", ".join(illness(name).title.lower() for name in examination.not_looked_at)
        parts.append(Text(f"Not looked for, as the run did not log what it takes (--diagnostics full): {names}."))
    return Group(*parts)


def capacity_record(run: str, budget: int, *, trust: bool = False) -> dict[str, Any]:
    """What `--capacity` adds to a record; this alone needs torch, and the run's checkpoint."""
    from stablegrad import api

    found = api.load_run(run, trust=trust).capacity(budget=budget)
    return {"capacity": {name: fit._asdict() for name, fit in found._asdict().items()}}


def _capacity_lines(record: Mapping[str, Any]) -> list[str]:
    return [
        f"Capacity, in steps until a copy fits random targets: {_fit(fits['now'])} for the newest checkpoint,"
        f" {_fit(fits['fresh'])} for the network that the run began with."
        for fits in record.values()
    ]


def _fit(fit: Mapping[str, Any]) -> str:
    error = f" (not enough: {fit['error']:.0%} of their variance is left)"
    return f"{fit['steps']}{'' if fit['reached'] else error}"


def beside(comparison: Comparison) -> RenderableType:
    """What sets two runs apart."""
    names = [one.signals.path.name for one in (comparison.first, comparison.second)]
    settings = Table("setting", *names, title="How they were made", title_justify="left")
    for name, pair in comparison.settings.items():
        settings.add_row(name, *map(str, pair))
    figures = Table("last quarter, median", *names, title="What came of it", title_justify="left")
    for name, values in comparison.figures.items():
        figures.add_row(name, *("–" if value is None else number(value) for value in values))
    parts: list[RenderableType] = [
        "",
        settings if comparison.settings else "They differ in nothing but the seed.",
        figures,
    ]
    for name, only in zip(names, comparison.only, strict=True):
        if only:
            parts.append(f"Only {name}: {', '.join(illness(one).title.lower() for one in only)}.")
    if not any(comparison.only):
        parts.append("The doctor says the same of both.")
    return Group(*parts)


def _panel(finding: Finding, config: Any) -> RenderableType:
    when = "" if finding.since is None else f", since step {finding.since:,}"
    head = Text.assemble((finding.illness.title, f"bold {COLOURS[finding.severity]}"), f"  {finding.severity}{when}")
    parts: list[RenderableType] = [Text(finding.summary, style="bold"), Text(finding.illness.about, style="dim")]
    if finding.layers:
        parts.append(f"layers: {_some(finding.layers)}")
    if finding.picture is not None:
        values = finding.picture.values
        line = sparkline(values, log=finding.picture.log)
        ends = f"{number(values[0])} → {number(values[-1])}, from {number(min(values))} to {number(max(values))}"
        parts.append(Text(f"{line}  {finding.picture.metric}: {ends}"))
    facts = [
        f"{label} {value if isinstance(value, str) else number(value)}" for label, value in finding.evidence.items()
    ]
    parts.append(Text(" · ".join([*facts, f"sure: {finding.confidence:.0%}"])))
    advice = finding.advice(config)
    if advice:
        parts.append("try:")
    for flags, remedy in advice:
        where = "our own runs" if remedy.shown == "ours" else "the literature"
        text = Text.assemble((flags, "bold"), f"  {remedy.why} ", (f"({where}: {remedy.source})", "dim"))
        parts.append(Padding(text, (0, 0, 0, 2)))
    return Panel(Group(*parts), title=head, title_align="left", border_style=COLOURS[finding.severity])


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


def _some(layers: tuple[str, ...]) -> str:
    shown = ", ".join(layers[:_LAYERS_NAMED])
    more = len(layers) - _LAYERS_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
