"""The command line: one entry point, thin commands, and one clear message for a user's mistake."""

import importlib
import sys
from collections.abc import Sequence

from stablegrad.errors import BAD_USAGE, DONE, FAILED, UserError, nearest

COMMANDS = {
    "pqn": ("train:pqn", "train PQN"),
    "ppo": ("train:ppo", "train PPO"),
    "dqn": ("train:dqn", "train DQN"),
    "rainbow": ("train:rainbow", "train Rainbow"),
    "cifar": ("train:cifar", "train the trunks on images, with fixed or changing labels"),
    "train": ("train:user_agent", "train your own agent, path/to/file.py:Name"),
    "check": ("check:main", "run the contract tests on your own agent, network or environment"),
    "resume": ("train:resume", "go on with a run that stopped"),
    "fork": ("train:fork", "start a new run from a checkpoint of another"),
    "eval": ("evaluate:main", "play whole games with a run's newest checkpoint"),
    "watch": ("watch:main", "live numbers of a run in the terminal"),
    "doctor": ("doctor:main", "say what is wrong with a run and what to try"),
    "sweep": ("sweep:main", "run a grid of runs from a TOML file"),
    "report": ("report:main", "judge any set of runs: one HTML page with statistics"),
    "upload": ("report:upload", "mirror a run to a tracker, later"),
    "bench": ("bench:main", "steps per second on this machine"),
    "list": ("catalogues:list_names", "names of algorithms, networks, optimizers, games, …"),
    "explain": ("catalogues:explain", "what a metric is"),
    "demo": ("demo:main", "the depth-collapse demonstration, ten minutes on two cores"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the value is the exit code: 0 done, 1 failed, 2 bad usage, 75 stopped and resumable."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        return _dispatch(arguments)
    except UserError as error:
        if show_traceback:
            raise
        problems = error.problems
        print(f"error: {problems[0]}", *(f"       {problem}" for problem in problems[1:]), sep="\n", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return FAILED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return DONE if arguments else BAD_USAGE
    if arguments[0] == "--version":
        from stablegrad import __version__

        print(f"stablegrad {__version__}")
        return DONE
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"unknown command '{name}'{nearest(name, COMMANDS)}; `stablegrad --help` lists them")
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"stablegrad.commands.{module}"), function)(rest)


def overview() -> str:
    """The page that `stablegrad --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "stablegrad: scale deep-RL networks, see why learning stopped, repair it, and prove it",
            "",
            "usage: stablegrad COMMAND [options]      stablegrad COMMAND --help",
            "",
            *lines,
            "",
            "examples:",
            "  stablegrad pqn --env_id MinAtar/Breakout --total_timesteps 500000",
            "  stablegrad pqn --mlp_type=multiskip_residual --use_ln --optimizer=kron",
            "  stablegrad eval runs/pqn-Breakout-1-0123456789 --episodes 30",
            "",
            "exit codes: 0 done, 1 failed, 2 bad usage, 75 stopped on request (go on with `stablegrad resume`)",
        ]
    )
