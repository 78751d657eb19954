"""argparse, taught to report a user's mistake as one UserError and to take underscores and hyphens alike."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, get_origin

from stablegrad.errors import UserError, nearest
from stablegrad.settings import annotations, coerce, describe
from stablegrad.text import quoted

_UNSET = argparse.SUPPRESS


class Parser(argparse.ArgumentParser):
    """Options are named with underscores; hyphens mean the same. Mistakes raise UserError."""

    def __init__(self, command: str, description: str, *, example: str) -> None:
        super().__init__(
            prog=f"stablegrad {command}",
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].lower()}{message[1:]} (`{self.prog} --help` shows the options)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse `argv`; every unknown option is reported, with the nearest known one."""
        namespace, unknown = self.parse_known_args([underscored(argument) for argument in argv])
        options = [text[2:] for action in self._actions for text in action.option_strings if text.startswith("--")]
        problems = []
        for argument in unknown:
            name = argument.partition("=")[0]
            if name.startswith("--"):
                problems.append(f"unknown option {name}{nearest(name[2:], options)}")
        stray = [argument for argument in unknown if not argument.startswith("-")]
        if stray and not problems:
            problems.append(f"unexpected argument '{stray[0]}'")
        if unknown and not problems:
            problems.append(f"unknown option {unknown[0]}")
        # `--option=--` reads as an option with no value, and argparse hands on an empty list.
        problems += [
            f"--{action.dest}: expected one argument"
            for action in self._actions
            if isinstance(action, argparse._StoreAction)
            and action.nargs is None
            and isinstance(getattr(namespace, action.dest, None), list)
        ]
        if problems:
            raise UserError(problems)
        return namespace


def add_trust(parser: Parser) -> None:
    """The option of a command that may import what a run's config names."""
    parser.add_argument("--trust", action="store_true", help="import code of others that the run names (see the error)")


def whole(text: str) -> int:
    """The type of an option that takes a whole number: what a setting of that type takes."""
    return _of_type(text, int)


def finite(text: str) -> float:
    """The type of an option that takes a finite number."""
    return _of_type(text, float)


def _of_type(text: str, annotation: Callable[[str], Any]) -> Any:
    try:
        return coerce(text, annotation)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{quoted(text)} {error}") from None


class _Together(argparse.Action):
    """A list given in parts, one option each: the same as all of them in one, with commas."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        earlier = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, values if earlier is None else f"{earlier},{values}")


def underscored(argument: str) -> str:
    """`--use-ln` as `--use_ln`; values are left alone."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def add_settings(parser: Parser, title: str, section: type, defaults: dict[str, Any]) -> None:
    """One option for each field of a section; what is not given does not appear in the namespace."""
    group = parser.add_argument_group(title)
    hints = annotations(section)
    for field in dataclasses.fields(section):
        if not field.init:
            continue
        default = defaults.get(field.name, field.default)
        text = f"{field.metadata.get('help', '')} [{_show(default)}]".replace("%", "%%").strip()
        if hints[field.name] is bool:
            group.add_argument(
                f"--{field.name}", nargs="?", const=True, default=_UNSET, metavar="true|false", help=text
            )
            group.add_argument(f"--no_{field.name}", dest=field.name, action="store_false", default=_UNSET,
                               help=argparse.SUPPRESS)  # fmt: skip
        else:
            several = get_origin(hints[field.name]) is tuple
            group.add_argument(
                f"--{field.name}",
                action=_Together if several else "store",
                default=_UNSET,
                metavar=describe(hints[field.name]),
                help=text,
            )


def _show(default: Any) -> str:
    if isinstance(default, Iterable) and not isinstance(default, str):
        return ",".join(map(str, default)) or "none"
    if default is dataclasses.MISSING:
        return "required"
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)
