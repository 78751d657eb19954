"""What makes an arm, what it is called, and what it is compared with."""

import pytest
from synthetic_runs import write_sweep

from stablegrad.errors import UserError
from stablegrad.reports.arms import (
    choose_baseline,
    choose_baselines,
    duplicates,
    families,
    game_of,
    pooled_over_sizes,
    study,
)
from stablegrad.reports.load import load_run, load_runs
from stablegrad.reports.names import labels, percent, show


def study_of(make_run, *settings):
    return study([load_run(make_run(f"run{number}", rows=2, **s)) for number, s in enumerate(settings)])


def test_seeds_and_games_of_one_configuration_are_one_arm(sweep):
    compared = study(load_runs([sweep]))
    assert [arm.label for arm in compared.arms] == [
        "plain, RAdam",
        "plain, Kron",
        "multi-skip, RAdam",
        "multi-skip, Kron",
    ]
    assert compared.tasks == ("MinAtar/Asterix", "MinAtar/Breakout")
    assert [len(arm.on("MinAtar/Asterix")) for arm in compared.arms] == [3, 3, 3, 3]
    assert [run.seed for run in compared.arms[0].on("MinAtar/Breakout")] == [1, 2, 3]
    assert len(compared.runs) == 24


def test_what_follows_is_a_difference_but_not_in_the_name(sweep):
    """Kron runs at a third of the learning rate: that is shown, but names no arm, for the optimizer has done so."""
    compared = study(load_runs([sweep]))
    assert compared.varying == ("mlp_type", "optimizer", "learning_rate", "lr_scale")
    assert compared.shared["mlp_depth"] == "small"


def test_how_a_run_was_kept_and_watched_makes_no_arm(make_run):
    compared = study_of(make_run, {"seed": 1, "device": "cpu"}, {"seed": 2, "device": "cuda", "checkpoint_every": 5})
    assert len(compared.arms) == 1
    assert len(study_of(lambda n, **s: make_run(f"x{n}", **s), {"gamma": 0.9}, {"gamma": 0.99}).arms) == 2


def test_what_follows_from_the_game_makes_no_arm(make_run):
    compared = study_of(
        make_run,
        {"env_id": "Pong-v5", "max_steps": 100, "seed": 1},
        {"env_id": "Pong-v5", "max_steps": 100, "seed": 2},
        {"env_id": "MinAtar/Breakout", "max_steps": 200},
    )
    assert len(compared.arms) == 1
    assert compared.by_task == ("max_steps",)
    assert compared.tasks == ("MinAtar/Breakout", "Pong")


def test_the_same_difference_within_a_game_does(make_run):
    compared = study_of(make_run, {"env_id": "Pong-v5", "max_steps": 1}, {"env_id": "Pong-v5", "max_steps": 2})
    assert [arm.label for arm in compared.arms] == ["max steps 1", "max steps 2"]


@pytest.mark.parametrize("spelling", ["Breakout-v5", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4", "breakout"])
def test_spellings_of_a_game_are_one_task(make_run, spelling):
    assert game_of(load_run(make_run("a", rows=1, env_id=spelling))) == "Breakout"


def test_sizes_are_ordered_by_size_and_words_mean_blocks(make_run):
    compared = study_of(make_run, *({"mlp_depth": depth} for depth in ("large", 2, "small", "medium")))
    assert [arm.label for arm in compared.arms] == ["depth small", "depth 2", "depth medium", "depth large"]


def test_a_single_arm_is_named_by_what_it_is(make_run):
    assert study_of(make_run, {"optimizer": "kron"}).arms[0].label == "PQN, plain, Kron"


def test_a_label_hides_no_difference_of_network_or_optimizer():
    """What changed together is named together: else the optimizer's merit would be read as the network's."""
    settings = [{"mlp_type": "default", "optimizer": "radam"}, {"mlp_type": "multiskip_residual", "optimizer": "kron"}]
    assert labels(settings, ["mlp_type", "optimizer"], {}) == ["plain, RAdam", "multi-skip, Kron"]


def test_labels_use_the_fewest_of_the_other_settings():
    settings = [{"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 2}, {"a": 2, "b": 1, "c": 3}]
    assert labels(settings, ["a", "b", "c"], {}) == ["a 1, b 1", "a 1, b 2", "a 2, b 1"]


def test_a_learning_rate_stands_wherever_another_was_asked_for():
    rates = [{"optimizer": o, "learning_rate": lr} for o, lr in (("adam", 0.1), ("adam", 0.2), ("kron", 0.3))]
    assert labels(rates, ["optimizer", "learning_rate"], {}) == ["Adam, lr 0.1", "Adam, lr 0.2", "Kron, lr 0.3"]
    norm = [{"use_ln": True, "learning_rate": 2.5e-4}, {"use_ln": False, "learning_rate": 1e30}]
    assert labels(norm, ["use_ln", "learning_rate"], {}) == ["norm, lr 0.00025", "no norm, lr 1e+30"]
    scaled = [
        {"optimizer": "adam", "learning_rate": 0.3, "lr_scale": 1.0},
        {"optimizer": "kron", "learning_rate": 0.1, "lr_scale": 1 / 3},
    ]
    assert labels(scaled, ["optimizer", "learning_rate", "lr_scale"], {}) == ["Adam", "Kron"]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("algo", "pqn", "PQN"),
        ("algo", "rainbow", "Rainbow"),
        ("algo", "somewhere/my_agent.py:Mine", "my_agent.py:Mine"),
        ("learning_rate", 8.333333e-05, "8.333e-05"),
        ("use_ln", False, "no norm"),
        ("track", ["tensorboard", "wandb"], "tensorboard + wandb"),
        ("interventions", [], "none"),
        ("gamma", None, "–"),
        ("total_timesteps", 10_000_000, "10,000,000"),
        ("weird", {"a": 1}, "{'a': 1}"),
    ],
)
def test_values_as_they_are_shown(key, value, shown):
    assert show(key, value) == shown


def test_percent():
    assert percent(0.8364) == "84\u00a0%"
    assert percent(12.5, signed=True) == "+1,250\u00a0%"


class TestBaseline:
    def test_it_is_plain_and_not_kron_by_default(self, sweep):
        arms = study(load_runs([sweep])).arms
        assert choose_baseline(arms).label == "plain, RAdam"
        assert choose_baseline(arms[1:]).label == "plain, Kron"

    def test_it_can_be_named_by_a_part(self, sweep):
        arms = study(load_runs([sweep])).arms
        assert choose_baseline(arms, "MULTI-skip, kron").label == "multi-skip, Kron"
        assert choose_baseline(arms, "plain, r").label == "plain, RAdam"
        with pytest.raises(UserError, match="'plain' fits 2 arms; the arms are: plain, RAdam; plain, Kron"):
            choose_baseline(arms, "plain")
        with pytest.raises(UserError, match=r"no arm is called 'plain, krom' \(did you mean 'plain, Kron'\?\)"):
            choose_baseline(arms, "plain, krom")


class TestSizes:
    def test_families_and_their_pool(self, tmp_path):
        write_sweep(tmp_path, seeds=2, depths=("small", "large"), widths=("small", "medium"), rows=2)
        compared = study(load_runs([tmp_path]))
        assert {label: len(arms) for label, arms in families(compared).items()} == {
            "plain, RAdam": 4,
            "plain, Kron": 4,
            "multi-skip, RAdam": 4,
            "multi-skip, Kron": 4,
        }
        pooled = pooled_over_sizes(compared)
        assert [arm.label for arm in pooled.arms] == list(families(compared))
        assert pooled.tasks == (
            "MinAtar/Breakout, depth small, width small",
            "MinAtar/Breakout, depth small, width medium",
            "MinAtar/Breakout, depth large, width small",
            "MinAtar/Breakout, depth large, width medium",
        )
        assert set(pooled.games.values()) == {"MinAtar/Breakout"}
        assert len(pooled.arms[0].on(pooled.tasks[0])) == 2

    @pytest.mark.parametrize(
        ("wanted", "single", "over_sizes"),
        [
            (None, "plain, RAdam, depth small, width small", "plain, RAdam"),
            ("plain, Kron", "plain, Kron, depth small, width small", "plain, Kron"),
            ("plain, Kron, depth large, width small", "plain, Kron, depth large, width small", "plain, Kron"),
        ],
    )
    def test_baselines_of_both_kinds_go_together(self, tmp_path, wanted, single, over_sizes):
        write_sweep(tmp_path, seeds=1, depths=("small", "large"), widths=("small", "medium"), rows=2)
        compared = study(load_runs([tmp_path]))
        chosen = choose_baselines(compared, pooled_over_sizes(compared), wanted)
        assert [arm.label for arm in chosen] == [single, over_sizes]

    def test_one_family_or_one_size_is_not_pooled(self, sweep, make_run):
        assert pooled_over_sizes(study(load_runs([sweep]))) is None
        assert pooled_over_sizes(study_of(make_run, {"mlp_depth": 1}, {"mlp_depth": 2})) is None


def test_repeated_seeds_are_counted(make_run):
    compared = study_of(make_run, {"seed": 1}, {"seed": 1}, {"seed": 2})
    (arm,) = compared.arms
    assert duplicates(arm, arm.runs) == 1
    assert duplicates(arm, arm.runs[1:]) == 0


def test_no_run_at_all():
    with pytest.raises(UserError, match="no run to report on"):
        study([])
