"""Code that a run's folder names is a program: it is imported only for a user who named it, or said to trust the run.

A config.json may name a file (`path/to/file.py:Name`) for its agent, environment, network, optimizer, tracker or
whatever else a registry opens, and a module for a Gymnasium id (`module:Name-v0`). Importing either runs it, so a
folder from elsewhere could run anything by being evaluated. Torch-free.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stablegrad.envs.ids import module_of
from stablegrad.errors import UserError
from stablegrad.registry import absolute, is_given, is_user_file

Trust = bool | Collection[str]
"""True: whatever a run names may be imported; False: nothing that is not ours; or these names alone."""

_OURS = frozenset({"stablegrad", "gymnasium", "ale_py", "minatar", "envpool"})
_ENVIRONMENTS = ("env_id", "task_schedule")


def foreign(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(setting, name) for all that a recorded flat config names and that is neither ours nor a dependency's."""
    return [(setting, name) for setting, value in config.items() for name in _names_in(setting, value)]


def names_of(config: Mapping[str, Any]) -> frozenset[str]:
    """The names alone: what a user who asked for this config trusts."""
    return frozenset(name for _, name in foreign(config))


def named_in(arguments: Sequence[str]) -> frozenset[str]:
    """The code that a command line names itself."""
    values = [argument.partition("=")[2] if argument.startswith("--") else argument for argument in arguments]
    single = [text.partition("+")[0].strip() for value in values for text in (value, *value.split(","))]
    return frozenset(absolute(text) for text in single if is_user_file(text) or module_of(text))


def check(run: Path, config: Mapping[str, Any], trust: Trust) -> None:
    """UserError, which says what would be imported, where a run's recorded config names code beyond `trust`."""
    if trust is True:
        return
    trusted = trust or ()
    unknown = [
        f"--{setting} {name!r}" for setting, name in foreign(config) if name not in trusted and not is_given(name)
    ]
    if unknown:
        raise UserError(
            f"{run} would import code that is not stablegrad's ({', '.join(unknown)}), and importing runs it:"
            " if you know what it does, add --trust (from Python: trust=True)"
        )


def _names_in(setting: str, value: Any) -> Iterator[str]:
    for text in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(text, str):
            continue
        name = text.partition("+")[0].strip() if setting == "task_schedule" else text
        module = module_of(name) if setting in _ENVIRONMENTS else None
        if is_user_file(name) or (module is not None and module.partition(".")[0] not in _OURS):
            yield name
