"""The paper's figures and tables as sweeps: what they hold, how they shrink, and that every one of them runs."""

import dataclasses
import functools
import re

import pytest

from stablegrad.envs.ids import MINATAR_GAMES
from stablegrad.errors import UserError
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised import classifier
from stablegrad.sweeps import file, presets, scale
from stablegrad.sweeps.calibrate import Price
from stablegrad.sweeps.cost import shape_of, total_steps
from stablegrad.sweeps.folder import ensure_run
from stablegrad.sweeps.grid import Plan, expand
from stablegrad.sweeps.pool import LocalPool

RUNS = {
    "alternatives": 6 * 10 * 3,
    "cifar_collapse": 9 * 2 * 3,
    "cifar_repaired": 9 * 2 * 3,
    "dqn_rainbow": 9 * 2 * 10 * 3,
    "encoders": 4 * 2 * 3 * 10 * 3,
    "optimizers": 2 * 3 * 3 * 10 * 3,
    "ppo_full_ale": 2 * 57 * 3,
    "pqn_collapse": 9 * 2 * 3,
    "pqn_combined": 9 * 10 * 3,
    "pqn_diagnostics": 3 * 2 * 3,
    "pqn_full_ale": 2 * 57 * 3,
    "pqn_interventions": 9 * 3 * 10 * 3,
    "skip_k": 5 * 10 * 3,
    "wall_clock": 9 * 2,
}


@pytest.fixture(autouse=True)
def _images_are_drawn_once(monkeypatch) -> None:
    """A classifier's length follows from its images: 54 cells of one set need not draw it 54 times."""
    monkeypatch.setattr(classifier, "load", functools.cache(classifier.load))


def load(name: str) -> file.SweepFile:
    """A preset; where it takes CIFAR-10, whose files may not be at hand, with images that are drawn."""
    sweep = presets.load(name)
    if "dataset" not in sweep.settings:
        return sweep
    assert sweep.settings["dataset"] == "cifar10"
    assert (sweep.settings["epochs"], sweep.settings["subset"], sweep.settings["batch_size"]) == (100, 10_000, 256)
    return presets.with_settings(sweep, {"dataset": "textures", "subset": 16, "batch_size": 8})


def plan_of(sweep: file.SweepFile) -> Plan:
    return expand(sweep)


def prices_of(plan: Plan, price: Price) -> dict[str, Price]:
    return {shape_of(cell.config): price for cell in plan.cells}


@pytest.mark.parametrize("name", RUNS)
def test_a_preset_has_the_papers_cells_and_budget(name) -> None:
    sweep = load(name)
    assert sweep.name == name
    plan = plan_of(sweep)
    assert len(plan.cells) == RUNS[name]
    assert plan.merged == ()
    steps = {total_steps(cell.config) for cell in plan.cells}
    if name == "pqn_full_ale":
        assert steps == {50_000_000}, "200 million frames"
    elif name == "dqn_rainbow":
        assert steps == {5_000_000, 10_000_000}
    elif "cifar" not in name:
        assert steps == {10_000_000}
    assert file.parse(file.write(sweep), source="again") == sweep


def test_there_is_a_preset_for_every_figure_and_table_that_the_algorithms_cover() -> None:
    assert presets.names() == tuple(sorted(RUNS))
    told = " ".join(presets.load(name).description for name in presets.names())
    for figure in (1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18):
        assert re.search(rf"\b{figure}\b", told), figure
    for table in (2, 3, 12):
        assert re.search(rf"Table {table}\b", told), table


def test_an_unknown_preset_is_offered_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'skip_k'"):
        presets.load("skipk")


def test_a_changed_setting_is_changed_everywhere() -> None:
    changed = presets.with_settings(
        presets.load("encoders"), {"num_envs": 4, "env_id": ["MinAtar/Breakout"], "cnn_type": "auto"}
    )
    plan = plan_of(changed)
    assert plan.tasks == ("MinAtar/Breakout",)
    assert {cell.config.budget.num_envs for cell in plan.cells if cell.config.budget} == {4}
    assert len(plan.cells) == 4 * 3 * 3, "the axis of encoders is gone"


def test_the_games_may_be_another_suite() -> None:
    changed = presets.with_settings(presets.load("skip_k"), {"env_id": "MinAtar", "mlp_width": 64})
    assert plan_of(changed).tasks == tuple(f"MinAtar/{game}" for game in MINATAR_GAMES)
    price = prices_of(plan_of(changed), Price(step=1e-3, startup=0.0))
    whole_hours = 5 * 5 * 3 * 10_000_000 * 1e-3 / 3600
    shrunk = scale.shrink(changed, price, hours=whole_hours * 0.02 * 0.3, slots=1)
    assert shrunk.sweep.grid["env_id"] == ["MinAtar/Asterix"]
    assert shrunk.given_up[1] == "games: 5 -> 1 (MinAtar/Asterix)"


def test_steps_give_way_first_then_games_then_seeds() -> None:
    """60 runs of skip_k's 150 and so on: with 1 ms a step and no overhead the arithmetic is plain."""
    sweep = presets.load("skip_k")
    sweep = presets.with_settings(sweep, {"diagnostics": "off"})
    prices = prices_of(plan_of(sweep), Price(step=1e-3, startup=0.0))
    whole_hours = 150 * 10_000_000 * 1e-3 / 3600

    half = scale.shrink(sweep, prices, hours=whole_hours / 2 / 4, slots=4)
    assert half.sweep.settings["total_timesteps"] == 5_000_000
    assert half.hours == pytest.approx(whole_hours / 8)
    assert half.given_up == (
        "total_timesteps: 10,000,000 -> 5,000,000 (50.0%); schedules that are fractions of a run shrink with it",
    )
    assert half.sweep.grid == sweep.grid
    assert half.sweep.seeds == sweep.seeds
    assert half.given_up[0] in half.sweep.notes

    fewer = scale.shrink(sweep, prices, hours=whole_hours * 0.02 * 0.6, slots=1)
    assert fewer.sweep.grid["env_id"] == ["Atari-5"]
    assert fewer.sweep.settings["total_timesteps"] == pytest.approx(240_000)
    assert fewer.given_up[1] == "games: 10 -> 5 (Atari-5)"
    assert fewer.sweep.seeds == sweep.seeds

    least = scale.shrink(sweep, prices, hours=whole_hours * 0.02 * 0.1 * (1 / 3) * 1.01, slots=1)
    assert least.sweep.grid["env_id"] == ["Atari-1"]
    assert least.sweep.seeds == (1,)
    assert least.sweep.grid["skip_blocks"] == [1, 2, 3, 4, 5], "the shape stays"
    assert "no interval means much" in least.given_up[-1]

    with pytest.raises(UserError, match="do not hold even the smallest version"):
        scale.shrink(sweep, prices, hours=1e-6, slots=1)


def test_enough_hours_give_nothing_up() -> None:
    sweep = presets.load("wall_clock")
    shrunk = scale.shrink(sweep, prices_of(plan_of(sweep), Price(step=1e-6)), hours=1000, slots=2)
    assert shrunk.sweep == sweep
    assert shrunk.given_up == ()


def test_start_up_and_probes_do_not_shrink_with_the_steps() -> None:
    sweep = presets.with_settings(presets.load("wall_clock"), {"diagnostics_every": 200_000})
    price = Price(step=1e-4, startup=100.0, probe=2.0)
    shrunk = scale.shrink(sweep, prices_of(plan_of(sweep), price), hours=2.0, slots=1)
    fixed = 18 * (100.0 + 50 * 2.0)
    assert shrunk.sweep.settings["total_timesteps"] == pytest.approx((7200 - fixed) / 18 / 1e-4, rel=1e-3)
    assert shrunk.hours == pytest.approx(2.0)


@pytest.mark.parametrize("name", RUNS)
def test_smoke_keeps_arms_and_networks(name) -> None:
    sweep = load(name)
    whole, small = plan_of(sweep), plan_of(scale.smoke(sweep))
    assert len(small.arms) == len(whole.arms)
    assert (len(small.tasks), len(small.seeds)) == (1, 1)
    assert max(total_steps(cell.config) for cell in small.cells) <= 64
    blocks = {(cell.config.network.mlp_type, cell.config.network.blocks) for cell in whole.cells}
    assert {(cell.config.network.mlp_type, cell.config.network.blocks) for cell in small.cells} == blocks
    assert max(cell.config.network.width for cell in small.cells) <= 64


def run_smoke(name: str, folder) -> None:
    plan = plan_of(scale.smoke(presets.load(name)))
    paths = [ensure_run(folder, cell.config) for cell in plan.cells]
    codes = LocalPool(2).run(paths)
    assert len(codes) == len(plan.cells)
    reasons = {path.name: RunFolder(path).status.get("reason") for path, code in codes.items() if code}
    assert not reasons
    for path in paths:
        assert RunFolder(path).rows(), path


def test_a_preset_runs_end_to_end(tmp_path) -> None:
    run_smoke("pqn_diagnostics", tmp_path)


@pytest.mark.evidence
@pytest.mark.parametrize("name", [name for name in RUNS if name != "pqn_diagnostics"])
def test_every_preset_runs_end_to_end(name, tmp_path) -> None:
    run_smoke(name, tmp_path)


def test_a_dry_run_of_a_preset_prints_its_plan(tmp_path, monkeypatch, capsys) -> None:
    from stablegrad.cli import main
    from stablegrad.sweeps import calibrate

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(calibrate, "measure", lambda run, limit_seconds: Price(step=1e-3, checkpoint=10**8, row=1000))
    assert main(["sweep", "presets", "--write", "skip_k", "k.toml", "--scale", "24", "--slots", "2"]) == 0
    said = capsys.readouterr().out
    assert "given up:" in said
    assert "total_timesteps: 10,000,000 ->" in said
    assert main(["sweep", "k.toml", "--dry-run", "--slots", "2"]) == 0
    said = capsys.readouterr().out
    assert "skip_k_24h: 150 runs, 150 of them to do (5 arms, 10 tasks, 3 seeds)" in said
    assert "about 24 h 0 min with 2 at a time" in said
    assert "30.0 GB of disk" in said or "30 GB of disk" in said
    assert not (tmp_path / "runs").exists()
    assert main(["sweep", "presets", "--write", "skip_k", "k.toml"]) == 2, "a file is not overwritten"
    assert main(["sweep", "presets", "--scale", "3"]) == 2
    assert main(["sweep", "presets"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RUNS)


def test_settings_are_set_from_the_command_line(tmp_path, monkeypatch) -> None:
    from stablegrad.cli import main

    monkeypatch.chdir(tmp_path)
    options = ["--set", "env_id=MinAtar/Breakout,MinAtar/Asterix", "--set", "mlp-width=64", "--set", "device=cpu"]
    assert main(["sweep", "presets", "--write", "pqn_combined", "m.toml", *options, "--scale", "smoke"]) == 0
    sweep = file.read(tmp_path / "m.toml")
    assert sweep.grid["env_id"] == ["MinAtar/Breakout"], "smoke takes the first game"
    assert sweep.settings["device"] == "cpu"
    assert dataclasses.replace(sweep, tune=None) == sweep
    assert len(plan_of(sweep).cells) == 3
