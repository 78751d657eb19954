"""The human-normalised table and the suites, against numbers published elsewhere."""

import pytest

from stablegrad.errors import UserError
from stablegrad.reports import scores
from stablegrad.tables.games import ATARI_57, canonical
from stablegrad.tables.scores import SCORES, human_normalized, normaliser
from stablegrad.tables.suites import COEFFICIENTS, SUITES, predicted_median, suite

SPELLINGS = ["KungFuMaster-v5", "ALE/KungFuMaster-v5", "KungFuMasterNoFrameskip-v4", "kung_fu_master"]


def test_the_table_has_the_57_games():
    assert tuple(SCORES) == ATARI_57
    assert len(SCORES) == 57
    assert all(reference.human > reference.random for reference in SCORES.values())


@pytest.mark.parametrize(
    ("game", "raw", "expected"),
    [
        # The paper's Table 3 ("Ours"): de-normalised scores, and the human-normalised ones printed there.
        ("Amidar-v5", 615.755, 0.355897),
        ("BattleZone-v5", 26550.0, 0.694566),
        ("DoubleDunk-v5", -21.5, -1.31818),
        ("Frostbite-v5", 3827.05, 0.881087),
        ("NameThisGame-v5", 9442.5, 1.24207),
        ("Qbert-v5", 14716.25, 1.09489),
        # By hand from the printed table of dqn_zoo.
        ("Breakout-v5", 400.0, 398.3 / 28.8),
        ("Pong-v5", 20.9, 41.6 / 35.3),
        ("VideoPinball-v5", 16256.9, 0.0),
        ("Skiing-v5", -4336.9, 1.0),
    ],
)
def test_known_scores(game, raw, expected):
    assert human_normalized(game, raw) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_game(spelling):
    assert scores.human_normalized(spelling, 22736.3) == pytest.approx(1.0)
    assert scores.human_normalized(spelling, 258.5) == 0.0


@pytest.mark.parametrize("other", ["MinAtar/Breakout", "CartPole-v1", "Tetris-v5"])
def test_what_has_no_human_score_is_refused_and_never_normalised(other):
    assert normaliser(other) is None
    with pytest.raises(UserError, match="no human score in the table dqn_zoo-57"):
        human_normalized(other, 1.0)


def test_suites():
    assert {name: len(games) for name, games in SUITES.items()} == {
        "Atari-1": 1, "Atari-3": 3, "Atari-3-val": 3, "Atari-5": 5, "Atari-10": 10, "Atari-100k": 26,
        "Atari-57": 57,
    }  # fmt: skip
    for games in SUITES.values():
        assert tuple(canonical(game) for game in games) == games
        assert set(games) <= set(SCORES)
    assert set(SUITES["Atari-5"]) < set(SUITES["Atari-10"])
    assert suite("atari-5") == SUITES["Atari-5"]
    with pytest.raises(UserError, match="did you mean 'Atari-10'"):
        suite("atari10")


def test_coefficients_belong_to_their_suites():
    for name, weights in COEFFICIENTS.items():
        assert tuple(weights) == SUITES[name]


def test_predicted_median():
    # log10(1 + M) = .9976 * log10(1 + 99) = 1.9952, so M = 10**1.9952 - 1 = 97.90 %.
    assert predicted_median("Atari-1", {"NameThisGame-v5": 0.99}) == pytest.approx(0.97901, abs=1e-4)
    # A score below random play counts as random play.
    flat = dict.fromkeys(SUITES["Atari-10"], -3.0)
    assert predicted_median("Atari-10", flat) == 0.0
    # .3706 * log10(101) + .5133 * log10(51) + .1015 * log10(1) = .742801 + .876494 = 1.619295
    three = {"BattleZone": 1.0, "name_this_game": 0.5, "ALE/Phoenix-v5": 0.0, "Pong": 1.0}
    assert predicted_median("atari-3", three) == pytest.approx((10**1.619295 - 1) / 100, abs=1e-5)


def test_predicted_median_names_what_is_missing():
    with pytest.raises(UserError, match="Atari-3 needs the scores of Phoenix too"):
        predicted_median("Atari-3", {"BattleZone": 1.0, "NameThisGame": 1.0})
    with pytest.raises(UserError, match="no fit predicts"):
        predicted_median("Atari-57", {})
