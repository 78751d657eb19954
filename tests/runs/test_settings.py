"""Settings read alike from flags, TOML and JSON."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from stablegrad import settings
from stablegrad.settings import coerce, describe, setting, toml_value


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


@dataclass(frozen=True, kw_only=True)
class OfAUser:
    bound: float = setting(float("inf"), "a default of a user's own agent")


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "NaN", "Infinity", "1e400", float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_in_any_section(text):
    with pytest.raises(ValueError, match="finite"):
        coerce(text, float)
    with pytest.raises(ValueError, match="finite"):
        coerce(text, float | None)
    problems: list[str] = []
    assert settings.build(Section, {"rate": text}, problems) is None
    assert len(problems) == 1
    assert problems[0].startswith("--rate ")


@pytest.mark.parametrize("text", ["1e39", "-1e300", 3.5e38, "1e-39", "-5e-324", 1e-300])
def test_a_number_that_float32_makes_infinite_or_0_is_refused(text):
    """`--weight_decay 1e39` and `--v_max 1e39` were tracebacks of torch, `--optimizer_eps 1e-300` a division by 0."""
    with np.errstate(over="ignore"):
        assert not np.finfo(np.float32).tiny <= abs(np.float32(float(text))) < np.inf
    with pytest.raises(ValueError, match=r"must be 0, or in size from 1\.1754944e-38 to 3\.4028234e\+38"):
        coerce(text, float)


@pytest.mark.parametrize("text", ["0", "-0.0", "3.4028234e38", "-3.4028234e38", "1.1754944e-38", "1e-8"])
def test_a_number_that_float32_holds_is_taken(text):
    number = coerce(text, float)
    assert number == float(text)
    assert np.isfinite(np.float32(number))
    assert (np.float32(number) == 0) == (number == 0)


def test_an_infinite_default_of_a_user_s_own_agent_is_read_back():
    problems: list[str] = []
    assert settings.build(OfAUser, {"bound": float("inf")}, problems) == OfAUser()
    assert problems == []
    assert settings.build(OfAUser, {"bound": float("-inf")}, problems) is None


@pytest.mark.parametrize("text", [2**64, -(2**64), str(2**64), "1e20", "9" * 400, 10**400])
def test_a_whole_number_beyond_64_bits_is_refused(text):
    with pytest.raises(ValueError, match=r"at most 18446744073709551615|whole number"):
        coerce(text, int)


@pytest.mark.parametrize("number", [2**64 - 1, 2**53 + 1, 9_007_199_254_740_993])
def test_the_digits_of_a_seed_are_all_kept(number):
    """By way of a float, 2^53 + 1 became 2^53: another seed than the one that was asked for."""
    assert int(float(str(2**53 + 1))) == 2**53
    assert coerce(str(number), int) == number
    assert coerce(f"{number:_}", int) == number


@pytest.mark.parametrize("value", [5, True, {"a": 1}, 1.5])
def test_what_stands_where_a_list_belongs_is_refused(value):
    with pytest.raises(ValueError, match="must be a list"):
        coerce(value, tuple[str, ...])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("1e-3", 1e-3), ("true", True), ("[1, 'a']", [1, "a"]), ("'5'", "5"), ("adam", "adam"), ("", ""),
        ("9" * 5000, "9" * 5000), ("[" * 3000, "[" * 3000), ("1\nx = 2", "1\nx = 2"),
    ],
    ids=lambda value: repr(value)[:12],
)  # fmt: skip
def test_a_word_is_what_toml_does_not_read_as_one_value(text, value):
    assert toml_value(text) == value


def test_a_long_value_is_shown_in_part():
    problems: list[str] = []
    settings.build(Section, {"size": "x" * 5000}, problems)
    assert len(problems[0]) < 200
    assert "(5,002 characters)" in problems[0]
