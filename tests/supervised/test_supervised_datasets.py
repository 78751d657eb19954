"""Where image sets are found, which is taken, and what is said when a file is missing or damaged."""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stablegrad.errors import UserError
from stablegrad.supervised import catalogue, generated
from stablegrad.supervised.datasets import load_arrays, resolve_dataset

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _on_a_system_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path}/local:relative:{tmp_path}/usr")
    monkeypatch.chdir(tmp_path)


def test_cifar10_from_a_folder_in_order(tmp_path: Path, write_cifar10_binary: Write) -> None:
    write_cifar10_binary(tmp_path / "d" / "cifar-10-batches-bin")
    arrays = load_arrays("cifar10", data_dir=tmp_path / "d")
    assert arrays.train.images.shape == (20, 3, 32, 32)
    assert arrays.train.labels.tolist() == [p + i for p in range(1, 6) for i in range(4)]
    assert arrays.test.labels.tolist() == [6, 7, 8, 9]
    assert arrays.classes == 10
    assert arrays.source == f"CIFAR-10 from {tmp_path / 'd' / 'cifar-10-batches-bin'}"


def test_the_folder_itself_may_be_named(tmp_path: Path, write_cifar10_binary: Write) -> None:
    folder = write_cifar10_binary(tmp_path / "anything")
    assert len(load_arrays("cifar10", data_dir=folder).train.labels) == 20


@pytest.mark.parametrize("protocol", [2, 5])
def test_the_python_version_holds_the_same_images(
    tmp_path: Path, write_cifar10_binary: Write, write_cifar10_python: Write, protocol: int
) -> None:
    write_cifar10_binary(tmp_path / "b" / "cifar-10-batches-bin")
    write_cifar10_python(tmp_path / "p" / "cifar-10-batches-py", protocol=protocol)
    binary = load_arrays("cifar10", data_dir=tmp_path / "b")
    python = load_arrays("cifar10", data_dir=tmp_path / "p")
    for left, right in zip((*binary.train, *binary.test), (*python.train, *python.test), strict=True):
        assert np.array_equal(left, right)


def test_binary_is_preferred(tmp_path: Path, write_cifar10_binary: Write, write_cifar10_python: Write) -> None:
    write_cifar10_python(tmp_path / "d" / "cifar-10-batches-py")
    write_cifar10_binary(tmp_path / "d" / "cifar-10-batches-bin")
    assert "batches-bin" in load_arrays("cifar10", data_dir=tmp_path / "d").source


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar", ".zip"])
@pytest.mark.parametrize("named", ["the archive", "its folder"])
def test_archives_are_read_without_unpacking(
    tmp_path: Path, write_cifar10_binary: Write, suffix: str, named: str
) -> None:
    folder = write_cifar10_binary(tmp_path / "cifar-10-batches-bin")
    archive = tmp_path / "d" / f"cifar-10-binary{suffix}"
    archive.parent.mkdir()
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.iterdir():
                file.write(path, f"cifar-10-batches-bin/{path.name}")
    else:
        with tarfile.open(archive, "w:gz" if suffix == ".tar.gz" else "w") as file:
            file.add(folder, "cifar-10-batches-bin")
    data_dir = archive if named == "the archive" else archive.parent
    assert load_arrays("cifar10", data_dir=data_dir).test.labels.tolist() == [6, 7, 8, 9]
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_cifar100_uses_the_fine_labels(tmp_path: Path, write_cifar100_binary: Write) -> None:
    write_cifar100_binary(tmp_path / "cifar-100-binary")
    arrays = load_arrays("cifar100", data_dir=tmp_path)
    assert arrays.train.labels.tolist() == [0, 42, 99, 1]
    assert arrays.classes == 100


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("folder", ["fashion-mnist", "FashionMNIST/raw", "."])
def test_fashion_mnist_from_the_usual_folders(
    tmp_path: Path, write_fashion_mnist: Write, zipped: bool, folder: str
) -> None:
    write_fashion_mnist(tmp_path / "d" / folder, zipped=zipped)
    arrays = load_arrays("fashion_mnist", data_dir=tmp_path / "d")
    assert arrays.train.images.shape == (6, 1, 28, 28)
    assert arrays.test.labels.tolist() == [0, 1, 2]


def test_debians_package_is_found(tmp_path: Path, write_fashion_mnist: Write) -> None:
    write_fashion_mnist(tmp_path / "usr" / "datasets" / "fashion-mnist")
    assert len(load_arrays("fashion_mnist").train.labels) == 6


def test_the_systems_folders_are_those_of_the_freedesktop_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$XDG_DATA_DIRS without what is relative; where it is empty or not set, /usr/local/share before /usr/share."""
    own = [Path("data"), tmp_path / "local/datasets", tmp_path / "usr/datasets"]
    assert list(catalogue.search_roots(None)) == own
    usual = (Path("data"), Path("/usr/local/share/datasets"), Path("/usr/share/datasets"))
    monkeypatch.setenv("XDG_DATA_DIRS", "")
    assert catalogue.search_roots(None) == usual
    monkeypatch.delenv("XDG_DATA_DIRS")
    assert catalogue.search_roots(None) == usual


def test_the_variable_names_a_folder(
    tmp_path: Path, write_cifar100_binary: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar100_binary(tmp_path / "elsewhere")
    monkeypatch.setenv(catalogue.DATA_VARIABLE, str(tmp_path / "elsewhere"))
    assert resolve_dataset("cifar100") == "cifar100"


def test_auto_takes_the_best_that_is_at_hand(
    tmp_path: Path,
    write_cifar10_binary: Write,
    write_fashion_mnist: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve_dataset("auto") == "digits"
    monkeypatch.setattr(generated, "have_digits", lambda: False)
    assert resolve_dataset("auto") == "textures"
    write_fashion_mnist(tmp_path / "usr" / "datasets" / "fashion-mnist")
    assert resolve_dataset("auto") == "fashion_mnist"
    write_cifar10_binary(tmp_path / "data" / "cifar-10-batches-bin")
    assert resolve_dataset("auto") == "cifar10"


def test_auto_passes_over_a_set_that_is_only_partly_there(
    tmp_path: Path, write_fashion_mnist: Write, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_fashion_mnist(tmp_path / "data" / "fashion-mnist")
    assert resolve_dataset("auto") == "fashion_mnist"
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert resolve_dataset("auto") == "digits"
    assert caplog.messages == [
        "data/fashion-mnist has a part of Fashion-MNIST, but 't10k-labels-idx1-ubyte' is missing:"
        " `--dataset auto` passes over it; `--dataset fashion_mnist --download` fetches the rest"
    ]


def test_what_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"Fashion-MNIST was not found in {tmp_path}; .*--download; Debian"):
        load_arrays("fashion_mnist", data_dir=tmp_path)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown dataset 'cifar_10' \(did you mean 'cifar10'\?\)"):
        resolve_dataset("cifar_10")


def test_download_of_what_needs_no_files_is_refused() -> None:
    with pytest.raises(UserError, match="--download does not apply to 'digits'"):
        resolve_dataset("digits", download=True)


def test_a_missing_part_is_named(tmp_path: Path, write_cifar10_binary: Write) -> None:
    folder = write_cifar10_binary(tmp_path / "cifar-10-batches-bin")
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(UserError, match=r"has a part of CIFAR-10, but 'data_batch_4.bin' is missing"):
        load_arrays("cifar10", data_dir=tmp_path)


def test_a_cut_off_part_is_named(tmp_path: Path, write_cifar10_binary: Write) -> None:
    path = write_cifar10_binary(tmp_path / "cifar-10-batches-bin") / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"^{path} is not a binary CIFAR file, or it is damaged"):
        load_arrays("cifar10", data_dir=tmp_path)


def test_a_damaged_gzip_file_is_named(tmp_path: Path, write_fashion_mnist: Write) -> None:
    path = write_fashion_mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path} is damaged"):
        load_arrays("fashion_mnist", data_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08\x00 cut off"])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(content)
    for data_dir in (path, tmp_path):
        with pytest.raises(UserError, match=f"^{path} is not a readable archive, or it is damaged"):
            load_arrays("cifar10", data_dir=data_dir)


def test_the_wrong_archive_under_the_right_name_is_named(tmp_path: Path, write_cifar100_binary: Write) -> None:
    folder = write_cifar100_binary(tmp_path / "cifar-100-binary")
    path = tmp_path / "d" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, "cifar-100-binary")
    with pytest.raises(UserError, match=f"^{path} is not CIFAR-10: 'data_batch_1.bin' is missing$"):
        load_arrays("cifar10", data_dir=path.parent)
