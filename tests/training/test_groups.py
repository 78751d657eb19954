"""Several parameter groups, in any order, in updates that leave some of them out."""

import copy
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import PQN, assert_identical, final_state

from stablegrad.api import load_run
from stablegrad.diagnostics import catalogue
from stablegrad.diagnostics.units import dead_fraction
from stablegrad.doctor.examine import judge
from stablegrad.doctor.signals import Signals
from stablegrad.errors import UserError
from stablegrad.plasticity.base import Intervention, InterventionInfo
from stablegrad.runs.config import OptimizerSpec
from stablegrad.runs.series import Series
from stablegrad.training.fitting import reads_observations
from stablegrad.training.learner import Learner
from stablegrad.training.optimizers import spec_of
from stablegrad.training.recorder import Means

AGENTS = Path(__file__).parents[1] / "agents/soft_actor_critic.py"
CRITIC_FIRST, ACTOR_FIRST = f"{AGENTS}:SoftActorCritic", f"{AGENTS}:ActorFirst"
OWN_OPTIMIZERS = f"{AGENTS}:OptimizersOfTheirOwn"
SHORT = {"env_id": "Pendulum-v1", "total_timesteps": 120, "num_envs": 2, "log_every": 20, "diagnostics_every": 40}
FULL = {**SHORT, "diagnostics": "full"}


class Watcher(Intervention):
    """Writes down, for every update, the norm of each group's gradient; None where it has none. `zeroing` then wipes
    every gradient."""

    info = InterventionInfo(name="w", paper="-", kind="loss term", optimizer_state="kept", target_network="kept")

    def __init__(self, *, zeroing: bool = False) -> None:
        self.zeroing, self.seen = zeroing, []

    def after_backward(self, moment):
        norms = {}
        for name, module in moment.modules.items():
            grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
            norms[name] = float(torch.cat(grads).double().norm()) if grads else None
        self.seen.append((moment.step, norms))
        if self.zeroing:
            for module in moment.modules.values():
                for p in module.parameters():
                    if p.grad is not None:
                        p.grad.zero_()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize(("agent", "level"), [(CRITIC_FIRST, "full"), (ACTOR_FIRST, "light"), (OWN_OPTIMIZERS, "off")])
def test_an_agent_of_three_groups_is_stopped_and_resumed_bit_identical(run, agent, level):
    settings = {**SHORT, "total_timesteps": 80, "diagnostics": level, "learning_starts": 22}
    whole, pieces = run(agent, settings, name="whole"), run(agent, settings, stops=(20, 3, 7), name="pieces")
    assert_identical(whole, pieces)
    strip = [{k: v for k, v in row.items() if not k.startswith("time/") and k != "seconds"} for row in whole.rows()]
    found = [{k: row[k] for k in ref} for row, ref in zip(pieces.rows(), strip, strict=True)]
    assert str(found) == str(strip)  # by text: NaN is not equal to itself


def test_the_order_of_the_groups_changes_no_number(run):
    first, second = (
        list(run(agent, FULL, name=agent.rpartition(":")[2]).rows()) for agent in (CRITIC_FIRST, ACTOR_FIRST)
    )
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if not name.startswith(("time/", "seconds")):
                assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-7, nan_ok=True), name


def test_every_group_is_probed_and_has_its_learning_rate_under_catalogued_names(run):
    names = {name for row in run(CRITIC_FIRST, FULL).rows() for name in row}
    assert {
        "train/critic.learning_rate", "train/actor.learning_rate", "train/temperature.learning_rate",
        "units/dead/critic.total", "units/dead/actor.total", "units/dormant/actor.net.0", "ranks/critic.effective_rank",
        "weights/norm/actor.net.4", "churn/critic.value", "curvature/critic.hessian_trace", "units/critic.batch_size",
        "gradients/raw/critic.total", "gradients/raw/actor.total", "gradients/raw/temperature.total",
        "gradients/raw/critic.one.0", "gradients/update/actor.net.2", "gradients/cosine_successive/actor.net.0",
    } <= names  # fmt: skip
    assert not {"train/learning_rate", "units/dead/total"} & names
    for name in names:
        catalogue.entry(name)
    assert catalogue.entry("units/dead/critic.total").name == "units/dead/total"
    assert catalogue.entry("units/dead/critic.one.0").name == "units/dead/{layer}"


def test_rates_are_those_of_each_group(run):
    row = next(iter(run(CRITIC_FIRST, {**SHORT, "learning_rate": 0.01}).rows()))
    rates = {group: row[f"train/{group}.learning_rate"] for group in ("critic", "actor", "temperature")}
    assert rates == {"critic": 0.01, "actor": 0.005, "temperature": 0.001}


def test_a_group_may_have_an_optimizer_of_its_own(run):
    """One OptimizerSpec held for all groups: a critic's clipping and Adam moved the temperature too."""
    watcher = Watcher()
    settings = {**SHORT, "max_grad_norm": 1e-3, "learning_rate": 0.01, "total_timesteps": 40}
    folder = run(OWN_OPTIMIZERS, settings, interventions=[watcher])
    optimizers = final_state(folder)["learner"]["optimizers"]
    assert {name: bool(state["state"]) for name, state in optimizers.items()} == {
        "critic": True, "actor": True, "temperature": False,  # plain gradient descent keeps nothing
    }  # fmt: skip
    row = list(folder.rows())[-1]
    rates = {group: row[f"train/{group}.learning_rate"] for group in ("critic", "actor", "temperature")}
    assert rates == {"critic": 0.01, "actor": 0.005, "temperature": 0.05}
    # A step is 0.05 times the gradient, whose sign the norms do not tell; clipped, it was 5e-5.
    norms = [norms["temperature"] for _, norms in watcher.seen if norms["temperature"] is not None]
    moved = abs(float(final_state(folder)["agent"]["temperature"]["log_alpha"]))
    assert 5e-5 * len(norms) < moved <= 0.05 * sum(norms) * (1 + 1e-5)
    assert final_state(run(CRITIC_FIRST, settings, name="alike"))["learner"]["optimizers"]["temperature"]["state"]


def test_an_optimizer_of_a_group_that_cannot_be_is_one_error():
    class Odd:
        def __init__(self, asked):
            self.asked = asked

        def optimizer_settings(self, group):
            return self.asked

    spec = OptimizerSpec(optimizer="adam", max_grad_norm=10.0)
    assert spec_of(Odd({}), "actor", spec) == spec
    assert spec_of(Odd({"max_grad_norm": None}), "actor", spec).max_grad_norm is None
    for asked, said in (
        ({"optimiser": "sgd"}, r"has no setting 'optimiser' \(did you mean 'optimizer'\?\)"),
        ({"learning_rate": -1}, "--learning_rate -1.0: must be positive"),
        ({"optimizer": "krn"}, "did you mean 'kron'"),
        (None, "optimizer_settings must return a dict, not NoneType"),
    ):
        with pytest.raises(UserError, match=f"Odd: the optimizer of group 'actor': .*{said}"):
            spec_of(Odd(asked), "actor", spec)


def test_norms_of_a_delayed_group_are_means_over_the_updates_that_it_took_part_in(run):
    """Of ten updates a row, the policy learns in five; counting the others as zeros gives half the norm."""
    watcher = Watcher()
    rows = list(run(CRITIC_FIRST, SHORT, interventions=[watcher]).rows())
    for row in rows[1:]:
        here = [norms for step, norms in watcher.seen if row["step"] - 20 < step <= row["step"]]
        actor = [norms["actor"] for norms in here if norms["actor"] is not None]
        assert (len(here), len(actor)) == (10, 5)
        assert row["gradients/raw/actor.total"] == pytest.approx(np.mean(actor), rel=1e-5)
        assert row["gradients/raw/critic.total"] == pytest.approx(np.mean([n["critic"] for n in here]), rel=1e-5)
        assert sum(actor) / len(here) == pytest.approx(np.mean(actor) / 2)
        layers = [row[f"gradients/raw/actor.net.{i}"] for i in (0, 2, 4)]
        assert 0.5 * np.mean(actor) < math.hypot(*layers) < 1.5 * np.mean(actor)
    assert len(rows) == 6


def test_a_group_that_the_measured_update_leaves_out_is_measured_at_the_next(run):
    """A row every ten updates, a policy every other: the update that is measured for a row is never one of the
    policy's, so what is measured at that one alone would not be about the policy in any row."""
    watcher = Watcher()
    rows = list(run(CRITIC_FIRST, {**SHORT, "learning_starts": 22}, interventions=[watcher]).rows())
    assert [norms["actor"] for step, norms in watcher.seen if step % 20 == 0] == [None] * 5
    assert [row["step"] for row in rows if row.get("gradients/update/actor.net.0", 0) > 0] == [60, 80, 100, 120]
    assert all(row["gradients/update/critic.one.0"] > 0 for row in rows[1:])


@pytest.mark.parametrize("optimizer", ["adam", "kron"])
def test_a_group_that_an_update_leaves_out_stays_as_it_is_with_its_optimizer(run, optimizer):
    folder = run(CRITIC_FIRST, {**SHORT, "optimizer": optimizer})
    loaded = load_run(folder.path, trust=True)
    agent = loaded.agent()
    learner = Learner(agent, loaded.config.optimizer, seed=1)
    learner.load_state_dict(final_state(folder)["learner"])
    batch = agent.probe_batch(16)

    def state():
        own = {name: copy.deepcopy(module.state_dict()) for name, module in agent.groups.items()}
        return own, {name: copy.deepcopy(optimizer.state_dict()) for name, optimizer in learner.optimizers.items()}

    before, optimizers = state()
    report = learner.update({**batch, "policy": torch.zeros(16, dtype=torch.bool)}, step=0, measure=True)
    after, its_optimizers = state()
    assert report.left_out == {"actor", "temperature"}
    assert {"raw", "clipped", "update"} == report.norms.keys()
    assert report.part.tolist() == [layer.startswith("critic") for layer in report.layers]
    assert str(its_optimizers["actor"]) == str(optimizers["actor"])
    assert all(torch.equal(after["actor"][name], value) for name, value in before["actor"].items())
    assert not torch.equal(after["critic"]["one.0.weight"], before["critic"]["one.0.weight"])

    idle = learner.update({**batch, "policy": torch.zeros(16, dtype=torch.bool)}, step=0, measure=True, follow=True,
                          wanted=frozenset({"actor"}))  # fmt: skip
    assert (idle.weights, "update" in idle.norms) == (None, False)  # a group that rarely learns costs no measuring

    # A step with zero gradients instead, as from a loss that is multiplied by 0, moves it by its momentum.
    for parameter in agent.actor.parameters():
        parameter.grad = torch.zeros_like(parameter)
    learner.optimizers["actor"].step()
    assert not torch.equal(agent.actor.net[0].weight, before["actor"]["net.0.weight"])


@pytest.mark.parametrize("zeroing", [False, True])
def test_raw_is_measured_before_the_hooks(run, zeroing):
    """Where they were measured after them, a hook that wipes every gradient made `raw` 0."""
    watcher = Watcher(zeroing=zeroing)
    settings = {"env_id": "CartPole-v1", "total_timesteps": 64, "log_every": 32, **PQN, "max_grad_norm": 0.01}
    row = next(iter(run("pqn", settings, interventions=[watcher]).rows()))
    raw = [norms["q"] for step, norms in watcher.seen if step <= 32]
    assert len(raw) == 4
    assert row["gradients/raw/total"] == pytest.approx(np.mean(raw), rel=1e-5)
    assert row["gradients/raw/head"] > 0
    clipped = [value for name, value in row.items() if name.startswith("gradients/clipped/")]
    assert (max(clipped) == 0) == zeroing
    assert math.hypot(*clipped) <= 0.01 * (1 + 1e-5)


def test_without_clipping_a_hook_still_shows_in_what_is_called_clipped(run):
    settings = {"env_id": "CartPole-v1", "total_timesteps": 64, **PQN, "max_grad_norm": "none"}
    row = next(iter(run("pqn", settings, interventions=[Watcher(zeroing=True)]).rows()))
    assert row["gradients/clipped/head"] == 0 < row["gradients/raw/head"]


def test_a_group_that_cannot_be_called_with_observations_is_left_out_with_one_warning(run, caplog):
    with caplog.at_level(logging.WARNING, logger="stablegrad"):
        rows = list(run(f"{AGENTS}:SaysNothingOfItsCritic", FULL).rows())
    (told,) = [record.getMessage() for record in caplog.records]  # of three probes
    assert told.startswith("the group 'critic' is not probed: its module cannot be called with [22, 3] (TypeError:")
    assert "let the agent's probe_inputs(group, batch) say what it takes" in told
    names = {name for row in rows for name in row}
    assert "units/dead/actor.total" in names
    assert not any(name.startswith("units/dead/critic") for name in names)
    assert "gradients/raw/critic.one.0" in names


def test_what_probes_say_of_a_module_of_several_inputs_is_what_it_does(run):
    folder = run(CRITIC_FIRST, SHORT)
    agent = load_run(folder.path, trust=True).agent()
    batch = agent.probe_batch(32)
    row = [row for row in folder.rows() if "units/dead/critic.total" in row][-1]
    assert row["units/critic.batch_size"] == row["units/actor.batch_size"] == 32
    with torch.no_grad():
        agent.actor.net[0].bias[:4] = -1e4
    assert dead_fraction(agent.actor, batch["obs"]).layers["net.0"] >= 0.25


def test_capacity_is_that_of_the_network_that_reads_observations(run):
    assert load_run(run(CRITIC_FIRST, SHORT).path, trust=True).capacity(budget=1, inputs=8).now.steps == 1


def test_the_doctor_names_the_group(tmp_path):
    steps = np.arange(10) * 10
    level = {"critic": 0.95, "actor": 0.0}
    series = {}
    for group, dead in level.items():
        series[f"gradients/raw/{group}.total"] = Series(steps, np.ones(10))
        series[f"units/dead/{group}.total"] = Series(steps, np.full(10, dead))
        series[f"units/dead/{group}.net.0"] = Series(steps, np.full(10, dead))
    signals = Signals(tmp_path, {}, {"state": "done"}, series, None)
    assert signals.groups == ("critic", "actor")
    (finding,) = judge(signals).findings
    assert finding.summary.startswith("critic: 95% of the hidden units are dead")
    assert (finding.layers, finding.picture.metric) == (("critic.net.0",), "units/dead/critic.total")
    assert "dead_units" not in judge(signals).not_looked_at
    assert judge(Signals(tmp_path, {}, {}, {"gradients/raw/total": Series(steps, np.ones(10))}, None)).findings == ()


def test_means_of_some_entries_by_hand():
    means = Means()
    means.add({"v": torch.tensor([1.0, 2.0, 9.0])}, where=torch.tensor([True, True, False]))
    means.add({"v": torch.tensor([3.0, math.nan, 9.0])}, where=torch.tensor([True, False, False]))
    again = Means()
    again.load_state_dict(means.state_dict(), torch.device("cpu"))
    for one in (means, again):
        assert one.take() == {"v": [2.0, 2.0, None]}


def test_a_gradient_whose_norm_leaves_float32_is_told_as_that(run):
    folder = run("pqn", {"env_id": "CartPole-v1", "total_timesteps": 64, **PQN})
    loaded = load_run(folder.path, trust=True)
    learner = Learner(loaded.agent(), loaded.config.optimizer, seed=1)
    for parameter in learner.params["q"].values():
        parameter.grad = torch.zeros_like(parameter)
    learner.params["q"]["head.bias"].grad[0] = 3e25
    said = learner.name_the_first(torch.tensor(1.0))
    assert said.startswith("the loss is finite and every gradient is, but not their norm")
    assert "q.head.bias, is 3e+25" in said
    learner.params["q"]["head.bias"].grad[0] = math.inf
    assert "the first gradient that is not finite is q.head.bias's" in learner.name_the_first(torch.tensor(1.0))


def test_an_agent_without_a_network_of_observations_has_no_capacity(run):
    agent = load_run(run(CRITIC_FIRST, SHORT).path, trust=True).agent()
    agent.groups = {"critic": agent.critic}
    with pytest.raises(UserError, match="no network of this agent takes observations alone"):
        reads_observations(agent, torch.zeros(2, 3))
