"""Arguments that a user gives an environment: `key=value` texts, typed as TOML types its values. Torch-free."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stablegrad.errors import UserError
from stablegrad.settings import split, toml_value
from stablegrad.text import quoted


def as_texts(given: Any) -> tuple[str, ...]:
    """The one way to write arguments: `key=value`, sorted by key. `given` is a table, a list of texts, or one text.

    >>> as_texts({"size": 5, "slip": False}), as_texts("slip=false, size=5")
    (('size=5', 'slip=false'), ('size=5', 'slip=false'))

    Raises UserError, with every problem, where an argument is none or is there twice.
    """
    if isinstance(given, Mapping):
        given = [f"{key}={_toml(value)}" for key, value in given.items()]
    if not isinstance(given, str | list | tuple):
        raise UserError(f"--env_kwargs {quoted(given)}: write key=value, as in size=5")
    texts = [text.strip() for part in ([given] if isinstance(given, str) else given) for text in split(str(part))]
    problems, found = [], dict[str, str]()
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key.isidentifier() or not value:
            problems.append(f"--env_kwargs {text}: write key=value, as in size=5")
        elif key in found:
            problems.append(f"--env_kwargs: {key} is there twice")
        else:
            found[key] = value
    if problems:
        raise UserError(problems)
    return tuple(f"{key}={found[key]}" for key in sorted(found))


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments by name.

    >>> parse_arguments(["size=5", "map='4x4'", "slip=false", "name=maze", "goal=[1, 2]"])
    {'size': 5, 'map': '4x4', 'slip': False, 'name': 'maze', 'goal': [1, 2]}
    """
    return {key: toml_value(value) for key, _, value in (text.partition("=") for text in texts)}


def _toml(value: Any) -> str:
    """A value of a table as TOML writes it inline."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value) if not isinstance(value, float) else repr(value)
    raise UserError(f"--env_kwargs: {value!r} is neither a number, a text, true or false, nor a list or table of them")
