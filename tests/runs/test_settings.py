"""Settings read alike from flags, TOML and JSON."""

from dataclasses import dataclass
from typing import Literal

import pytest

from stablegrad import settings
from stablegrad.settings import coerce, describe, setting


@dataclass(frozen=True, kw_only=True)
class Section:
    size: int = setting(3, "how many")
    rate: float | None = setting(None, "how fast")
    mode: Literal["fast", "slow"] = setting("fast", "which")
    names: tuple[str, ...] = setting((), "who")


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("12", int, 12),
        ("1e6", int, 1_000_000),
        ("1_000", int, 1000),
        ("2.5e-4", float, 2.5e-4),
        (3, float, 3.0),
        ("true", bool, True),
        ("no", bool, False),
        ("slow", Literal["fast", "slow"], "slow"),
        ("none", int | None, None),
        ("7", int | None, 7),
        ("large", str | int, "large"),
        ("256", str | int, 256),
        ("a,b", tuple[str, ...], ("a", "b")),
        (["a"], tuple[str, ...], ("a",)),
    ],
)
def test_a_value_takes_the_type_of_its_field(text, annotation, value):
    result = coerce(text, annotation)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("1.5", int, "whole number"),
        ("inf", int, "whole number"),
        ("nan", int, "whole number"),
        (True, int, "whole number"),
        ("abc", float, "a number"),
        ("maybe", bool, "true or false"),
        ("fats", Literal["fast", "slow"], "did you mean 'fast'"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_reason(text, annotation, message):
    with pytest.raises(ValueError, match=message):
        coerce(text, annotation)


def test_every_problem_is_reported_and_none_hides_another():
    problems: list[str] = []
    assert settings.build(Section, {"size": "x", "mode": "y"}, problems) is None
    assert [problem.split()[0] for problem in problems] == ["--size", "--mode"]


def test_types_are_described_as_a_user_writes_them():
    assert describe(Literal["fast", "slow"]) == "fast|slow"
    assert describe(float | None) == "float|none"
    assert describe(tuple[str, ...]) == "text,…"
