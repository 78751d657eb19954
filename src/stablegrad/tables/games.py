"""Atari games: one canonical name, and every spelling that names it. Data without imports.

The games are those of the Arcade Learning Environment that can be played alone: its ROMs without `combat`,
`joust`, `maze_craze` and `warlords`. The 57 are those with published human scores (google-deepmind/dqn_zoo).
"""

from functools import cache
from typing import NamedTuple

from stablegrad.errors import UserError, nearest


class Game(NamedTuple):
    """`name` in CamelCase as in `ALE/KungFuMaster-v5`; `rom_id` in snake_case as in `kung_fu_master`."""

    name: str
    rom_id: str
    in_atari_57: bool


_ATARI_57 = [
    "alien", "amidar", "assault", "asterix", "asteroids", "atlantis", "bank_heist", "battle_zone",
    "beam_rider", "berzerk", "bowling", "boxing", "breakout", "centipede", "chopper_command",
    "crazy_climber", "defender", "demon_attack", "double_dunk", "enduro", "fishing_derby", "freeway",
    "frostbite", "gopher", "gravitar", "hero", "ice_hockey", "jamesbond", "kangaroo", "krull",
    "kung_fu_master", "montezuma_revenge", "ms_pacman", "name_this_game", "phoenix", "pitfall", "pong",
    "private_eye", "qbert", "riverraid", "road_runner", "robotank", "seaquest", "skiing", "solaris",
    "space_invaders", "star_gunner", "surround", "tennis", "time_pilot", "tutankham", "up_n_down",
    "venture", "video_pinball", "wizard_of_wor", "yars_revenge", "zaxxon",
]  # fmt: skip

_OTHERS = [
    "adventure", "air_raid", "atlantis2", "backgammon", "basic_math", "blackjack", "carnival", "casino",
    "crossbow", "darkchambers", "donkey_kong", "earthworld", "elevator_action", "entombed", "et",
    "flag_capture", "frogger", "galaxian", "hangman", "haunted_house", "human_cannonball", "journey_escape",
    "kaboom", "keystone_kapers", "king_kong", "klax", "koolaid", "laser_gates", "lost_luggage",
    "mario_bros", "miniature_golf", "mr_do", "othello", "pacman", "pitfall2", "pooyan", "sir_lancelot",
    "space_war", "superman", "tetris", "tic_tac_toe_3d", "trondead", "turmoil", "video_checkers",
    "video_chess", "video_cube", "word_zapper",
]  # fmt: skip


def _camel_case(rom_id: str) -> str:
    return rom_id.title().replace("_", "")


GAMES: dict[str, Game] = {
    _camel_case(rom): Game(_camel_case(rom), rom, rom in _ATARI_57) for rom in sorted(_ATARI_57 + _OTHERS)
}
"""Canonical name -> game, in alphabetical order."""

ATARI_57: tuple[str, ...] = tuple(name for name, game in GAMES.items() if game.in_atari_57)
"""Canonical names of the 57 games with published human scores."""


def find(name: str) -> Game | None:
    """The game that `name` spells, or None.

    A game is spelled `KungFuMaster-v5` or `ALE/KungFuMaster-v5`, `KungFuMasterNoFrameskip-v4`, or
    `kung_fu_master`; capitals and underscores do not count. The spelling selects the game only: how it is
    played (frame skip, sticky actions, …) is the protocol's business.
    """
    return _by_key().get(_key(_core(name)))


def canonical(name: str) -> str:
    """The canonical CamelCase name of the game that `name` spells; raises UserError for an unknown game."""
    return _known(name).name


def rom_id(name: str) -> str:
    """The ROM's snake_case id of the game that `name` spells; raises UserError for an unknown game."""
    return _known(name).rom_id


def _known(name: str) -> Game:
    game = find(name)
    if game is None:
        raise UserError(f"unknown Atari game '{name}'{nearest(_core(name).replace('_', ''), GAMES)}")
    return game


def _core(name: str) -> str:
    """`name` without what the four spellings add to the game's own name."""
    without_namespace = name.removeprefix("ALE/")
    if without_namespace == name and name.endswith("NoFrameskip-v4"):
        return name.removesuffix("NoFrameskip-v4")
    return without_namespace.removesuffix("-v5")


def _key(name: str) -> str:
    return name.replace("_", "").lower()


@cache
def _by_key() -> dict[str, Game]:
    return {_key(game.rom_id): game for game in GAMES.values()}
