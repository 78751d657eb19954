"""Facts about the names of Atari games."""

import ast
import inspect

import gymnasium
import pytest

from stablegrad.errors import UserError
from stablegrad.tables import games
from stablegrad.tables.games import ATARI_57, GAMES, canonical, find, rom_id


@pytest.mark.parametrize(
    ("name", "rom", "spellings"),
    [
        ("Breakout", "breakout", ["Breakout-v5", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4", "Breakout"]),
        ("KungFuMaster", "kung_fu_master", ["KungFuMaster-v5", "ALE/KungFuMaster-v5", "kungfumaster"]),
        ("KungFuMaster", "kung_fu_master", ["KungFuMasterNoFrameskip-v4", "kung_fu_master"]),
        ("TicTacToe3D", "tic_tac_toe_3d", ["TicTacToe3D-v5", "tic_tac_toe_3d", "TicTacToe3d"]),
        ("Qbert", "qbert", ["Qbert-v5", "ALE/Qbert-v5", "QbertNoFrameskip-v4", "qbert"]),
        ("UpNDown", "up_n_down", ["UpNDown-v5", "UpNDownNoFrameskip-v4", "up_n_down"]),
    ],
)  # fmt: skip
def test_every_spelling_names_the_same_game(name, rom, spellings):
    for spelling in spellings:
        assert canonical(spelling) == name
        assert rom_id(spelling) == rom


@pytest.mark.parametrize(
    "name",
    # Other protocols of the old Gym, other suites, and half a spelling are not games.
    [
        "Breakout-v4", "Breakout-v0", "BreakoutDeterministic-v4", "Breakout-ram-v5",
        "ALE/BreakoutNoFrameskip-v4", "MinAtar/Breakout", "CartPole-v1", "Blackjack-v1", "ALE/ALE/Breakout-v5",
        "", "-v5",
    ],
)  # fmt: skip
def test_what_is_no_spelling_is_refused(name):
    assert find(name) is None
    with pytest.raises(UserError, match="unknown Atari game"):
        canonical(name)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("Braekout-v5", "Breakout"), ("kung_fu_mastr", "KungFuMaster"), ("ALE/Sequest-v5", "Seaquest")],
)
def test_an_unknown_game_is_answered_with_the_nearest(wrong, right):
    with pytest.raises(UserError, match=f"did you mean '{right}'"):
        rom_id(wrong)


def test_the_games_are_those_that_ale_py_registers():
    import ale_py  # noqa: F401 - importing it registers its ids

    registered = {
        identifier.removeprefix("ALE/").removesuffix("-v5"): spec.kwargs["game"]
        for identifier, spec in gymnasium.registry.items()
        if identifier.startswith("ALE/") and identifier.endswith("-v5")
    }
    assert {name: game.rom_id for name, game in GAMES.items()} == registered


def test_the_57():
    assert len(ATARI_57) == 57
    assert list(ATARI_57) == sorted(ATARI_57)
    assert {"Defender", "Surround", "Qbert", "YarsRevenge"} <= set(ATARI_57)
    assert not {"AirRaid", "Carnival", "ElevatorAction", "JourneyEscape", "Pooyan", "Tetris"} & set(ATARI_57)


def test_the_module_needs_no_package():
    tree = ast.parse(inspect.getsource(games))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"functools", "typing", "stablegrad.errors"}
