"""The sweep file: what it may hold, what is refused, and that writing it back loses nothing."""

import pytest

from stablegrad.errors import UserError
from stablegrad.sweeps import file

WHOLE = """
name = "whole"
description = 'says "what" it is'
notes = ["one", "two"]
seeds = 3

[settings]
algo = "pqn"
num-envs = 64
learning_rate = 2.5e-4

[grid]
env_id = "Atari-5"
mlp_depth = ["small", 3]
use_ln = [true, false]

[[arms]]
name = "plain"

[[arms]]
name = "kron"
optimizer = "kron"
[arms.grid]
update_probability = [0.1, 1.0]

[[exclude]]
arm = "kron"
mlp_depth = ["small"]

[tune]
trials = 4
seeds = [9]
[tune.space]
learning_rate = {low = 1e-5, high = 1e-2, log = true}
"""


def problems_of(text: str) -> str:
    with pytest.raises(UserError) as caught:
        file.parse(text, source="x.toml")
    return "\n".join(caught.value.problems)


def test_every_part_is_read() -> None:
    sweep = file.parse(WHOLE, source="x.toml")
    assert sweep.seeds == (1, 2, 3)
    assert sweep.settings["num_envs"] == 64, "hyphens mean underscores"
    assert sweep.grid["env_id"] == ["Atari-5"], "a suite stands for a list"
    assert [arm.name for arm in sweep.arms] == ["plain", "kron"]
    assert sweep.arms[1].grid == {"update_probability": [0.1, 1.0]}
    assert sweep.exclude == ({"arm": "kron", "mlp_depth": ["small"]},)
    assert sweep.tune is not None
    assert sweep.tune["space"]["learning_rate"] == {"low": 1e-5, "high": 1e-2, "log": True}


def test_written_and_read_again_it_is_the_same() -> None:
    sweep = file.parse(WHOLE, source="x.toml")
    assert file.parse(file.write(sweep), source="again") == sweep


def test_all_problems_are_told_at_once() -> None:
    text = problems_of(
        """
        name = "no/slash"
        seeds = [1, 1]
        sead = 2
        [settings]
        seed = 4
        [grid]
        mlp_depth = "small"
        optimizer = []
        [[arms]]
        optimizer = "kron"
        [[arms]]
        name = "a"
        [[arms]]
        name = "a"
        """
    )
    for sentence in (
        "x.toml: unknown key 'sead' (did you mean 'seeds'?)",
        'name = "…" is missing, or not made of letters',
        "holds one of them twice",
        "[settings] sets seed",
        "[grid] mlp_depth must be a list",
        "[grid] optimizer must be a list of at least one value",
        "entry 1 has no name",
        "two [[arms]] are called 'a'",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ('name = "a"\nseeds = "all"', "seeds must be a list"),
        ('name = "a"\narms = 3', "[[arms]] must be a list"),
        ('name = "a"\n[settings]\nalgo = {x = 1}', "a setting is one value"),
    ],
)
def test_wrong_shapes_are_named(text: str, said: str) -> None:
    assert said in problems_of(text)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        file.read(tmp_path / "none.toml")
