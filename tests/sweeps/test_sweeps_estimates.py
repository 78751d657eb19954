"""Time and disk of a plan: what is measured, what is extrapolated, and what a shape of run is."""

import dataclasses
import math

import pytest

from stablegrad.runs.config import RunConfig
from stablegrad.sweeps import calibrate, cost
from stablegrad.sweeps.calibrate import Price
from stablegrad.sweeps.grid import expand


def config(**settings) -> RunConfig:
    return RunConfig.resolve("pqn", {"env_id": "MinAtar/Breakout", **settings})


def test_runs_of_one_shape_cost_the_same_a_step() -> None:
    base = cost.shape_of(config())
    for free in ({"seed": 7}, {"total_timesteps": 5000}, {"learning_rate": 1e-2}, {"env_id": "MinAtar/Asterix"}):
        assert cost.shape_of(config(**free)) == base, free
    for paid in (
        {"optimizer": "kron"},
        {"mlp_depth": "large"},
        {"num_envs": 64},
        {"env_id": "Pong-v5"},
        {"use_ln": False},
    ):
        assert cost.shape_of(config(**paid)) != base, paid


def test_work_counts_weights_by_hand() -> None:
    """One hidden block of width 8 on CartPole: the weights are 16 x 8, 8 x 8, 8 x 8, 8 x 512 and the head 512 x 6."""
    small = RunConfig.resolve(
        "pqn",
        {"env_id": "CartPole-v1", "mlp_width": 8, "mlp_depth": 1, "num_envs": 4, "num_steps": 8, "num_minibatches": 2},
    )
    weights = [(8, 16), (8, 8), (8, 8), (512, 8), (6, 512)]
    first_order = sum(6 * m * n * 16 for m, n in weights)
    assert cost.work(small) == first_order
    kron = dataclasses.replace(small, optimizer=dataclasses.replace(small.optimizer, optimizer="kron"))
    assert cost.work(kron) == first_order + sum(2 * m * n * (m + n) for m, n in weights)


def test_extrapolation_is_the_line_through_the_two_most_costly_points() -> None:
    points = [cost.Measured(1.0, 5.0), cost.Measured(2.0, 6.0), cost.Measured(4.0, 10.0)]
    assert cost.extrapolate(points, 6.0) == pytest.approx(14.0)
    assert cost.extrapolate(points, 0.0) == pytest.approx(5.0), "not below the cheapest"
    assert cost.extrapolate(points[:1], 3.0) == pytest.approx(15.0), "in proportion from a single point"


def test_an_estimate_adds_steps_probes_and_start_up() -> None:
    run = config(total_timesteps=10_000, diagnostics_every=1_000, log_every=100, keep_checkpoints=2)
    found = calibrate.estimate(run, Price(step=0.01, probe=2.0, startup=3.0, checkpoint=1000, row=10))
    assert found.seconds == pytest.approx(3.0 + 10_000 * 0.01 + 10 * 2.0)
    assert found.disk == 2 * 1000 + 100 * 10
    paced = config(total_timesteps=10_000, diagnostics="full")
    assert calibrate.estimate(paced, Price(step=0.01, probe=2.0, startup=3.0)).seconds == pytest.approx(
        3.0 + 100.0 * 1.15
    )
    off = config(total_timesteps=10_000, diagnostics="off")
    assert calibrate.estimate(off, Price(step=0.01, probe=2.0, startup=3.0)).seconds == pytest.approx(103.0)


def test_a_shortened_run_keeps_the_price_of_a_step() -> None:
    """As many updates a step, of as many rows: 32 x 32 / 32 minibatches of the published setting."""
    whole = config()
    short = calibrate.shortened(whole)
    assert (short.agent.num_steps, short.agent.num_minibatches) == (1, 1)

    def rows_and_updates(run: RunConfig) -> tuple[float, float]:
        assert run.budget is not None
        iteration = run.budget.num_envs * run.agent.num_steps
        updates = run.agent.update_epochs * run.agent.num_minibatches
        return iteration / run.agent.num_minibatches, updates / iteration

    assert rows_and_updates(short) == rows_and_updates(whole)
    assert short.budget is not None
    assert 256 <= short.budget.total_timesteps <= 1024
    assert short.optimizer.learning_rate == whole.optimizer.learning_rate, "nothing is scaled twice"


def test_shapes_that_time_did_not_reach_are_extrapolated_and_say_so(sweep_of, monkeypatch) -> None:
    wide = '[[arms]]\nname = "wide"\nmlp_width = 64\n[[arms]]\nname = "narrow"'
    plan = expand(sweep_of(f'[grid]\noptimizer = ["adam", "kron"]\n{wide}'))
    asked: list[str] = []

    def measured(run: RunConfig, *, limit_seconds: float) -> Price | None:
        asked.append(run.optimizer.optimizer)
        return Price(step=0.01 if run.optimizer.optimizer == "adam" else 0.05) if len(asked) <= 2 else None

    monkeypatch.setattr(calibrate, "measure", measured)
    prices = calibrate.calibrate(plan, budget_seconds=60)
    assert asked == ["adam", "kron", "adam", "kron"], "each kind gets its turn"
    found = {
        (cell.config.optimizer.optimizer, cell.config.network.width): prices[cost.shape_of(cell.config)]
        for cell in plan.cells
    }
    assert found["adam", 16] == Price(step=0.01), "the narrow ones are measured first"
    assert found["adam", 64].measured is False
    assert found["adam", 64].step > 0.01
    assert found["kron", 64].step > 0.05, "from its own kind, not from Adam's"
    nothing = calibrate.calibrate(plan, budget_seconds=0)
    assert all(math.isnan(price.step) for price in nothing.values())


def test_finished_runs_are_believed_more_than_a_measurement(sweep_of, monkeypatch) -> None:
    plan = expand(sweep_of())
    monkeypatch.setattr(calibrate, "measure", lambda run, limit_seconds: Price(step=0.01, startup=4.0))
    shape = cost.shape_of(plan.cells[0].config)
    assert calibrate.calibrate(plan, budget_seconds=60, known={shape: 0.02}) == {shape: Price(step=0.02, startup=4.0)}


def test_a_real_measurement(sweep_of) -> None:
    run = expand(sweep_of()).cells[0].config
    price = calibrate.measure(run, limit_seconds=120)
    assert price is not None
    assert 0 < price.step < 1
    assert 0 < price.startup < 120
    assert price.checkpoint > 10_000
    assert price.row > 100
    assert price.replay == 0, "there is no replay buffer"


def test_a_measurement_that_ran_out_of_time_is_none(sweep_of) -> None:
    assert calibrate.measure(expand(sweep_of()).cells[0].config, limit_seconds=0.2) is None
