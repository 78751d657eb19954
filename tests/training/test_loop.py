"""The loop: what it calls, what it writes, and that watching a run does not change it."""

import numpy as np
import pytest
import torch
from small_runs import DQN, PPO, PQN, RAINBOW, SMALL, final_state, tensors_of

from stablegrad.diagnostics import catalogue
from stablegrad.plasticity.base import Intervention, InterventionInfo
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import read_lines
from stablegrad.training.loop import Training

CARTPOLE = {"env_id": "CartPole-v1", "total_timesteps": 256}


AGENTS = [("pqn", PQN), ("ppo", PPO), ("dqn", DQN), ("rainbow", RAINBOW)]


@pytest.mark.parametrize(("algo", "settings"), AGENTS)
def test_probes_do_not_change_the_run(run, algo, settings):
    """The same seed without probes, with light ones and with full ones: the same bits everywhere."""
    ends = {}
    for level in ("off", "light", "full"):
        folder = run(algo, {**CARTPOLE, **settings, "diagnostics": level, "diagnostics_every": 64}, name=level)
        state = final_state(folder)
        del state["learner"]["followed"]  # what the probes themselves remember
        ends[level] = tensors_of({"agent": state["agent"], "learner": state["learner"], "envs": state["envs"]})
        probed = [row for row in folder.rows() if "ranks/srank" in row]
        assert bool(probed) == (level != "off")
        assert any("curvature/hessian_trace" in row for row in folder.rows()) == (level == "full")
    for level in ("light", "full"):
        assert ends[level].keys() == ends["off"].keys()
        assert all(torch.equal(ends[level][path], ends["off"][path]) for path in ends["off"])


@pytest.mark.parametrize(("algo", "settings"), AGENTS)
def test_every_metric_that_is_logged_has_an_entry_in_the_catalogue(run, algo, settings):
    extra = {"diagnostics": "full", "diagnostics_every": 64, "eval_every": 128, "eval_episodes": 2}
    folder = run(algo, {**CARTPOLE, **settings, **extra})
    names = {name for row in folder.rows() for name in row}
    assert {"train/episode_return", "eval/episode_return", "gradients/raw/total", "ranks/srank"} <= names
    for name in names:
        catalogue.entry(name)
    layer = min(name.removeprefix("gradients/raw/") for name in names if name.startswith("gradients/raw/"))
    assert {
        "gradients/noise_scale", "gradients/below_median_share", "features/target_drift", "features/ntk_effective_rank",
        "churn/policy", "churn/value", "churn/representation", "churn/head", "units/grama/total",
        "curvature/hessian_top_eigenvalue", f"gradients/update_to_weight/{layer}",
        f"gradients/cosine_successive/{layer}", f"gradients/cosine_halves/{layer}",
    } <= names  # fmt: skip


def test_every_probe_records_the_rows_that_it_looked_at(run):
    """Of 300 rows, what differentiates the loss takes 256; one number for all of them was wrong for most."""
    rows = {"num_envs": 4, "num_steps": 75, "num_minibatches": 1, "total_timesteps": 300, "diagnostics_batch": 300}
    row = run("pqn", {**CARTPOLE, **PQN, **rows, "diagnostics": "full", "log_every": 300}).rows()[-1]
    looked_at = {name: value for name, value in row.items() if name.endswith("batch_size")}
    assert looked_at == {
        "units/batch_size": 300, "ranks/batch_size": 300, "units/grama_batch_size": 256, "churn/batch_size": 256,
        "curvature/batch_size": 256, "gradients/halves_batch_size": 256, "features/ntk_batch_size": 16,
    }  # fmt: skip


def test_gradient_norms_are_taken_at_three_named_points(run):
    """Clipping at 0.01 is far below the raw norm, so `clipped` is `raw` scaled down to it, and Adam's update is not."""
    folder = run("pqn", {**CARTPOLE, **PQN, "max_grad_norm": 0.01, "optimizer": "adam", "learning_rate": 1e-3})
    row = next(row for row in folder.rows() if "gradients/update/head" in row)
    layers = [name.removeprefix("gradients/raw/") for name in row if name.startswith("gradients/raw/")]
    layers.remove("total")
    assert row["gradients/raw/total"] > 0.1
    clipped = np.sqrt(sum(row[f"gradients/clipped/{layer}"] ** 2 for layer in layers))
    assert clipped <= 0.01 + 1e-6
    for layer in layers:
        assert 0 < row[f"gradients/update_to_weight/{layer}"] < 0.5
        assert row[f"gradients/clipped/{layer}"] < row[f"gradients/raw/{layer}"]
        assert row[f"gradients/update/{layer}"] > 0


class Recording(Intervention):
    """Counts its hooks; its loss term pulls the head's bias to 1."""

    info = InterventionInfo(
        name="recording", paper="-", kind="loss term", optimizer_state="kept", target_network="kept"
    )

    def __init__(self) -> None:
        self.calls: list[str] = []

    def loss_term(self, params, batch, output):
        self.calls.append("loss_term")
        return 100 * (params["q"]["head.bias"] - 1).square().sum()

    def after_backward(self, moment):
        self.calls.append("after_backward")
        assert all(p.grad is not None for p in moment.modules["q"].parameters())

    def after_step(self, moment):
        self.calls.append("after_step")

    def on_step(self, moment):
        self.calls.append("on_step")

    def state_dict(self):
        return {"calls": len(self.calls)}


def test_the_hooks_of_an_intervention_are_called_in_order_and_its_term_acts(run):
    hook = Recording()
    settings = {**CARTPOLE, **PQN, "learning_rate": 1e-2, "optimizer": "adam"}
    folder = run("pqn", settings, interventions=[hook])
    plain = run("pqn", settings, name="plain")
    assert hook.calls.count("on_step") == 64
    assert hook.calls.count("after_step") == final_state(folder)["learner"]["updates"] == 32
    first = hook.calls.index("loss_term")
    assert hook.calls[first : first + 3] == ["loss_term", "after_backward", "after_step"]
    assert final_state(folder)["learner"]["interventions"] == [{"calls": len(hook.calls)}]
    bias = {name: final_state(f)["agent"]["network"]["head.bias"] for name, f in (("with", folder), ("plain", plain))}
    assert (bias["with"] - 1).abs().max() < (bias["plain"] - 1).abs().min()


def test_evaluation_during_training_is_recorded_apart_from_training_scores(run):
    folder = run("pqn", {**CARTPOLE, **PQN, "eval_every": 128, "eval_episodes": 3})
    evaluations = list(read_lines(folder.evaluations))
    assert [e["step"] for e in evaluations] == [128, 256]
    for evaluation in evaluations:
        assert len(evaluation["scores"]) == 3
        assert evaluation["epsilon"] == 0.0
        row = next(row for row in folder.rows() if row["step"] == evaluation["step"])
        assert row["eval/episode_return"] == pytest.approx(np.mean(evaluation["scores"]))


def test_rows_come_at_the_interval_and_episodes_are_whole_games(run):
    folder = run("pqn", {**CARTPOLE, **PQN, "log_every": 64})
    assert [row["step"] for row in folder.rows()] == [64, 128, 192, 256]
    games = list(read_lines(folder.episodes))
    assert all(game["score"] == game["length"] for game in games)  # CartPole pays 1 a step
    assert sum(row["train/episodes"] for row in folder.rows()) == len(games)


def test_no_score_is_reported_before_a_game_has_ended(run):
    folder = run("ppo", {**PPO, "env_id": "Pendulum-v1", "total_timesteps": 256})
    assert folder.rows()
    for row in folder.rows():
        assert row["train/episodes"] == 0
        assert row.keys().isdisjoint({"train/episode_return", "train/episode_length", "train/hns"})


@pytest.mark.parametrize(("algo", "settings"), AGENTS)
def test_nothing_is_printed_while_training(run, capfd, algo, settings):
    run(algo, {**CARTPOLE, **settings})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("run_on", [False, True])
def test_a_time_out_closes_a_score_unless_the_published_fault_is_asked_for(run, run_on):
    """Pendulum never terminates: every game ends by its limit of 200 steps, so published accounting sees none."""
    folder = run("ppo", {**PPO, "env_id": "Pendulum-v1", "total_timesteps": 1024, "scores_run_on": run_on})
    games = list(read_lines(folder.episodes))
    assert len(games) == (0 if run_on else 4)
    assert all(game["length"] == 200 for game in games)


def test_what_the_optimizer_uses_is_what_is_logged(run):
    folder = run("ppo", {**CARTPOLE, **PPO, "learning_rate": 0.01, "log_every": 32})
    rates = [row["train/learning_rate"] for row in folder.rows()]
    assert rates[0] == pytest.approx(0.01)  # the first rollout has the full rate
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.01 * (1 - (256 - 32) / 256))


def test_building_a_training_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Training(RunConfig.resolve("pqn", {**SMALL, **CARTPOLE, **PQN})).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interval", [100, 10_000])
def test_the_last_row_is_of_the_last_step(run, interval):
    """Whatever the interval of the rows: what lies behind its last multiple is logged too, once."""
    folder = run("pqn", {**CARTPOLE, **PQN, "log_every": interval})
    rows = list(folder.rows())
    assert rows[-1]["step"] == 256
    assert len({row["step"] for row in rows}) == len(rows)
    assert any(name.startswith("gradients/raw/") for name in rows[-1])  # its last update is measured for it
