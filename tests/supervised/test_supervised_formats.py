"""The three file formats, from bytes written out by hand."""

import pickle

import numpy as np
import pytest

from stablegrad.errors import UserError
from stablegrad.supervised.formats import read_cifar_binary, read_cifar_python, read_idx, read_idx_pair


def _record(*labels: int, red: int, green: int, blue: int) -> bytes:
    return bytes(labels) + bytes([red]) * 1024 + bytes([green]) * 1024 + bytes([blue]) * 1024


def test_a_binary_cifar10_record_is_a_label_and_three_planes() -> None:
    content = _record(3, red=10, green=20, blue=30) + _record(9, red=1, green=2, blue=3)
    images, labels = read_cifar_binary(content, name="f", label_bytes=1, classes=10)
    assert images.shape == (2, 3, 32, 32)
    assert images[:, :, 5, 7].tolist() == [[10, 20, 30], [1, 2, 3]]
    assert labels.tolist() == [3, 9]
    assert labels.dtype == np.int64


def test_rows_come_before_columns() -> None:
    content = bytes([0]) + bytes(range(256)) * 12
    images, _ = read_cifar_binary(content, name="f", label_bytes=1, classes=10)
    assert images[0, 0, 1, 2] == 32 + 2


def test_the_fine_label_of_cifar100_is_the_second_byte() -> None:
    content = _record(4, 77, red=0, green=0, blue=0)
    assert read_cifar_binary(content, name="f", label_bytes=2, classes=100).labels.tolist() == [77]


def test_a_cut_off_binary_file_is_named() -> None:
    content = _record(3, red=1, green=1, blue=1)[:-1]
    with pytest.raises(UserError, match=r"^here/data_batch_2.bin is not a binary CIFAR file, .*3072 bytes"):
        read_cifar_binary(content, name="here/data_batch_2.bin", label_bytes=1, classes=10)


def test_a_cifar100_file_is_not_taken_for_cifar10() -> None:
    content = b"".join(_record(0, 50, red=255, green=255, blue=255) for _ in range(3073))
    with pytest.raises(UserError, match="label 255, and labels are 0 to 9"):
        read_cifar_binary(content, name="f", label_bytes=1, classes=10)


def test_python_files_say_which_label_is_missing() -> None:
    content = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]})
    with pytest.raises(UserError, match=r"^train is not a CIFAR file of this data set: it has no 'fine_labels'$"):
        read_cifar_python(content, name="train", label_key="fine_labels", classes=100)


def test_idx_header_and_rows() -> None:
    content = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
    assert read_idx(content, name="f", dimensions=3).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes([0, 0, 8, 1, 0, 0, 0, 2, 1]),  # announces two bytes, has one
        bytes([0, 0, 13, 1, 0, 0, 0, 1, 1]),  # floats
        bytes([0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),  # images, where labels belong
    ],
    ids=["empty", "cut off", "floats", "three dimensions"],
)
def test_a_damaged_idx_file_is_named(content: bytes) -> None:
    with pytest.raises(UserError, match="labels-idx1"):
        read_idx(content, name="labels-idx1", dimensions=1)


def test_images_and_labels_of_different_number_are_refused() -> None:
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2])
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2])
    with pytest.raises(UserError, match=r"^i has 2 images and l has 3 labels$"):
        read_idx_pair(images, labels, images_name="i", labels_name="l", classes=10)
