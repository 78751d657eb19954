"""The command line: one entry point, thin commands, and one clear message for a user's mistake."""

import errno
import importlib
import logging
import sys
from collections.abc import Sequence

from stablegrad.errors import BAD_USAGE, DONE, FAILED, UserError, nearest
from stablegrad.registry import blamed, in_words
from stablegrad.runs.files import DiskError
from stablegrad.text import drop_lost_output, printable, say, speak_any_encoding

# What is wrong with a path that somebody named, as against what is wrong with the machine.
_OF_PATHS = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EINVAL,
})  # fmt: skip

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
    speak_any_encoding()
    _show_warnings()
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        return _dispatch(arguments)
    except UserError as error:
        if show_traceback:
            raise
        return _complain(error.problems, error.exit_code)
    except KeyboardInterrupt:
        return _complain(["interrupted"], FAILED)
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        # The last net: what a command knows better it says itself, before it starts.
        if show_traceback or error.errno is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        said = str(error) if isinstance(error, DiskError) else f"{where}{error.strerror}"
        return _complain([said], BAD_USAGE if error.errno in _OF_PATHS else FAILED)
    except (Exception, SystemExit) as error:
        if show_traceback or blamed(error) is None:
            raise
        return _complain([in_words(error)], FAILED)
    finally:
        drop_lost_output()


def _complain(problems: Sequence[str], code: int) -> int:
    """Print the problems as one error, a line each, and give the exit code back."""
    first, *others = map(printable, problems)
    say(f"error: {first}", *(f"       {problem}" for problem in others), file=sys.stderr)
    return code


class _Warnings(logging.Handler):
    """Prints the package's warnings, which may name what others named, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), file=sys.stderr)


def _show_warnings() -> None:
    logger = logging.getLogger("stablegrad")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say(overview())
        return DONE if arguments else BAD_USAGE
    if arguments[0] == "--version":
        from stablegrad import __version__

        say(f"stablegrad {__version__}")
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
