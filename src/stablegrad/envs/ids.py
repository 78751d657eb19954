"""Which back end an environment's id belongs to, and the one way to write it. Nothing is built here.

An id is an Atari game in any of its four spellings, `MinAtar/Breakout` (the version is optional), any id that
Gymnasium knows (`module:Name-v0` imports `module` first), or `path/to/file.py:Name` of the user's own.
"""

import importlib
import re
from typing import Literal, NamedTuple

import gymnasium

from stablegrad.errors import UserError, nearest
from stablegrad.registry import importing, is_user_file, load_user_object
from stablegrad.tables import games

Backend = Literal["atari", "minatar", "gym", "envpool", "file"]

MINATAR_GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
"""Canonical name -> name in the `minatar` package."""


class EnvId(NamedTuple):
    """`text` is the canonical spelling; the back end is Atari's default one where there are two."""

    text: str
    backend: Backend


def parse(env_id: str) -> EnvId:
    """The canonical id and its back end; raises UserError for an unknown one, with the nearest known."""
    if is_user_file(env_id):
        if not callable(load_user_object(env_id)):
            raise UserError(f"{env_id} must be a callable that returns a Gymnasium environment")
        return EnvId(env_id, "file")
    if env_id.startswith("MinAtar/"):
        return EnvId(_minatar(env_id), "minatar")
    game = games.find(env_id)
    if game is not None:
        return EnvId(f"{game.name}-v5", "atari")
    _check_gymnasium(env_id)
    return EnvId(env_id, "gym")


def backend_of(env_id: str) -> Backend:
    """The back end of an id that is known to be good, at the price of a glance at the name."""
    if is_user_file(env_id):
        return "file"
    if env_id.startswith("MinAtar/"):
        return "minatar"
    return "atari" if games.find(env_id) is not None else "gym"


def minatar_game(env_id: str) -> tuple[str, bool]:
    """The game's name in the `minatar` package, and whether the id asks for its minimal actions (`-v1`)."""
    name, version = _minatar_parts(env_id)
    return MINATAR_GAMES[name], version == "-v1"


def _minatar(env_id: str) -> str:
    name, version = _minatar_parts(env_id)
    return f"MinAtar/{name}{version if version == '-v1' else ''}"


def _minatar_parts(env_id: str) -> tuple[str, str]:
    match = re.fullmatch(r"MinAtar/(\w+?)(-v[01])?", env_id)
    by_key = {name.lower(): name for name in MINATAR_GAMES}
    key = match[1].replace("_", "").lower() if match else ""
    if match is None or key not in by_key:
        known = [f"MinAtar/{name}" for name in MINATAR_GAMES]
        hint = nearest(env_id, [known_id + version for known_id in known for version in ("", "-v0", "-v1")])
        raise UserError(f"unknown environment '{env_id}'{hint}; known: {', '.join(known)}, each also -v0 or -v1")
    return by_key[key], match[2] or ""


def module_of(env_id: str) -> str | None:
    """The module that Gymnasium would import for an id `module:Name-v0`; None for an id that names none."""
    return None if is_user_file(env_id) else env_id.rpartition(":")[0] or None


def _check_gymnasium(env_id: str) -> None:
    module, name = module_of(env_id), env_id.rpartition(":")[2]
    if module is not None:
        with importing(f"{env_id}: the module '{module}'"):
            importlib.import_module(module)
    # Once imported, ale-py registers the old ids of Gym too; they name protocols that nothing here plays.
    registered = {key for key, spec in gymnasium.registry.items() if not str(spec.entry_point).startswith("ale_py")}
    if name not in registered:
        known = [f"{game}-v5" for game in games.GAMES] + [f"MinAtar/{game}" for game in MINATAR_GAMES]
        hint = nearest(env_id, [*known, *registered])
        raise UserError(
            f"unknown environment '{env_id}'{hint}: it is neither an Atari game (Breakout-v5), nor of MinAtar"
            " (MinAtar/Breakout), nor of Gymnasium (CartPole-v1), nor path/to/file.py:Name"
        )
