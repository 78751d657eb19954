"""Statistics: literal numbers, naive twins, and versions that are wrong on purpose."""

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablegrad.reports import comparisons, stats

RNG = np.random.default_rng
RECORD = Path(__file__).parents[2] / "benchmarks/results/coverage.json"
BIMODAL_IQM = 0.8628
"""3 of 10 scores at 0 +- 0.1, the others at 1 +- 0.1. Of the middle half, 0.05 are the top sixth of the low ones (mean
0.1 phi(0.967) / 0.167 = 0.150) and 0.45 the lowest 9/14 of the high ones (mean 1 - 0.1 phi(0.366) / 0.643 = 0.942)."""


def naive_iqm(scores):
    """Sort, cut, average, one list at a time."""
    ordered = sorted(float(value) for row in scores for value in row)
    cut = int(len(ordered) * 0.25)
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def naive_probability(x, y):
    """Every pair of runs of every task, counted."""
    per_task = []
    for task in range(len(x[0])):
        wins = [1.0 if a[task] > b[task] else 0.5 if a[task] == b[task] else 0.0 for a in x for b in y]
        per_task.append(sum(wins) / len(wins))
    return sum(per_task) / len(per_task)


def test_literals():
    scores = np.array([[0.0, 1.0], [2.0, 3.0], [10.0, 2.0]])
    assert stats.mean(scores) == 3.0
    assert stats.median(scores) == 3.0  # means over runs 4 and 2
    assert stats.optimality_gap(scores) == pytest.approx(1 / 6)  # only the 0 falls short of 1
    # 0 1 2 2 3 10: int(6 / 4) = 1 is cut at either end
    assert stats.iqm(scores) == 2.0


@pytest.mark.parametrize(("count", "cut"), [(3, 0), (4, 1), (5, 1), (7, 1), (8, 2), (10, 2), (15, 3)])
def test_iqm_cuts_as_many_as_scipy(count, cut):
    """scipy.stats.trim_mean cuts int(.25 n); rounding instead would cut 2 of 7, and a weighted IQM a
    fraction."""
    values = np.exp(np.arange(count, dtype=float))
    assert stats.iqm(values[:, None]) == pytest.approx(values[cut : count - cut].mean())


def test_median_is_over_tasks_of_means_over_runs():
    scores = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 9.0], [3.0, 6.0, 9.0]])
    assert stats.median(scores) == 2.0
    assert np.median(scores) == 0.0  # the median of everything is another number


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=60)
def test_statistics_agree_with_naive_twins(runs, tasks, seed):
    rng = RNG(seed)
    x = rng.integers(-3, 4, size=(runs, tasks)).astype(float)
    y = rng.integers(-3, 4, size=(runs + 1, tasks)).astype(float)
    assert stats.iqm(x) == pytest.approx(naive_iqm(x))
    assert stats.probability_of_improvement(x, y) == pytest.approx(naive_probability(x, y))
    levels = np.array([-3.0, -0.5, 0.0, 2.0])
    profile = [sum(value > level for value in x.ravel()) / x.size for level in levels]
    assert stats.performance_profile(x, levels) == pytest.approx(profile)


def test_leading_axes_are_kept():
    scores = RNG(0).normal(size=(4, 2, 5, 7))
    for statistic in (stats.mean, stats.median, stats.iqm, stats.optimality_gap):
        together = statistic(scores)
        assert together.shape == (4, 2)
        assert together[3, 1] == pytest.approx(float(statistic(scores[3, 1])))
    assert stats.probability_of_improvement(scores, scores[:, :, :3]).shape == (4, 2)
    assert stats.performance_profile(scores, [0.0, 1.0, 2.0]).shape == (4, 2, 3)


def test_probability_of_improvement_is_a_half_for_equals_and_antisymmetric():
    x, y = RNG(1).normal(size=(5, 3)), RNG(2).normal(0.5, 1, size=(4, 3))
    assert stats.probability_of_improvement(np.ones((3, 2)), np.ones((4, 2))) == 0.5
    assert stats.probability_of_improvement(x, y) + stats.probability_of_improvement(y, x) == pytest.approx(1.0)


def test_sample_efficiency_is_the_iqm_of_every_checkpoint():
    curves = RNG(3).normal(size=(5, 4, 6))
    expected = [naive_iqm(curves[:, :, checkpoint]) for checkpoint in range(6)]
    assert stats.sample_efficiency(curves) == pytest.approx(expected)


def test_area_under_curve():
    curves = np.array([[[0.0, 1.0, 2.0], [4.0, 4.0, 4.0]]])
    assert stats.area_under_curve(curves).tolist() == [[1.0, 4.0]]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="at least 2 axes"):
        stats.iqm([1.0, 2.0])
    with pytest.raises(ValueError, match="no run or no task"):
        stats.mean(np.empty((0, 3)))
    with pytest.raises(ValueError, match="3 and 2 tasks"):
        stats.probability_of_improvement(np.ones((2, 3)), np.ones((2, 2)))


class TestBootstrap:
    def test_it_is_seeded_and_leaves_the_global_generator_alone(self):
        scores = RNG(4).normal(size=(5, 6))
        before = np.random.get_state()[1].tolist()
        first = stats.bootstrap_interval(scores, stats.iqm, rng=RNG(7), resamples=500)
        assert first == stats.bootstrap_interval(scores, stats.iqm, rng=RNG(7), resamples=500)
        assert first != stats.bootstrap_interval(scores, stats.iqm, rng=RNG(8), resamples=500)
        assert np.random.get_state()[1].tolist() == before

    def test_the_percentiles_of_a_known_distribution(self):
        """Two runs 0 and 1 of one task: the resampled mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
        low, high, point = stats.bootstrap_interval([[0.0], [1.0]], stats.mean, rng=RNG(0), resamples=4_000, level=0.4)
        assert (low, high, point) == (0.5, 0.5, 0.5)
        assert stats.bootstrap_interval([[0.0], [1.0]], stats.mean, rng=RNG(0), resamples=4_000)[:2] == (
            0.0,
            1.0,
        )

    def test_the_interval_of_a_mean_has_the_width_of_theory(self):
        scores = RNG(5).normal(size=(200, 1))
        low, high, _ = stats.bootstrap_interval(scores, stats.mean, rng=RNG(6), resamples=20_000)
        assert high - low == pytest.approx(2 * 1.96 * scores.std() / np.sqrt(200), rel=0.03)

    def test_runs_are_drawn_within_each_task(self):
        """Tasks 0 and 100: drawing over everything, as an unstratified bootstrap would, spreads the mean by
        tens."""
        scores = np.array([[0.0, 100.0], [1.0, 101.0]])
        low, high, _ = stats.bootstrap_interval(scores, stats.mean, rng=RNG(9), resamples=2_000)
        assert 50.0 <= low <= high <= 51.0
        unstratified = scores.ravel()[RNG(9).integers(0, 4, size=(2_000, 4))].mean(axis=1)
        assert np.ptp(np.percentile(unstratified, [2.5, 97.5])) > 50

    def test_tasks_are_drawn_independently_of_each_other(self):
        """Opposite runs on two tasks: whole rows drawn together would leave the mean at 0.5 always."""
        scores = np.array([[0.0, 1.0], [1.0, 0.0]])
        low, high, _ = stats.bootstrap_interval(scores, stats.mean, rng=RNG(10), resamples=2_000)
        assert (low, high) == (0.0, 1.0)

    def test_a_statistic_of_several_numbers_has_an_interval_for_each(self):
        scores = RNG(11).normal(size=(5, 3))
        low, high, point = stats.bootstrap_interval(
            scores, lambda s: stats.performance_profile(s, [-1.0, 0.0, 1.0]), rng=RNG(12), resamples=300
        )
        assert low.shape == high.shape == point.shape == (3,)
        assert (low <= point).all()
        assert (point <= high).all()

    def test_a_statistic_of_one_resample_works_too(self):
        scores = RNG(13).normal(size=(5, 3))
        plain = stats.bootstrap_interval(scores, np.mean, rng=RNG(14), resamples=400)
        assert plain == pytest.approx(stats.bootstrap_interval(scores, stats.mean, rng=RNG(14), resamples=400))

    def test_two_arms_are_drawn_independently(self):
        x, y = RNG(15).normal(size=(5, 4)), RNG(16).normal(size=(3, 4))
        interval = stats.bootstrap_interval((x, y), stats.probability_of_improvement, rng=RNG(17), resamples=500)
        assert interval.low < interval.point < interval.high

    def test_pairs_narrow_a_difference(self):
        """Seeds that shift both arms alike cancel in pairs, and only in pairs."""
        shift = RNG(18).normal(0, 5, size=(8, 2))
        x, y = shift + 1.0, shift
        paired = stats.difference_interval(x, y, stats.mean, rng=RNG(19), paired=True, resamples=500)
        loose = stats.difference_interval(x, y, stats.mean, rng=RNG(19), resamples=500)
        assert (paired.low, paired.high) == pytest.approx((1.0, 1.0))
        assert loose.high - loose.low > 2
        with pytest.raises(ValueError, match="in pairs"):
            stats.difference_interval(x, y[:5], stats.mean, rng=RNG(19), paired=True)

    @pytest.mark.parametrize("bad", [{"level": 1.0}, {"resamples": 0}])
    def test_nonsense_is_refused(self, bad):
        with pytest.raises(ValueError, match="level"):
            stats.bootstrap_interval(np.ones((2, 2)), stats.mean, rng=RNG(0), **bad)
        with pytest.raises(ValueError, match="NaN"):
            stats.bootstrap_interval([[np.nan], [1.0]], stats.mean, rng=RNG(0))

    def test_fifty_thousand_resamples_of_57_games_and_5_seeds(self):
        scores = RNG(20).normal(size=(5, 57))
        start = time.process_time()
        interval = stats.bootstrap_interval(scores, stats.iqm, rng=RNG(21))
        assert time.process_time() - start < 2
        assert interval.low < interval.point < interval.high


class TestComparisons:
    def test_holm_by_hand(self):
        """.01 x 4 = .04; .02 x 3 = .06; .03 x 2 = .06; .04 x 1 = .04, but never less than the one before:
        .06."""
        assert stats.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
        assert stats.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
        assert stats.holm([]).tolist() == []
        with pytest.raises(ValueError, match="between 0 and 1"):
            stats.holm([1.2])

    def test_holm_rejects_no_less_than_bonferroni_and_no_more_than_nothing(self):
        p = RNG(22).random(50) ** 3
        assert (stats.holm(p) <= np.minimum(1, 50 * p) + 1e-12).all()
        assert (stats.holm(p) >= p).all()

    def test_the_smallest_p_value_of_three_against_three(self):
        assert stats.smallest_p_value(3, 3, 1) == pytest.approx(0.1)  # 2 of the 20 ways to split six runs
        assert stats.smallest_p_value(5, 5, 1) == pytest.approx(2 / 252)
        assert stats.smallest_p_value(3, 3, 2) == pytest.approx(2 / 400)
        assert stats.smallest_p_value(5, 2, 1) == pytest.approx(1 / 21)

    @pytest.mark.parametrize(
        ("n", "m", "p"), [(3, 3, 2 / 20), (5, 2, 1 / 21), (2, 5, 1 / 21), (2, 2, 2 / 6), (1, 1, 1.0)]
    )
    def test_arms_that_do_not_overlap_have_the_smallest_p_value_exactly(self, n, m, p):
        """All arrangements are counted. Drawn ones gave 5 against 2 seeds p-values below the least there can be."""
        x, y = np.arange(float(n))[:, None] + 100, np.arange(float(m))[:, None]
        assert {stats.permutation_test(x, y, rng=RNG(seed)) for seed in range(3)} == {p}
        assert stats.smallest_p_value(n, m, 1) == p
        drawn = RNG(0).binomial(10_000, p, size=200)  # how many of 10,000 random shufflings are as extreme
        assert ((drawn + 1) / 10_001 < p).any() or p == 1

    @pytest.mark.parametrize(("n", "m", "tasks"), [(3, 2, 2), (4, 3, 1), (2, 2, 3)])
    def test_the_exact_test_agrees_with_a_naive_one(self, n, m, tasks):
        rng = RNG(31)
        for _ in range(5):
            x, y = rng.normal(0.5, 1, (n, tasks)), rng.normal(size=(m, tasks))
            pooled, seen = np.concatenate([x, y]), []
            ways = list(itertools.combinations(range(n + m), n))
            for chosen in itertools.product(ways, repeat=tasks):
                ours = [[pooled[run, task] for run in chosen[task]] for task in range(tasks)]
                theirs = [
                    [pooled[run, task] for run in range(n + m) if run not in chosen[task]] for task in range(tasks)
                ]
                seen.append(abs(stats.iqm(np.array(ours).T) - stats.iqm(np.array(theirs).T)))
            extreme = sum(one >= abs(stats.iqm(x) - stats.iqm(y)) - 1e-12 for one in seen)
            assert stats.permutation_test(x, y, rng=rng, statistic=stats.iqm) == pytest.approx(extreme / len(seen))

    def test_a_drawn_p_value_is_not_below_the_floor_either(self, monkeypatch):
        monkeypatch.setattr(comparisons, "EXACT", 10)
        x, y = np.arange(3.0)[:, None] + 100, np.arange(3.0)[:, None]
        p = [stats.permutation_test(x, y, rng=RNG(seed), permutations=99) for seed in range(40)]
        assert min(p) == 0.1 < max(p) < 0.25  # of 99 draws about 10 are as extreme: 0.1 * 99 + 1 = 11 of 100

    def test_the_best_p_values_after_holm_and_who_has_no_chance(self):
        assert comparisons.best_p_values([(3, 3)], 1).tolist() == [0.1]
        assert comparisons.best_p_values([(5, 5)] * 7, 1) == pytest.approx([7 * 2 / 252] * 7)
        assert comparisons.hopeless({"a": (5, 2)}, 1) == []  # 1/21 = 0.048
        assert comparisons.hopeless({"a": (3, 3)}, 2) == []
        (alone,) = comparisons.hopeless({"a": (3, 3)}, 1)
        assert alone.startswith("With 3 seeds against 3 on 1 game no permutation test can fall below p = 0.1: no")
        (all_of_them,) = comparisons.hopeless(dict.fromkeys("abcdefg", (5, 5)), 1)
        assert "below p = 0.0079 (Holm-adjusted for 7 comparisons: 0.056)" in all_of_them
        (one,) = comparisons.hopeless({"a": (3, 3), "b": (9, 5)}, 1)
        assert one.startswith("With 3 seeds against 3 on 1 game, as for a, no permutation test")

    def test_no_scores_give_smaller_adjusted_p_values_than_the_best(self):
        rng = RNG(32)
        for _ in range(200):
            pairs = [tuple(rng.integers(2, 6, 2)) for _ in range(rng.integers(1, 6))]
            floors = np.array([stats.smallest_p_value(int(n), int(m), 1) for n, m in pairs])
            found = stats.holm(np.minimum(1, floors * np.exp(rng.exponential(1.0, len(floors)) * rng.integers(0, 2))))
            assert (found >= comparisons.best_p_values(pairs, 1) - 1e-12).all()

    def test_p_values_are_uniform_when_nothing_differs(self):
        """At most 5 % of them below .05: with noise that differs by task, and tasks that differ by level."""
        rng = RNG(24)
        level, spread = np.array([0.0, 50.0]), np.array([1.0, 10.0])
        p = [
            stats.permutation_test(
                level + spread * rng.normal(size=(4, 2)),
                level + spread * rng.normal(size=(4, 2)),
                rng=rng,
                permutations=400,
            )
            for _ in range(300)
        ]
        assert np.mean(np.array(p) < 0.05) < 0.085
        assert np.mean(p) == pytest.approx(0.5, abs=0.06)

    def test_a_difference_within_tasks_is_found_although_tasks_differ_more(self):
        rng = RNG(25)
        level = np.array([0.0, 1000.0])
        x, y = level + rng.normal(3, 1, size=(5, 2)), level + rng.normal(0, 1, size=(5, 2))
        assert stats.permutation_test(x, y, rng=rng, permutations=2_000) < 0.01

    def test_relative_improvement(self):
        ours, base = np.array([1.0, 0.5, 0.3, -1.0]), np.array([0.5, 1.0, 0.0, -2.0])
        # +100 %; -50 %; a baseline at random play counts as 1 % of the human range; less negative is better.
        assert stats.relative_improvement(ours, base) == pytest.approx([1.0, -0.5, 30.0, 0.5])

    def test_minimum_detectable_difference_by_hand(self):
        """s = 1, 5 runs, 1 task: t(.975; 8) = 2.306 and t(.8; 8) = .8889, times sqrt(2/5)."""
        scores = np.array([-1.0, -1.0, 0.0, 1.0, 1.0])[:, None]
        assert scores.std(ddof=1) == 1.0
        assert stats.minimum_detectable_difference(scores) == pytest.approx((2.3060 + 0.8889) * np.sqrt(0.4), abs=1e-3)
        assert stats.minimum_detectable_difference(scores, runs=50) < 0.6
        assert stats.minimum_detectable_difference(scores[:1]) == np.inf

    def test_that_difference_is_found_four_times_in_five(self):
        rng = RNG(26)
        effect = stats.minimum_detectable_difference(
            np.sqrt(0.8) * np.array([-1.0, -1.0, 0.0, 1.0, 1.0])[:, None] / 0.8**0.5
        )
        found = [
            stats.permutation_test(rng.normal(effect, 1, (5, 1)), rng.normal(0, 1, (5, 1)), rng=rng, permutations=250)
            < 0.05
            for _ in range(250)
        ]
        assert np.mean(found) == pytest.approx(0.8, abs=0.08)

    @pytest.mark.parametrize("kind", ["normal", "bimodal"])
    @pytest.mark.parametrize("runs", [3, 5])
    def test_the_coverage_of_the_record_is_what_a_naive_simulation_finds(self, kind, runs):
        """1,500 samples: a standard error of 0.011 at most, and the record's own is 0.007."""
        rng = RNG(27)
        held = 0
        true = 0.0 if kind == "normal" else None
        for _ in range(1_500):
            sample = rng.normal(size=runs)
            if kind == "bimodal":
                sample = np.where(rng.random(runs) < 0.3, 0.0, 1.0) + 0.1 * sample
            resampled = np.sort(sample[rng.integers(0, runs, (600, runs))], axis=1)
            cut = runs // 4
            low, high = np.percentile(resampled[:, cut : runs - cut].mean(axis=1), [2.5, 97.5])
            held += low <= (BIMODAL_IQM if true is None else true) <= high
        recorded = json.loads(RECORD.read_text())["iqm"]["1"][kind][str(runs)]
        assert held / 1_500 == pytest.approx(recorded, abs=0.04)

    def test_the_table_in_the_code_is_the_record(self):
        record = json.loads(RECORD.read_text())
        for name, by_tasks in comparisons.COVERAGE.items():
            for tasks, by_runs in by_tasks.items():
                kinds = record[name][str(tasks)]
                measured = {
                    int(runs): (min(k[runs] for k in kinds.values()), max(k[runs] for k in kinds.values()))
                    for runs in kinds["normal"]
                }
                assert by_runs == measured

    def test_coverage_is_that_of_the_largest_counts_that_were_measured(self):
        assert stats.coverage(1, 1) is None
        assert stats.coverage(12, 1) == comparisons.COVERAGE["iqm"][1][10]
        assert stats.coverage(4, 57) == comparisons.COVERAGE["iqm"][10][3]
        assert stats.coverage(2, 57) == comparisons.COVERAGE["iqm"][1][2]
        assert stats.coverage(5, 1, "mean") == comparisons.COVERAGE["mean"][1][5]
        for statistic in ("iqm", "mean"):
            low, high = stats.coverage(comparisons.ENOUGH_RUNS, 1, statistic)
            assert stats.coverage(5, 1, statistic)[0] < low <= high < 0.95

    def test_warnings(self):
        assert stats.warnings([10, 10], 10) == []
        (single,) = stats.warnings([1], 10)
        assert "single seed" in single
        (few,) = stats.warnings([3, 3], 1)
        assert few.startswith(
            "Fewer than 10 seeds make the intervals too narrow: in simulations with 3 runs of one task"
        )
        low, high = (f"{100 * share:.0f}" for share in stats.coverage(3, 1))
        assert f"held the truth {low} to {high}\u00a0% of the time" in few
        assert "with 5 runs of 10 tasks" in stats.warnings([9, 5], 26)[0]
        assert "different numbers of seeds (3 to 5)" in stats.warnings([3, 5], 10)[-1]
