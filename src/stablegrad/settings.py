"""Flat fields: every setting is a field of a frozen dataclass, read alike from flags, TOML and JSON. Torch-free.

Settings may be added, and old runs go on: a field that came later says so (`since`), and what it was before it could
be set (`before`). A recorded config that lacks it means that, and a run that has that value keeps the name that it
would have had.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from stablegrad.errors import UserError, nearest
from stablegrad.text import quoted

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}

LARGEST = 2**64 - 1
"""The largest whole number that a setting may be, either way from 0: what torch takes as a seed."""

LARGEST_FLOAT, SMALLEST_FLOAT = 3.4028234e38, 1.1754944e-38
"""The largest number, and the smallest beside 0, that is not rounded to infinity or 0 in float32."""


VERSION = 2
"""Goes up by one when a release adds settings; recorded in every run's manifest."""

_AS_BY_DEFAULT = object()


def setting(
    default: Any,
    help: str,
    *,
    identity: bool = True,
    since: int = 1,
    before: Any = _AS_BY_DEFAULT,
    renames: bool = True,
) -> Any:
    """A dataclass field with its help text; `identity=False` for what cannot change a run's result.

    `since` is the VERSION that the setting came with; in a file of your own, 2 for one that was added. `before` is what
    held until then, where that is not the default: a run whose recorded config lacks the setting goes on under it. Then
    the default renames runs, unless `renames` is False: for a default that few runs can tell from what held before.
    """
    if before is _AS_BY_DEFAULT:
        before = default
    elif since == 1:
        raise ValueError("a setting that was there from the first version has no time before it: leave out before=")
    if since > VERSION:
        raise ValueError(f"since={since}, but settings.VERSION is {VERSION}: raise it")
    return dataclasses.field(
        default=default,
        metadata={"help": help, "identity": identity, "since": since, "before": before, "renames": renames},
    )


def came_later(field: dataclasses.Field[Any]) -> bool:
    """Whether configs may have been recorded before the setting existed."""
    return field.metadata.get("since", 1) > 1


def unsaid(field: dataclasses.Field[Any]) -> Any:
    """What a recorded config means that does not name the setting, as JSON holds it."""
    if "before" in field.metadata:
        value = field.metadata["before"]
    else:
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return list(value) if isinstance(value, tuple) else value


def neutral(field: dataclasses.Field[Any]) -> list[Any]:
    """The values, as JSON holds them, with which a setting that came later leaves a run the name that it had."""
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return [unsaid(field)] if field.metadata.get("renames", True) else [unsaid(field), default]


def annotations(cls: type) -> dict[str, Any]:
    """Field name -> resolved type, in declaration order, for the fields of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def describe(annotation: Any) -> str:
    """The type as a user would write its values: `int`, `a|b|c`, `int|word`."""
    origin = get_origin(annotation)
    if origin is Literal:
        return "|".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return "|".join(describe(part) for part in get_args(annotation))
    if origin is tuple:
        return f"{describe(get_args(annotation)[0])},…"
    names: dict[Any, str] = {type(None): "none", str: "text", bool: "true|false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def split(text: str) -> list[str]:
    """The parts of a list written with commas; what stands in brackets or quotes stays together.

    >>> split("a,goal=[1, 2],name='x,y',,b")
    ['a', 'goal=[1, 2]', "name='x,y'", 'b']
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        elif letter == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += letter
    return [part for part in parts if part]


def toml_value(text: str) -> Any:
    """A number, true or false, a list or a table as TOML reads it; anything else is a word, and stays as it is.

    >>> toml_value("1e-3"), toml_value("[1, 2]"), toml_value("adam")
    (0.001, [1, 2], 'adam')
    """
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, a number of thousands of digits, lists without end
        return text
    return found["value"] if len(found) == 1 else text  # a line end may make several of it


def supported(annotation: Any) -> bool:
    """Whether a setting may be of this type: `coerce` knows it."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return all(supported(part) for part in get_args(annotation))
    if origin is tuple:
        return supported(get_args(annotation)[0])
    return origin is Literal or annotation in (Any, bool, int, float, str, type(None))


def coerce(value: Any, annotation: Any) -> Any:
    """`value`, from a flag's text or from TOML/JSON, as the annotated type; ValueError when it cannot be."""
    origin = get_origin(annotation)
    if origin is Literal:
        for choice in get_args(annotation):
            if value == choice or str(value) == str(choice):
                return choice
        choices = [str(choice) for choice in get_args(annotation)]
        raise ValueError(f"must be one of {', '.join(choices)}{nearest(str(value), choices)}")
    if origin in (Union, types.UnionType):
        return _coerce_union(value, get_args(annotation))
    if origin is tuple:
        if not isinstance(value, str | list | tuple):
            raise ValueError("must be a list, or text with commas between the values")
        parts = split(value) if isinstance(value, str) else value
        return tuple(coerce(part, get_args(annotation)[0]) for part in parts)
    if annotation is Any:
        return value
    return _coerce_plain(value, annotation)


def _coerce_union(value: Any, options: tuple[Any, ...]) -> Any:
    if (value is None or (isinstance(value, str) and value.lower() == "none")) and type(None) in options:
        return None
    # Text last: every word is valid text, so numbers and choices get their turn first.
    ordered = sorted((option for option in options if option is not type(None)), key=lambda o: o is str)
    reasons = []
    for option in ordered:
        try:
            return coerce(value, option)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(" or ".join(reasons))


def _coerce_plain(value: Any, annotation: Any) -> Any:
    if annotation is bool:
        if isinstance(value, bool):
            return value
        text = str(value).lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
        raise ValueError("must be true or false")
    if annotation in (int, float):
        return _coerce_number(value, annotation)
    if annotation is str:
        if isinstance(value, str):
            return value
        raise ValueError("must be text")
    raise TypeError(f"settings of type {annotation} are not supported")


def _coerce_number(value: Any, annotation: type[int] | type[float]) -> int | float:
    """A finite number: nothing that is counted, scaled or compared can be infinite, or no number at all."""
    wanted = "a whole number" if annotation is int else "a number"
    if isinstance(value, bool):
        raise ValueError(f"must be {wanted}")
    try:
        number = float(str(value).replace("_", ""))
    except ValueError:
        raise ValueError(f"must be {wanted}") from None
    if annotation is float:
        if not math.isfinite(number):
            raise ValueError("must be a finite number")
        if number and not SMALLEST_FLOAT <= abs(number) <= LARGEST_FLOAT:
            raise ValueError(
                f"must be 0, or in size from {SMALLEST_FLOAT} to {LARGEST_FLOAT}, which is what 32 bits hold"
            )
        return number
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"must be {wanted}")
    # Text may have more digits than a float keeps; `1e6` is a whole number too.
    whole = value if isinstance(value, int) else _digits(str(value), number)
    if abs(whole) > LARGEST:
        raise ValueError(f"must be at most {LARGEST}, which is what 64 bits hold")
    return whole


def _digits(text: str, number: float) -> int:
    try:
        return int(text)
    except ValueError:
        return int(number)


def build(cls: type, values: Mapping[str, Any], problems: list[str]) -> Any:
    """`cls(**values)` with every value coerced; what is wrong is added to `problems` and None returned."""
    coerced: dict[str, Any] = {}
    before = len(problems)
    for name, annotation in annotations(cls).items():
        if name not in values:
            continue
        if isinstance(values[name], float) and values[name] == getattr(cls, name, None):
            coerced[name] = values[name]  # what a user's own agent has as its default may be infinite
            continue
        try:
            coerced[name] = coerce(values[name], annotation)
        except ValueError as error:
            problems.append(f"--{name} {quoted(values[name])}: {error}")
    if len(problems) > before:
        return None
    try:
        return cls(**coerced)
    except UserError as error:
        problems.extend(error.problems)
        return None
