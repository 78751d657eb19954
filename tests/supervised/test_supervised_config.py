"""What `stablegrad cifar` takes, fills in and refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig
from stablegrad.supervised import catalogue
from stablegrad.supervised.classifier import load
from stablegrad.supervised.config import ClassifierConfig

# Of four digits (0 to 3 train, 4, 9, 4, 9 test), the first two of the ten classes to come have some or not.
FEW = {"stream": "class_incremental", "subset": 4, "epochs": 5}


def _resolve(**settings: object) -> RunConfig:
    return RunConfig.resolve("cifar", {"dataset": "digits", **settings})


def test_the_published_command_line() -> None:
    config = _resolve(
        mlp_type="multiskip_residual", use_ln=True, optimizer="kron", non_stationary=True, mlp_depth="large"
    )
    assert config.agent.stream == "shuffled_labels"
    assert config.agent.change_points == (20, 40, 60, 80)
    assert (config.agent.epochs, config.agent.batch_size) == (100, 256)
    assert config.network.cnn_type == "cifar"
    assert config.optimizer.learning_rate == pytest.approx(2.5e-4 / 3)


def test_lr_is_honoured() -> None:
    assert _resolve(lr=1e-3).optimizer.learning_rate == 1e-3


def test_faithful_is_the_published_behaviour(tmp_path: Path, write_fashion_mnist: Callable[..., Path]) -> None:
    config = RunConfig.resolve("cifar", {"dataset": "textures", "faithful": True, "optimizer": "kron", "subset": 100})
    assert config.optimizer.learning_rate == 2.5e-4  # CIFAR runs of the published code did not take a third for Kron
    assert config.agent.subset == 100
    real = {"dataset": "fashion_mnist", "data_dir": str(write_fashion_mnist(tmp_path, train=10_000, zipped=False))}
    assert RunConfig.resolve("cifar", {**real, "faithful": True}).agent.subset == 10_000


def test_a_recorded_config_reads_back_unchanged() -> None:
    config = _resolve(non_stationary=True, epochs=10, optimizer="kron")
    assert RunConfig.from_flat(config.flat()) == config
    assert config.flat()["change_points"] == [2, 4, 6, 8]


def test_the_folder_is_named_after_the_images() -> None:
    assert _resolve(seed=7).name.startswith("cifar-digits-7-")


def test_where_the_images_lie_does_not_change_what_a_run_is() -> None:
    assert _resolve(data_dir="/somewhere").identity == _resolve().identity
    assert _resolve(subset=100).identity != _resolve().identity


@pytest.mark.parametrize("given", [{}, {"data_dir": "data"}, {"dataset": "auto"}], ids=["implicit", "relative", "auto"])
def test_images_below_the_working_folder_are_found_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_cifar10_binary: Callable[[Path], Path], given: dict[str, str]
) -> None:
    write_cifar10_binary(tmp_path / "data" / "cifar-10-batches-bin")
    monkeypatch.chdir(tmp_path)
    config = RunConfig.resolve("cifar", {"dataset": "cifar10", **given})
    assert config.agent.data_dir == str(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load(RunConfig.from_flat(config.flat()).agent).train.labels) == 20


def test_what_does_not_move_with_the_working_folder_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_cifar10_binary: Callable[[Path], Path]
) -> None:
    """A run folder that is taken to another machine finds the images in the usual places of that one."""
    monkeypatch.setenv(catalogue.DATA_VARIABLE, str(write_cifar10_binary(tmp_path / "images")))
    assert RunConfig.resolve("cifar", {"dataset": "cifar10"}).agent.data_dir is None
    assert _resolve().agent.data_dir is None


def test_a_download_fills_the_folder_that_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ClassifierConfig(dataset="cifar10", download=True).data_dir == str(tmp_path / "data")
    assert ClassifierConfig(dataset="cifar10").data_dir is None


def test_a_stream_is_non_stationary_by_itself() -> None:
    assert ClassifierConfig(dataset="digits", stream="permuted_pixels").non_stationary
    assert not ClassifierConfig(dataset="digits").non_stationary


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"epochs": 0}, "--epochs 0: must be at least 1"),
        ({"subset": 2000}, "2000 images cannot be taken from 1438 training images"),
        ({"stream": "shuffled"}, "did you mean 'shuffled_labels'"),
        ({"dataset": "cifar11"}, "did you mean 'cifar1"),
        ({"dataset": "cifar100", "data_dir": "/nowhere"}, "CIFAR-100 was not found in /nowhere"),
        ({"epochs": 1, "non_stationary": True}, "one epoch cannot be divided"),
        ({"epochs": 5, "non_stationary": True, "change_points": "2,5"}, "--change_points 5: the run ends after 5"),
        ({"change_points": "2,5"}, "a stationary stream has no change points"),
        ({"label_noise": 0.5}, "--label_noise belongs to --stream noisy_labels, not to stationary"),
        ({"fresh_networks": True}, "--fresh_networks needs more than one task"),
        ({"stream": "class_incremental", "first_task": "shuffled"}, "first_task cannot be 'shuffled'"),
        (
            {**FEW, "seed": 2},
            "with seed 2, none of the 4 test images is of the classes of task 1: take a larger --subset",
        ),
        ({**FEW, "seed": 6}, "with seed 6, none of the 4 training images is of the classes of task 1"),
        ({**FEW, "seed": 1, "seeds": 2}, "with seed 2, none of the 4 test images"),
        ({"env_id": "Breakout-v5"}, "cifar has no setting --env_id"),
        ({"num_envs": 4}, "cifar has no setting --num_envs"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        _resolve(**settings)


def test_the_least_that_class_groups_need_is_enough() -> None:
    assert _resolve(**FEW, seed=1).agent.stream == "class_incremental"


def test_mistakes_of_all_sections_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        _resolve(epochs=0, batch_size=-1, mlp_type="residua", seed=-3)
    assert len(caught.value.problems) == 4
