"""Cells: every combination once, seeds outermost, all mistakes at once and named."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stablegrad import demo
from stablegrad.errors import UserError
from stablegrad.supervised.catalogue import DATA_VARIABLE
from stablegrad.sweeps import file, grid
from stablegrad.sweeps.tune_spec import tune_spec
from stablegrad.tables.suites import suite

EXAMPLES = Path(__file__).parents[2] / "examples"


def problems_of(sweep: file.SweepFile) -> str:
    with pytest.raises(UserError) as caught:
        grid.expand(sweep)
    return "\n".join(caught.value.problems)


def test_cells_are_the_product_of_seeds_grid_and_arms(sweep_of) -> None:
    sweep = sweep_of(
        """
        [grid]
        q_lambda = [0.3, 0.6]
        [[arms]]
        name = "plain"
        [[arms]]
        name = "skip"
        mlp_type = "multiskip_residual"
        [arms.grid]
        skip_blocks = [0, 1]
        """
    )
    plan = grid.expand(sweep)
    facts = {
        (c.seed, c.config.agent.q_lambda, c.config.network.mlp_type, c.config.network.skip_blocks) for c in plan.cells
    }
    trunks = [("default", None), ("multiskip_residual", 0), ("multiskip_residual", 1)]
    assert facts == {(s, q, *t) for s, q, t in itertools.product((1, 2), (0.3, 0.6), trunks)}
    assert len(plan.cells) == 12
    assert plan.cells[1].label == "skip · skip_blocks=0 · q_lambda=0.3 · CartPole-v1 · seed 1"


def test_wherever_it_stops_no_arm_is_more_than_a_seed_ahead(sweep_of) -> None:
    plan = grid.expand(sweep_of('[grid]\nq_lambda = [0.3, 0.6]\noptimizer = ["adam", "kron"]'))
    for stop in range(len(plan.cells) + 1):
        counts = [sum(cell.arm == arm for cell in plan.cells[:stop]) for arm in plan.arms]
        assert max(counts) - min(counts) <= 1
    by_arm = sorted(plan.cells, key=lambda cell: cell.arm)[:2]
    assert len({cell.arm for cell in by_arm}) == 1, "the check would see arm after arm"


def test_the_same_run_asked_for_twice_is_one_cell(sweep_of) -> None:
    plan = grid.expand(sweep_of('[[arms]]\nname = "a"\n[[arms]]\nname = "b"\noptimizer = "radam"'))
    assert [cell.arm for cell in plan.cells] == ["a", "a"]
    assert plan.merged[0] == "b · CartPole-v1 · seed 1 is the same run as a · CartPole-v1 · seed 1"


def test_threads_do_not_make_another_run(sweep_of) -> None:
    one, four = (grid.expand(sweep_of(), threads=threads) for threads in (1, 4))
    assert one.cells[0].config.run.threads == 1
    assert four.cells[0].config.run.threads == 4
    assert one.cells[0].config.name == four.cells[0].config.name
    own = grid.expand(
        file.parse('name="x"\n[settings]\nalgo="pqn"\nenv_id="CartPole-v1"\nthreads=3', source=""), threads=2
    )
    assert own.cells[0].config.run.threads == 3, "the file's word stands"


def test_suites_stand_for_their_games() -> None:
    sweep = file.parse(
        'name = "s"\n[settings]\nalgo = "pqn"\n[grid]\nenv_id = ["Atari-5", "MinAtar", "Pong-v5"]', source=""
    )
    plan = grid.expand(sweep)
    assert len(plan.tasks) == 5 + 5 + 1
    assert set(plan.tasks) >= {f"{game}-v5" for game in suite("Atari-5")} | {"MinAtar/Freeway", "Pong-v5"}


def test_exclusions_take_out_what_they_name(sweep_of) -> None:
    more = """
        [grid]
        optimizer = ["adam", "kron"]
        q_lambda = [0.3, 0.6]
        [[exclude]]
        optimizer = "kron"
        q_lambda = 0.6
        [[exclude]]
        seed = 2
        q_lambda = [0.3, 0.9]
        """
    kept = {(c.seed, c.config.optimizer.optimizer, c.config.agent.q_lambda) for c in grid.expand(sweep_of(more)).cells}
    assert kept == {(1, "adam", 0.3), (1, "kron", 0.3), (1, "adam", 0.6), (2, "adam", 0.6)}


def test_an_arm_is_excluded_with_all_that_its_grid_adds(sweep_of) -> None:
    more = """
        [[arms]]
        name = "a"
        [arms.grid]
        q_lambda = [0.3, 0.6]
        [[arms]]
        name = "ab"
        optimizer = "kron"
        [[exclude]]
        arm = "a"
        """
    assert {cell.arm for cell in grid.expand(sweep_of(more)).cells} == {"ab"}


def test_what_is_wrong_in_many_cells_is_said_once_with_the_first_cell(sweep_of) -> None:
    text = problems_of(
        sweep_of(
            """
            [grid]
            mlp_dpth = [1, 2]
            [[arms]]
            name = "kron"
            optimizer = "krn"
            """
        )
    )
    assert "cell 'kron · mlp_dpth=1 · CartPole-v1 · seed 1' and 3 more: pqn has no setting --mlp_dpth" in text
    assert "(did you mean 'kron'?)" in text
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[grid]\nmlp_width = [8, 16]", "[grid] varies mlp_width, which [settings] sets"),
        (
            '[grid]\nq_lambda = [0.1]\n[[arms]]\nname = "a"\nq_lambda = 0.2',
            "arm 'a' sets q_lambda, which [grid] varies",
        ),
        ("[[exclude]]\nq_lamda = 0.3\n[grid]\nq_lambda = [0.3]", "names 'q_lamda' (did you mean 'q_lambda'?)"),
        ("[[exclude]]\nseed = 3", "[[exclude]] entry 1 fits no cell"),
        ("[[exclude]]\nseed = [1, 2]", "every cell is excluded"),
    ],
)
def test_slips_of_the_pen_are_mistakes(sweep_of, more: str, said: str) -> None:
    assert said in problems_of(sweep_of(more))


def test_a_sweep_without_an_algorithm_says_so() -> None:
    assert 'write algo = "pqn"' in problems_of(file.parse('name = "x"', source=""))


def test_the_examples_are_the_demonstration_and_what_surrounds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_fashion_mnist: Callable[..., Path]
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(write_fashion_mnist(tmp_path, train=10_000, test=10_000, zipped=False)))
    plans = {path.stem: grid.expand(file.read(path)) for path in EXAMPLES.glob("*.toml")}
    assert {name: len(plan.cells) for name, plan in plans.items()} == {
        "atari_agents": 9,
        "changing_games": 54,
        "demo_500k": 18,
        "depth_collapse": 36,
        "depth_collapse_more": 162,
        "doctor_finding": 9,
        "figure_2": 27,
        "figure_3": 9,
        "four_agents": 12,
        "plasticity_grid": 432,
        "plasticity_images": 72,
        "plasticity_images_lr": 72,
        "plasticity_protocols": 48,
        "tuned_arms": 4,
    }
    long = {arm.config(seed=seed, total_timesteps=500_000).identity for arm in demo.ARMS for seed in (1, 2, 3)}
    assert long < {cell.config.identity for cell in plans["demo_500k"].cells}
    layers = {cell.config.network.layers for cell in plans["depth_collapse"].cells}
    assert layers == {4, 8, 12}
    shared = {c.config.identity for c in plans["depth_collapse"].cells} & {
        c.config.identity for c in plans["depth_collapse_more"].cells
    }
    assert not shared, "the second file repeats no run of the first"


def test_the_file_in_the_documentation_is_a_sweep() -> None:
    page = (EXAMPLES.parent / "docs/sweeps.md").read_text()
    whole, tune = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    plan = grid.expand(file.parse(whole, source="docs"))
    arms = {"plain": 3 * 2, "radam": 3 + 1, "kron": 3 + 1}
    assert len(plan.cells) == 3 * sum(arms.values())
    spec = tune_spec(file.parse(whole + tune, source="docs"))
    assert spec.trials == 20
    assert spec.space.names == ("learning_rate", "num_minibatches")
