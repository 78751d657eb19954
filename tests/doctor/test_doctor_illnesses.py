"""Every illness is named, alone and with its evidence; a healthy run is not accused, whatever its noise."""

import numpy as np
import pytest
from doctor_streams import ILLNESSES, LAYERS, ROWS, Stream, half

from stablegrad.doctor import DETECTORS, examine, illness

SEEDS = range(6)


def names(examination):
    return [finding.name for finding in examination.findings if finding.severity != "info"]


def test_every_illness_has_a_stream():
    assert set(ILLNESSES) == set(DETECTORS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_run_is_not_accused(tmp_path, seed):
    examination = examine(Stream(seed).write(tmp_path))
    assert names(examination) == []
    assert examination.healthy
    assert examination.not_looked_at == ()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ILLNESSES)
def test_an_illness_is_named_and_nothing_else(tmp_path, name, seed):
    stream = Stream(seed)
    ILLNESSES[name](stream)
    examination = examine(stream.write(tmp_path))
    assert names(examination) == [name]
    assert not examination.healthy
    finding = examination.findings[0]
    assert finding.evidence
    assert 0.5 < finding.confidence <= 1


@pytest.mark.parametrize(
    "name", ["exploding_gradients", "vanishing_gradients", "dead_units", "rank_collapse", "flat_curvature"]
)
def test_it_says_since_when(tmp_path, name):
    stream = Stream()
    ILLNESSES[name](stream)
    assert examine(stream.write(tmp_path)).findings[0].since == 21_000


def test_layers_are_named(tmp_path):
    stream = Stream()
    ILLNESSES["vanishing_gradients"](stream)
    ILLNESSES["frozen_layers"](stream)
    found = {finding.name: finding.layers for finding in examine(stream.write(tmp_path)).findings}
    assert found == {"vanishing_gradients": ("trunk.0.linear",), "frozen_layers": ("encoder.net.0.conv",)}


def test_a_small_gradient_whose_step_does_not_vanish_is_a_remark_only(tmp_path):
    stream = Stream()
    stream.columns["gradients/raw/trunk.0.linear"] *= 1e-4
    examination = examine(stream.write(tmp_path))
    assert [(finding.name, finding.severity) for finding in examination.findings] == [("vanishing_gradients", "info")]
    assert examination.healthy


def test_no_gradient_anywhere_is_critical(tmp_path):
    stream = Stream()
    for layer in LAYERS[:-1]:
        stream.columns[f"gradients/raw/{layer}"] *= 1e-12
    finding = examine(stream.write(tmp_path)).findings[0]
    assert (finding.name, finding.severity, finding.layers) == ("vanishing_gradients", "critical", LAYERS[:-1])


def test_one_layer_that_explodes_is_named(tmp_path):
    stream = Stream()
    stream.columns["gradients/raw/trunk.1.linear"] *= 1000
    finding = examine(stream.write(tmp_path)).findings[0]
    assert (finding.name, finding.layers) == ("exploding_gradients", ("trunk.1.linear",))


def test_the_most_serious_stands_first(tmp_path):
    stream = Stream()
    for name in ("no_learning", "rank_collapse", "failed"):
        ILLNESSES[name](stream)
    found = examine(stream.write(tmp_path)).findings
    assert [finding.severity for finding in found] == ["critical", "warning", "warning"]
    assert [finding.name for finding in found] == ["failed", "rank_collapse", "no_learning"]


@pytest.mark.parametrize(
    ("name", "factor"),
    [("units/dead/total", 3.0), ("churn/value", 1.0), ("curvature/hessian_trace", 0.05)],
)
def test_below_its_threshold_nothing_is_said(tmp_path, name, factor):
    """The same kind of change as the illness, too small to count."""
    stream = Stream()
    stream.columns[name] = stream.columns[name] * factor
    assert names(examine(stream.write(tmp_path))) == []


def test_few_directions_are_no_illness_while_inputs_are_told_apart(tmp_path):
    """A small observation has few directions; only together with one that outweighs all others it is a collapse."""
    stream = Stream()
    stream.columns["ranks/effective_rank"] *= 0.1
    assert names(examine(stream.write(tmp_path))) == []


@pytest.mark.parametrize(("rank", "convolutions", "said"), [(4.0, True, 1), (4.0, False, 0), (1.3, False, 1)])
def test_how_many_directions_are_few_depends_on_what_the_network_reads(tmp_path, rank, convolutions, said):
    """4 directions of images are a collapse, 4 of an observation of a few numbers are not, 1.3 are anywhere."""
    stream = Stream()
    ILLNESSES["rank_collapse"](stream)
    stream.columns["ranks/effective_rank"][:] = rank
    if not convolutions:
        stream.columns = {name: values for name, values in stream.columns.items() if "conv" not in name}
    assert names(examine(stream.write(tmp_path))) == ["rank_collapse"] * said


@pytest.mark.parametrize(("rise", "said"), [(0.4, ["growing_dormancy"]), (0.22, [])])
def test_dormancy_that_rises_and_stays_below_half_is_no_illness(tmp_path, rise, said):
    """From 0.25 it ends at about 0.6, or below 0.5."""
    stream = Stream()
    stream.columns["units/dormant/total"] += np.linspace(0, 1, ROWS).round() * rise
    assert names(examine(stream.write(tmp_path))) == said


def test_an_annealed_learning_rate_that_was_too_high_is_found(tmp_path):
    stream = Stream()
    ILLNESSES["steps_too_large"](stream)
    for layer in LAYERS:
        stream.columns[f"gradients/update/{layer}"] *= np.linspace(1, 0, ROWS)
    assert names(examine(stream.write(tmp_path))) == ["steps_too_large"]


@pytest.mark.parametrize(("leap", "said"), [(100.0, ["steps_too_large"]), (10.0, [])])
def test_a_single_leap_is_found_where_the_steps_are_small_ever_after(tmp_path, leap, said):
    """The relative step is 0.0005: a leap of 100 times that changed the weights by 5 %, one of 10 times by 0.5 %."""
    stream = Stream()
    for layer in LAYERS:
        stream.columns[f"gradients/update/{layer}"][0] *= leap
    assert names(examine(stream.write(tmp_path))) == said


@pytest.mark.parametrize(("error", "said"), [(0.01, ["flat_curvature"]), (80.0, [])])
def test_a_trace_that_is_lost_in_its_error_is_not_called_flat(tmp_path, error, said):
    """A ten-thousandth of what it was is flat; not so where the standard error alone is a tenth of what it was."""
    stream = Stream()
    stream.columns["curvature/hessian_trace"] *= half(1.0, 1e-4)
    stream.columns["curvature/hessian_trace_standard_error"] = np.full(ROWS, error)
    assert names(examine(stream.write(tmp_path))) == said


def test_one_spike_of_the_trace_does_not_make_the_rest_flat(tmp_path):
    stream = Stream()
    stream.columns["curvature/hessian_trace"][3] *= 1000
    assert names(examine(stream.write(tmp_path))) == []


def test_values_are_held_against_what_rewards_allow(tmp_path):
    """Mean values of 50: impossible where games score 20 at most, ordinary under clipped rewards and gamma = 0.99."""
    stream = Stream()
    stream.columns["losses/q_values"] = np.full(ROWS, 150.0)
    assert names(examine(stream.write(tmp_path / "raw"))) == ["value_divergence"]
    stream.config["reward_clip"] = True
    assert names(examine(stream.write(tmp_path / "clipped"))) == []
    stream.config["gamma"] = 0.9
    assert names(examine(stream.write(tmp_path / "short"))) == ["value_divergence"]


def test_a_score_that_stands_still_is_a_remark(tmp_path):
    stream = Stream(3)
    stream.score = lambda share: min(0.5 + 20 * share, 6.0)
    found = examine(stream.write(tmp_path)).findings
    assert [(finding.name, finding.severity) for finding in found] == [("learning_stopped", "info")]


def test_it_is_too_early_to_say_that_nothing_was_learned(tmp_path):
    stream = Stream()
    ILLNESSES["no_learning"](stream)
    stream.config["total_timesteps"] = 10_000_000
    assert names(examine(stream.write(tmp_path))) == []


def test_thresholds_decide(tmp_path):
    """A threshold is data: with another number the same run is judged differently."""
    from dataclasses import replace

    from stablegrad.doctor import Signals

    signals = Signals.read(Stream().write(tmp_path))
    known = illness("dead_units")
    assert DETECTORS["dead_units"](signals, known) is None
    strict = {"share": replace(known.thresholds["share"], value=0.05), "layer": known.thresholds["layer"]}
    assert DETECTORS["dead_units"](signals, replace(known, thresholds=strict)) is not None
