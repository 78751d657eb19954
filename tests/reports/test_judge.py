"""What a report may say: differences that are there are found, those that are not are not claimed."""

import shutil
from math import comb

import numpy as np
import pytest
from synthetic_runs import write_run

from stablegrad.reports.arms import choose_baseline, pooled_over_sizes, study
from stablegrad.reports.bootstrap import Interval
from stablegrad.reports.judge import judge
from stablegrad.reports.load import load_runs
from stablegrad.reports.sections import scores_table
from stablegrad.reports.sentences import doubts, interval_text, number, p_text, supported


def judged(paths, *, baseline=None, resamples=500):
    compared = study(load_runs(paths))
    base = choose_baseline(compared.arms, baseline)
    return compared, judge(compared, base, rng=np.random.default_rng(0), resamples=resamples)


def two_arms(root, *, seeds, better, games=("Pong-v5",), **options):
    for arm, level in (("default", 0.3), ("multiskip_residual", 0.3 + better)):
        for game in games:
            for seed in range(1, seeds + 1):
                write_run(
                    root / f"{arm}-{game}-{seed}",
                    seed=seed,
                    level=level,
                    mlp_type=arm,
                    env_id=game,
                    rows=10,
                    diagnostics=False,
                    **options,
                )
    return [root]


def text(sentences):
    return " ".join(sentences)


def test_a_large_difference_with_five_seeds_is_called_one(tmp_path):
    compared, judgement = judged(two_arms(tmp_path, seeds=5, better=1.0))
    said = text(supported(judgement))
    assert said.startswith("multi-skip has the highest IQM of 2 arms on 1 game")
    assert "Better than plain, beyond chance" in said
    assert "Fewer than 10 seeds" in text(doubts(compared, judgement))
    assert "no permutation test" not in text(doubts(compared, judgement))
    comparison = judgement.of(compared.arms[1]).comparison
    assert comparison.p < 0.05
    assert comparison.probability.point == 1.0
    assert comparison.share_better == 1.0
    assert comparison.difference.low > 0


def test_the_same_difference_with_three_seeds_is_not(tmp_path):
    compared, judgement = judged(two_arms(tmp_path, seeds=3, better=1.0))
    assert "the evidence supports no ranking of arms" in text(supported(judgement))
    doubted = text(doubts(compared, judgement))
    assert "no permutation test can fall below p = 0.1" in doubted
    assert "Fewer than 10 seeds" in doubted


@pytest.mark.parametrize("more", [2, 3, 4, 5])
@pytest.mark.parametrize("fewer", [2, 3])
def test_what_is_called_beyond_chance_is_never_called_impossible_too(tmp_path, more, fewer):
    """Arms far apart, with few seeds and other few seeds: one page said p = .046 is beyond chance, and that with its
    two seeds nothing can be, for it looked at two against two."""
    two_arms(tmp_path, seeds=more, better=3.0)
    for seed in range(fewer + 1, more + 1):
        shutil.rmtree(tmp_path / f"multiskip_residual-Pong-v5-{seed}")
    compared, judgement = judged([tmp_path])
    (comparison,) = [v.comparison for v in judgement.verdicts if v.comparison is not None]
    n, m = more, min(fewer, more)
    floor = (2 if n == m else 1) / comb(n + m, m)
    assert comparison.p == pytest.approx(floor)
    assert ("beyond chance" in text(supported(judgement))) == (floor < 0.05)
    assert ("no permutation test can fall below" in text(doubts(compared, judgement))) == (floor >= 0.05)


def test_with_four_games_three_seeds_are_enough(tmp_path):
    games = ("Pong-v5", "Qbert-v5", "Amidar-v5", "Breakout-v5")
    _, judgement = judged(two_arms(tmp_path, seeds=3, better=1.0, games=games, unit=1e4))
    assert "Better than plain" in text(supported(judgement))


def test_one_seed_supports_nothing(tmp_path):
    compared, judgement = judged(two_arms(tmp_path, seeds=1, better=5.0))
    assert "supports no ranking" in text(supported(judgement))
    assert "single seed" in text(doubts(compared, judgement))
    assert all(verdict.comparison is None for verdict in judgement.verdicts)


def test_arms_that_do_not_differ_are_rarely_told_apart(tmp_path):
    """Twenty pairs of equal arms, five seeds each: at 5 % one or two are accused, four would be too many."""
    accused = 0
    for trial in range(20):
        root = tmp_path / str(trial)
        two_arms(root, seeds=5, better=0.0, noise=0.5)
        _, judgement = judged([root], resamples=50)
        accused += any(v.comparison is not None and v.comparison.p < 0.05 for v in judgement.verdicts)
    assert accused <= 3


def test_a_worse_arm_is_called_worse(tmp_path):
    _, judgement = judged(two_arms(tmp_path, seeds=5, better=1.0), baseline="multi-skip")
    assert "Worse than multi-skip, beyond chance" in text(supported(judgement))


def test_sizes_taken_together_tell_apart_what_single_sizes_cannot(tmp_path):
    for depth in ("small", "medium", "large"):
        two_arms(tmp_path / depth, seeds=3, better=1.0, mlp_depth=depth)
    compared, judgement = judged([tmp_path])
    assert "no ranking of single sizes" in text(supported(judgement, arm="single size"))
    pooled = pooled_over_sizes(compared)
    over_sizes = judge(pooled, choose_baseline(pooled.arms), rng=np.random.default_rng(0), resamples=200)
    said = text(supported(over_sizes))
    assert "on 1 game and 3 network sizes taken together" in said
    assert "Better than plain, beyond chance" in said


def test_failures_are_named_and_count(tmp_path):
    paths = two_arms(tmp_path, seeds=4, better=0.5)
    write_run(tmp_path / "broken", seed=5, state="failed", env_id="Pong-v5", mlp_type="default", level=0.3)
    write_run(tmp_path / "on-its-way", seed=6, state="running", env_id="Pong-v5", mlp_type="default", level=0.3)
    compared, judgement = judged(paths)
    doubted = text(doubts(compared, judgement))
    assert "1 of 9 runs failed" in doubted
    assert "left out of the final scores: 1 run of 10" in doubted
    assert "different numbers of seeds (4 to 5)" in doubted
    assert judgement.of(compared.arms[0]).seeds == 5
    assert "Better than plain [1 of 6 runs failed], beyond chance" in text(supported(judgement))
    assert "plain [1 of 6 runs failed]" in [row[0].text for row in scores_table(judgement).rows]
    _, alone = judged([tmp_path / "broken"])
    assert "[1 of 1 run failed] ends at" in text(supported(alone))


def test_an_arm_that_has_not_begun_is_named_and_stops_nothing(tmp_path):
    paths = two_arms(tmp_path, seeds=2, better=0.5)
    path = write_run(tmp_path / "new", mlp_type="densenet", env_id="Pong-v5", state="created")
    for name in ("metrics.jsonl", "episodes.jsonl"):
        (path / name).unlink()
    compared, judgement = judged(paths)
    assert len(judgement.verdicts) == 2
    doubted = text(doubts(compared, judgement))
    assert "1 arm of 3 without any score" in doubted
    assert "left out of the final scores: 1 run of 5" in doubted


def test_budgets_that_differ_are_named(tmp_path):
    paths = two_arms(tmp_path, seeds=2, better=0.1)
    write_run(tmp_path / "longer", seed=3, steps=240_000, env_id="Pong-v5", mlp_type="default")
    compared, judgement = judged(paths)
    assert "different budgets (120,000 to 240,000 steps)" in text(doubts(compared, judgement))


def test_double_dunk_is_warned_of(tmp_path):
    compared, judgement = judged(two_arms(tmp_path, seeds=2, better=0.1, games=("DoubleDunk-v5", "Pong-v5")))
    assert "Double Dunk" in text(doubts(compared, judgement))


def test_no_score_no_judgement(make_run):
    path = make_run("a")
    (path / "metrics.jsonl").unlink()
    (path / "episodes.jsonl").unlink()
    compared, judgement = judged([path])
    assert judgement is None
    assert len(compared.arms) == 1


def test_the_same_runs_give_the_same_judgement(sweep):
    _, first = judged([sweep])
    _, second = judged([sweep])
    assert [v.iqm for v in first.verdicts] == [v.iqm for v in second.verdicts]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1,234"), (-0.04321, "-0.0432"), (3e-7, "3.00e-07"),
     (float("nan"), "–"), (2.5e7, "2.50e+07")],
)  # fmt: skip
def test_numbers(value, shown):
    assert number(value) == shown


def test_interval_and_p():
    assert interval_text(Interval(1.0, 3.0, 2.0)) == "2.00 (1.00 to 3.00)"
    assert p_text(0.0001) == "p < 0.001"
    assert p_text(0.0123) == "p = 0.012"
