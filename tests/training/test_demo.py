"""The demonstration's figures and sentences, from folders written by hand."""

import json

import pytest

from stablegrad import demo


def norms(encoder, *trunk):
    layers = {f"gradients/raw/trunk.{index}": norm for index, norm in enumerate(trunk)}
    return {"gradients/raw/encoder": encoder, **layers}


@pytest.fixture
def folder(tmp_path):
    """Two rows with norms of three layers, and the last, in which no update was measured."""
    rows = [
        {"step": 64, "update": 2, "seconds": 30.0, **norms(9, 1, 5, 10)},
        {"step": 128, "update": 4, "seconds": 60.0, **norms(9, 3, 5, 20)},
        {"step": 150, "update": 4, "seconds": 90.0},
    ]
    scores = [100, *(1, 3) * (demo.LAST_GAMES // 2)]
    games = [{"step": step, "score": float(score)} for step, score in enumerate(scores)]
    for name, lines in (("metrics", rows), ("episodes", games)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_outcome_reads_norms_from_the_rows_that_have_them_and_the_score_from_the_last_games(folder):
    outcome = demo.outcome(demo.ARMS[0], folder)
    assert (outcome.first_layer, outcome.last_layer) == (2.0, 15.0)
    assert outcome.score == 2.0  # not the game of 100, which is not one of the last 200
    assert (outcome.games, outcome.updates, outcome.minutes) == (demo.LAST_GAMES + 1, 4, 1.5)


def test_the_verdict_follows_from_the_scores(folder):
    plain = demo.outcome(demo.ARMS[0], folder)

    def scoring(arm, score):
        return demo.Outcome(arm, score, plain.games, plain.updates, plain.minutes, 1.0, 1.0)

    sentences = demo.verdict([plain, scoring(demo.ARMS[1], 6.0), scoring(demo.ARMS[2], 2.5), scoring(demo.ARMS[3], 1)])
    assert sentences[1] == "The repair 'multi-skip, RAdam' learns faster: 6.0 against 2.0."
    assert sentences[2] == "The repair 'plain, Kron' is about level with the plain net: 2.5."
    assert sentences[3] == "The control 'plain + layer norm, RAdam' learns slower: 1.0."
