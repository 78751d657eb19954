"""Named sets of Atari games, and what a small set says about the median over all 57.

Atari-1, -3, -5, -10 and Atari-3-val: Aitchison, Sweetser and Hutter, "Atari-5: Distilling the Arcade Learning
Environment down to Five Games" (ICML 2023); Atari-10 is also the suite of the paper. Atari-100k: Kaiser et
al. (2020).
"""

import math
from collections.abc import Mapping

from stablegrad.errors import UserError, nearest
from stablegrad.tables.games import ATARI_57, canonical

SUITES: dict[str, tuple[str, ...]] = {
    "Atari-1": ("NameThisGame",),
    "Atari-3": ("BattleZone", "NameThisGame", "Phoenix"),
    "Atari-3-val": ("Assault", "MsPacman", "YarsRevenge"),
    "Atari-5": ("BattleZone", "DoubleDunk", "NameThisGame", "Phoenix", "Qbert"),
    "Atari-10": (
        "Amidar", "BattleZone", "Bowling", "DoubleDunk", "Frostbite",
        "KungFuMaster", "NameThisGame", "Phoenix", "Qbert", "Riverraid",
    ),
    "Atari-100k": (
        "Alien", "Amidar", "Assault", "Asterix", "BankHeist", "BattleZone", "Boxing", "Breakout",
        "ChopperCommand", "CrazyClimber", "DemonAttack", "Freeway", "Frostbite", "Gopher", "Hero",
        "Jamesbond", "Kangaroo", "Krull", "KungFuMaster", "MsPacman", "Pong", "PrivateEye", "Qbert",
        "RoadRunner", "Seaquest", "UpNDown",
    ),
    "Atari-57": ATARI_57,
}  # fmt: skip

# Least squares without intercept on the published scores of 62 algorithms (maitchison/Atari-5, dataset.csv):
# 42 of them have all ten games (R2 .995), 44 all five (.988).
COEFFICIENTS: dict[str, dict[str, float]] = {
    "Atari-10": {
        "Amidar": 0.0825, "BattleZone": 0.1888, "Bowling": 0.0559, "DoubleDunk": 0.0852,
        "Frostbite": 0.0691, "KungFuMaster": 0.0986, "NameThisGame": 0.1287, "Phoenix": 0.1643,
        "Qbert": 0.0592, "Riverraid": 0.0486,
    },
    "Atari-5": {
        "BattleZone": 0.3820, "DoubleDunk": 0.0679, "NameThisGame": 0.3108, "Phoenix": 0.1241,
        "Qbert": 0.0805,
    },
    "Atari-3": {"BattleZone": 0.3706, "NameThisGame": 0.5133, "Phoenix": 0.1015},
    "Atari-1": {"NameThisGame": 0.9976},
}  # fmt: skip

RELATIVE_ERROR: dict[str, float] = {"Atari-10": 0.071, "Atari-5": 0.099, "Atari-3": 0.135, "Atari-1": 0.273}
"""Relative error of the predicted median on the algorithms it was fitted to."""


def suite(name: str) -> tuple[str, ...]:
    """The games of a suite, in its published order; raises UserError for an unknown name."""
    by_lower = {known.lower(): games for known, games in SUITES.items()}
    if name.lower() not in by_lower:
        raise UserError(f"unknown suite '{name}'{nearest(name, SUITES)}; known: {', '.join(SUITES)}")
    return by_lower[name.lower()]


def predicted_median(name: str, scores: Mapping[str, float]) -> float:
    """The median human-normalised score over 57 games that a small suite predicts.

        log10(1 + M) = sum over games g of c_g * log10(1 + max(0, 100 * hns_g)),      M in per cent

    `scores` maps games (any spelling) to human-normalised scores as fractions (1 = human); so is the result M
    / 100. Games beyond the suite's are not looked at; raises UserError when one of the suite's is missing, or
    when the suite has no fit. `RELATIVE_ERROR` says how far the prediction is off.
    """
    coefficients = {known.lower(): weights for known, weights in COEFFICIENTS.items()}.get(name.lower())
    if coefficients is None:
        raise UserError(f"no fit predicts the 57-game median from '{name}'; known: {', '.join(COEFFICIENTS)}")
    by_game = {canonical(game): score for game, score in scores.items()}
    missing = [game for game in coefficients if game not in by_game]
    if missing:
        raise UserError(f"{name} needs the scores of {', '.join(missing)} too")
    exponent = sum(weight * math.log10(1 + max(0.0, 100 * by_game[game])) for game, weight in coefficients.items())
    return (10**exponent - 1) / 100
