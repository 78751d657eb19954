"""The doctor's knowledge is data with sources, and what it advises can be typed."""

import pytest

from stablegrad.diagnostics.catalogue import entry
from stablegrad.doctor import DETECTORS, illness, illnesses
from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig


def test_every_illness_has_one_detector():
    assert set(illnesses()) == set(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_threshold_says_what_it_means_and_who_says_so(name):
    for threshold in illness(name).thresholds.values():
        assert threshold.meaning
        assert threshold.source


@pytest.mark.parametrize("name", DETECTORS)
def test_what_an_illness_is_seen_by_is_in_the_catalogue(name):
    for need in illness(name).needs:
        for metric in need.split("|"):
            assert entry(metric).definition


@pytest.mark.parametrize("name", DETECTORS)
def test_every_remedy_has_a_source_and_flags_that_exist(name):
    assert illness(name).remedies
    for remedy in illness(name).remedies:
        assert remedy.why
        assert remedy.source
        flags = remedy.advice({"learning_rate": 1.0, "mlp_depth": "large"})
        assert flags
        words = flags.split()
        settings = {flag.removeprefix("--"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
        RunConfig.resolve("pqn", {"env_id": "MinAtar/Breakout", **settings})


def test_advice_leaves_out_what_the_run_has():
    use_ln = next(remedy for remedy in illness("rank_collapse").remedies if "use_ln" in remedy.flags)
    assert use_ln.advice({"use_ln": False}) == "--use_ln true"
    assert use_ln.advice({"use_ln": True}) is None


@pytest.mark.parametrize(("depth", "advised"), [("small", None), (1, None), ("large", "--mlp_depth 1")])
def test_a_size_in_words_counts_as_its_number(depth, advised):
    shallower = next(remedy for remedy in illness("rank_collapse").remedies if "mlp_depth" in remedy.flags)
    assert shallower.advice({"mlp_depth": depth}) == advised


def test_a_learning_rate_is_advised_as_it_would_be_typed():
    """Kron's recorded rate is a third of the flag: a tenth of the flag is advised, not a tenth of the record."""
    lower = illness("steps_too_large").remedies[0]
    assert lower.advice({"learning_rate": 3e-2, "lr_scale": 1.0}) == "--learning_rate 0.003"
    assert lower.advice({"learning_rate": 1e-2, "lr_scale": 1 / 3}) == "--learning_rate 0.003"


def test_an_unknown_illness_offers_the_nearest():
    with pytest.raises(UserError, match="did you mean 'rank_collapse'"):
        illness("rank_colapse")
