"""`stablegrad pqn | ppo | dqn | rainbow | cifar | train FILE:Agent`, `resume`, `fork`."""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stablegrad import api
from stablegrad.agents import AGENTS, agent_kind
from stablegrad.commands.parsing import Parser, add_settings, add_trust, whole
from stablegrad.commands.progress import ProgressBar
from stablegrad.doctor import examine
from stablegrad.errors import DONE, FAILED, STOPPED, UserError
from stablegrad.reports.report import write_report
from stablegrad.runs.config import RunConfig, section_types
from stablegrad.runs.files import read_toml
from stablegrad.runs.folder import RunLocked
from stablegrad.runs.published import dropped_flag
from stablegrad.runs.reading import is_number
from stablegrad.runs.trust import Trust, named_in, names_of
from stablegrad.text import say
from stablegrad.training.loop import RunFailed

_TITLES = {
    "run": "run",
    "budget": "experience",
    "env": "environment",
    "network": "network",
    "optimizer": "optimizer",
    "agent": "algorithm",
}


def pqn(argv: list[str]) -> int:
    return _train("pqn", argv)


def ppo(argv: list[str]) -> int:
    return _train("ppo", argv)


def dqn(argv: list[str]) -> int:
    return _train("dqn", argv)


def rainbow(argv: list[str]) -> int:
    return _train("rainbow", argv)


def cifar(argv: list[str]) -> int:
    return _train("cifar", argv)


def user_agent(argv: list[str]) -> int:
    """`stablegrad train path/to/file.py:Name …`."""
    if argv[:1] in (["-h"], ["--help"]):
        parser = Parser("train", "Train your own agent from your own file; `--help` behind it shows its settings.",
                        example="stablegrad train my_agent.py:MyAgent --env_id CartPole-v1")  # fmt: skip
        parser.add_argument("agent", metavar="path/to/file.py:Name")
        parser.parse(argv)
    if not argv or argv[0].startswith("-"):
        raise UserError("say which agent: `stablegrad train path/to/file.py:Name --env_id …`")
    return _train(argv[0], argv[1:])


def resume(argv: list[str]) -> int:
    parser = Parser("resume", "Go on with a run that stopped, exactly where it stopped.",
                    example="stablegrad resume runs/pqn-Breakout-1-0123456789")  # fmt: skip
    parser.add_argument("run", help="the run's folder")
    parser.add_argument(
        "--start_over", action="store_true", help="from step 0; what is there is moved into RUN/superseded"
    )
    parser.add_argument(
        "--accept_missing_rows", action="store_true", help="even though lines that the checkpoint counts are gone"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no page")
    add_trust(parser)
    arguments = parser.parse(argv)
    run = api.load_run(arguments.run, trust=arguments.trust)
    if run.status["state"] == "done" and not arguments.start_over:
        say(f"{run.path} is done: {run.status['step']:,} steps")
        return DONE
    options = {name: getattr(arguments, name) for name in ("start_over", "accept_missing_rows")}
    return _finish(
        run.path,
        lambda bar: api.resume(run.path, trust=run.trust, observers=[bar], **options),
        run.config,
        quiet=arguments.quiet,
    )


def fork(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        argv = ["--help"] if argv[:1] in (["-h"], ["--help"]) else argv
    parser = Parser("fork", "Start a new run from a checkpoint of another, with some settings changed.",
                    example="stablegrad fork runs/a --run_dir runs/b --learning_rate 1e-4")  # fmt: skip
    parser.add_argument("run", help="the run to start from")
    parser.add_argument("--run_dir", required=True, help="the new run's folder")
    parser.add_argument("--step", type=whole, help="the checkpoint's step (default: the newest)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no page")
    add_trust(parser)
    trust: Trust = "--trust" in argv or named_in(argv)
    source = next((argument for argument in argv if not argument.startswith("-")), None)
    if source is not None and source != "--help":
        config = api.load_run(source, trust=trust).config
        for name, section in section_types(config.algo).items():
            add_settings(parser, _TITLES[name], section, config.flat())
    arguments = vars(parser.parse(argv))
    path, new, step, quiet, _ = (arguments.pop(name) for name in ("run", "run_dir", "step", "quiet", "trust"))
    run = api.load_run(path, trust=trust)
    if step is not None and run.folder.checkpoints / f"step_{step:012d}" not in run.checkpoints:
        known = ", ".join(str(int(c.name.removeprefix("step_"))) for c in run.checkpoints)
        raise UserError(f"{run.path} has no checkpoint at step {step}; it has {known or 'none'}")
    return _finish(
        Path(new),
        lambda bar: api.fork(path, arguments, at=step, run_dir=new, trust=trust, observers=[bar]),
        run.config,
        quiet=quiet,
    )


def _train(algo: str, argv: list[str]) -> int:
    parser = _parser(algo)
    try:
        arguments = vars(parser.parse(argv))
    except UserError as error:
        raise UserError([_published(algo, problem) for problem in error.problems]) from None
    run_dir, file, quiet = (arguments.pop(name) for name in ("run_dir", "config", "quiet"))
    if not arguments["faithful"]:
        del arguments["faithful"]
    config = RunConfig.resolve(algo, {**_from_file(file, algo), **arguments})
    if getattr(config.agent, "seeds", 1) > 1:
        return _train_seeds(config, run_dir, quiet=quiet)
    path = Path(run_dir) if run_dir is not None else Path("runs") / config.name
    return _finish(path, lambda bar: api.train(config, run_dir=path, observers=[bar]), config, quiet=quiet)


def _train_seeds(config: RunConfig, run_dir: str | None, *, quiet: bool) -> int:
    """The seeds of one configuration, side by side."""
    try:
        with ProgressBar(Path(run_dir or config.name), config, quiet=quiet) as bar:
            runs = api.train_seeds(config, run_dir=run_dir, observers=[bar])
    except (RunFailed, RunLocked) as error:
        say(f"error: {error}", file=sys.stderr)
        return FAILED
    if runs[-1].status["state"] == "stopped":
        say(f"stopped at step {runs[-1].status['step']:,}; go on with: stablegrad resume {again(runs[-1])}")
        return STOPPED
    say(*map(_summary, runs))
    say(f"compare: stablegrad report {' '.join(str(run.path) for run in runs)}")
    return DONE


def _parser(algo: str) -> Parser:
    kind = agent_kind(algo)
    module_doc = (sys.modules[kind.__module__].__doc__ or kind.__doc__ or "").strip()
    name = algo if algo in AGENTS else f"train {algo}"
    parser = Parser(name, module_doc, example=f"stablegrad {name} --mlp_type multiskip_residual --optimizer kron")
    parser.usage = f"stablegrad {name} [options]"
    parser.add_argument("--run_dir", help="the run's folder [runs/<algo>-<env>-<seed>-<hash>]")
    parser.add_argument("--config", metavar="FILE.toml", help="settings from a file; options given beside it win")
    parser.add_argument("--faithful", action="store_true", help="every published behaviour that has a switch, on")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no page")
    for section_name, section in section_types(algo).items():
        add_settings(parser, _TITLES[section_name], section, dict(kind.defaults))
    for alias, target in getattr(kind, "aliases", {}).items():
        parser.add_argument(f"--{alias}", dest=target, default=argparse.SUPPRESS, help=f"the same as --{target}")
    return parser


def _published(algo: str, problem: str) -> str:
    """A problem about a flag of the published scripts says what became of it."""
    words = problem.split()
    if words[:2] == ["unknown", "option"]:
        return dropped_flag(algo, words[2].removeprefix("--")) or problem
    return problem


def _from_file(file: str | None, algo: str) -> dict[str, Any]:
    if file is None:
        return {}
    values = read_toml(Path(file), f"--config {file}")
    written = values.pop("algo", algo)
    if written != algo:
        raise UserError(f"--config {file} is for {written}, not for {algo}")
    return values


def _finish(path: Path, start: Any, config: RunConfig, *, quiet: bool) -> int:
    """Run with a progress bar, then say what came of it and where it lies."""
    try:
        with ProgressBar(path, config, quiet=quiet) as bar:
            run = start(bar)
    except (RunFailed, RunLocked) as error:
        say(f"error: {error}", file=sys.stderr)
        return FAILED
    if run.status["state"] == "stopped":
        with contextlib.suppress(OSError):  # the terminal may be gone, which is why the run stopped
            say(f"stopped at step {run.status['step']:,}; go on with: stablegrad resume {again(run)}")
        return STOPPED
    try:
        if not quiet:
            write_report(run.path, run.folder.report, findings=examine(run.path).records(), files=False)
    finally:
        say(_summary(run))
    return DONE


def again(run: api.Run) -> str:
    """The run as the arguments of a command that goes on with it: whoever asked for its code trusts it."""
    return f"{run.path} --trust" if names_of(run.config.flat()) else str(run.path)


def _diagnostics_share(rows: Sequence[Mapping[str, Any]]) -> float:
    """The share of training time that probes took, in [0, 1]; each row has that of the time since the last."""
    rows = [row for row in rows if is_number(row.get("seconds")) and is_number(row.get("time/diagnostics_share"))]
    seconds = [0.0, *(row["seconds"] for row in rows)]
    spent = sum(
        row["time/diagnostics_share"] * (now - before)
        for row, (before, now) in zip(rows, itertools.pairwise(seconds), strict=True)
    )
    return spent / seconds[-1] if seconds[-1] else 0.0


def _summary(run: api.Run) -> str:
    lines = [f"done: {run.status['step']:,} steps in {run.path}"]
    last = [score for game in run.episodes[-100:] if is_number(score := game.get("score"))]
    if last:
        mean = sum(last) / len(last)
        lines.append(f"mean score of the last {len(last)} training games: {mean:.2f}")
    if run.config.run.diagnostics != "off":
        lines.append(f"diagnostics took {_diagnostics_share(run.metrics):.1%} of the time")
    if run.folder.report.exists():
        lines.append(f"report: {run.folder.report}")
    if run.config.env is not None:
        lines.append(f"evaluate: stablegrad eval {again(run)} --episodes 30")
    return "\n".join(lines)
