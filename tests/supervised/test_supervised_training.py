"""Facts about supervised runs: they learn, they can be stopped anywhere, and what they write is what they did."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from supervised_runs import final_state, identical

from stablegrad.api import load_run
from stablegrad.cli import main
from stablegrad.diagnostics.catalogue import entry
from stablegrad.errors import UserError
from stablegrad.reports.load import load_run as load_record
from stablegrad.reports.tasks import task_results
from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.training import SupervisedTraining

Classify = Callable[..., RunFolder]
TIMES = ("seconds", "time/")


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in folder.rows()]


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam"},
        {"optimizer": "kron", "mlp_type": "multiskip_residual", "use_ln": True},
        {"cnn_type": "cifar", "cnn_size": 4, "use_ln": True, "optimizer": "radam"},
        {"stream": "permuted_pixels", "diagnostics": "full", "diagnostics_batch": 32},
        {"stream": "class_incremental", "fresh_networks": True},
        {"stream": "noisy_labels", "first_task": "true", "use_spectral_norm": True},
    ],
    ids=["adam", "kron", "dropout", "pixels", "fresh", "noise"],
)
def test_stopped_anywhere_and_resumed_is_bitidentical(classify: Classify, settings: dict[str, Any]) -> None:
    whole = classify(name="whole", non_stationary=True, **settings)
    pieces = classify(name="pieces", non_stationary=True, stops=(1, 4, 5, 2), **settings)
    assert identical(whole, pieces)
    assert _rows(whole) == _rows(pieces)


def test_another_seed_is_another_run(classify: Classify) -> None:
    """The control: the comparison can fail."""
    assert not identical(classify(name="one"), classify(name="two", seed=2))


def test_the_global_generators_do_not_matter(classify: Classify) -> None:
    one = classify(name="one", cnn_type="cifar", cnn_size=4)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert identical(one, classify(name="two", cnn_type="cifar", cnn_size=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_digits_are_learned(classify: Classify) -> None:
    folder = classify(subset=None, epochs=15, lr=3e-3, mlp_width=32)
    last = folder.rows()[-1]
    assert last["train/accuracy"] > 0.97
    assert last["eval/accuracy"] > 0.9
    assert last["eval/loss"] < 0.35


def test_reshuffled_labels_are_unlearned_and_have_no_test(classify: Classify) -> None:
    folder = classify(subset=None, epochs=12, lr=3e-3, mlp_width=32, non_stationary=True, change_points="8")
    rows = [row for row in folder.rows() if "train/accuracy" in row]
    first, second = (row for row in rows if row["train/epoch"] in (8, 9))
    assert first["train/accuracy"] > 0.9
    assert "eval/accuracy" in first
    assert second["train/accuracy"] < 0.4
    assert "eval/accuracy" not in second


def test_a_rule_leaves_the_test_its_meaning(classify: Classify) -> None:
    """With permuted classes test accuracy comes back; it would be chance if the test labels did not follow."""
    folder = classify(subset=None, epochs=24, lr=3e-3, mlp_width=32, stream="permuted_classes", change_points="12")
    assert folder.rows()[-1]["eval/accuracy"] > 0.8


def test_rows_say_where_they_stand(classify: Classify) -> None:
    folder = classify(non_stationary=True, epochs=5, eval_epochs=2)
    rows = [row for row in folder.rows() if "train/accuracy" in row]
    assert [(row["step"], row["train/epoch"], row["train/task"]) for row in rows] == [
        (4 * epoch, epoch, epoch) for epoch in range(1, 6)
    ]
    curves = [result.curve for result in task_results(load_record(folder.path))]
    assert [curve.steps for curve in curves] == [(4,)] * 5


def test_evaluations_are_every_so_many_epochs_and_at_every_tasks_end(classify: Classify) -> None:
    folder = classify(stream="permuted_classes", change_points="3", epochs=8, eval_epochs=2)
    assert [row["train/epoch"] for row in folder.rows() if "train/accuracy" in row] == [2, 3, 4, 6, 8]


def test_every_number_is_in_the_catalogue(classify: Classify) -> None:
    folder = classify(diagnostics="full", diagnostics_batch=32, epochs=2)
    for name in {name for row in folder.rows() for name in row}:
        entry(name)


def test_evaluation_drops_nothing(classify: Classify) -> None:
    folder = classify(cnn_type="cifar", cnn_size=4, epochs=1)
    training = SupervisedTraining(folder.config)
    training.agent.load_state_dict(final_state(folder)["agent"])
    images = training.agent.images
    with torch.no_grad():
        right = (training.agent.network(images.train.images).argmax(-1) == images.train.labels).float().mean()
    assert folder.rows()[-1]["train/accuracy"] == pytest.approx(float(right))


def test_fresh_networks_start_again_at_every_change(classify: Classify) -> None:
    kept = classify(name="kept", non_stationary=True, change_points="3")
    fresh = classify(name="fresh", non_stationary=True, change_points="3", fresh_networks=True)
    updates = {run: final_state(run)["learner"]["optimizers"]["network"]["state"][0]["step"] for run in (kept, fresh)}
    assert (updates[kept], updates[fresh]) == (16, 4)
    before_the_change = [row for row in _rows(fresh) if row["step"] <= 12]
    assert before_the_change == [row for row in _rows(kept) if row["step"] <= 12]
    assert not identical(kept, fresh)


def test_every_task_has_a_fresh_network_of_its_own(classify: Classify) -> None:
    classifier = SupervisedTraining(classify(epochs=1).config).agent
    first, second = (classifier.fresh_network(task).state_dict() for task in (0, 1))
    assert not torch.equal(first["trunk.0.linear.weight"], second["trunk.0.linear.weight"])
    again = classifier.fresh_network(1).state_dict()
    assert all(torch.equal(again[name], second[name]) for name in again)


def test_other_images_are_refused_on_resume(classify: Classify) -> None:
    folder = classify()
    training = SupervisedTraining(RunConfig.from_flat({**folder.config.flat(), "dataset": "digits"}))
    training.agent.images.train.images[0, 0, 0, 0] += 1
    with pytest.raises(UserError, match="these are not the images that the run began with"):
        training.agent.load_state_dict(final_state(folder)["agent"])


def test_the_run_is_done_and_can_be_read(classify: Classify) -> None:
    run = load_run(classify().path)
    assert run.status["state"] == "done"
    assert run.status["step"] == 16


def test_a_saved_classifier_is_judged_again_the_same(classify: Classify, capsys: pytest.CaptureFixture[str]) -> None:
    folder = classify(epochs=2)
    trained = {name: value for name, value in folder.rows()[-1].items() if name.startswith(("train/acc", "eval/"))}
    run = load_run(folder.path)
    assert {name: value for name, value in run.classifier().evaluate().items() if name in trained} == trained
    assert main(["eval", str(folder.path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {name: printed[name] for name in trained} == trained
    assert "eval/accuracy" in trained


def test_a_classifier_plays_no_games(classify: Classify, capsys: pytest.CaptureFixture[str]) -> None:
    folder = classify(epochs=1)
    assert main(["eval", str(folder.path), "--episodes", "3", "--epsilon", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "--episodes is for games" in error
    assert "--epsilon is for games" in error
    with pytest.raises(UserError, match=r"Run\.classifier"):
        load_run(folder.path).agent()
