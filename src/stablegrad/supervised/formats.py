"""Image files as arrays: CIFAR's binary and Python records, and the idx files of the MNIST family."""

import struct
from typing import NamedTuple

import numpy as np

from stablegrad.errors import UserError
from stablegrad.supervised.pickles import read_pickled_arrays

CIFAR_SHAPE = (3, 32, 32)
_CIFAR_PIXELS = 3 * 32 * 32
_IDX_UINT8 = 0x08


class Labelled(NamedTuple):
    """images [N, C, H, W] uint8 and labels [N] int64."""

    images: np.ndarray
    labels: np.ndarray


def read_cifar_binary(content: bytes, *, name: str, label_bytes: int, classes: int) -> Labelled:
    """Records of `label_bytes` bytes, the last of which is the label, and 3072 bytes of pixels.

    The label bytes are 1 for CIFAR-10 and 2 for CIFAR-100 (coarse, fine); the pixels are the red, green and
    blue planes, rows first (https://www.cs.toronto.edu/~kriz/cifar.html).
    """
    record = label_bytes + _CIFAR_PIXELS
    if not content or len(content) % record:
        raise UserError(
            f"{name} is not a binary CIFAR file, or it is damaged: {len(content)} bytes are no whole number"
            f" of {record}-byte records"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    images = records[:, label_bytes:].reshape(-1, *CIFAR_SHAPE)
    return _checked(images, records[:, label_bytes - 1], name=name, classes=classes)


def read_cifar_python(content: bytes, *, name: str, label_key: str, classes: int) -> Labelled:
    """A pickled dictionary with `data` [N, 3072] uint8 and a list of labels under `label_key`."""
    fields = read_pickled_arrays(content, name=name)
    missing = [key for key in ("data", label_key) if key not in fields]
    if missing:
        raise UserError(f"{name} is not a CIFAR file of this data set: it has no '{missing[0]}'")
    data, labels = fields["data"], fields[label_key]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_CIFAR_PIXELS,):
        raise UserError(f"{name} is damaged: its images are not rows of {_CIFAR_PIXELS} bytes")
    if not isinstance(labels, np.ndarray) and not (
        isinstance(labels, list) and all(isinstance(label, int) for label in labels)
    ):
        raise UserError(f"{name} is damaged: its labels are not a list of whole numbers")
    return _checked(data.reshape(-1, *CIFAR_SHAPE), np.asarray(labels), name=name, classes=classes)


def read_idx_pair(images: bytes, labels: bytes, *, images_name: str, labels_name: str, classes: int) -> Labelled:
    """An idx file of grey images [N, H, W] with the idx file of their labels [N]."""
    pixels = read_idx(images, name=images_name, dimensions=3)
    found = read_idx(labels, name=labels_name, dimensions=1)
    if len(pixels) != len(found):
        raise UserError(f"{images_name} has {len(pixels)} images and {labels_name} has {len(found)} labels")
    return _checked(pixels[:, None], found, name=labels_name, classes=classes)


def read_idx(content: bytes, *, name: str, dimensions: int) -> np.ndarray:
    """A uint8 idx file: two zero bytes, the type, the number of dimensions, their sizes, the data."""
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, _IDX_UINT8, dimensions)):
        raise UserError(f"{name} is not an idx file of {dimensions}-dimensional bytes, or it is damaged")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise UserError(f"{name} is damaged: its header announces {shape} and {values.size} bytes follow")
    return values.reshape(shape)


def _checked(images: np.ndarray, labels: np.ndarray, *, name: str, classes: int) -> Labelled:
    if labels.shape != (len(images),):
        raise UserError(f"{name} is damaged: {len(images)} images and labels of shape {labels.shape}")
    if len(images) == 0:
        raise UserError(f"{name} holds no images")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{name} is not a file of this data set, or it is damaged: it has the label"
            f" {int(labels.max() if labels.min() >= 0 else labels.min())}, and labels are 0 to {classes - 1}"
        )
    return Labelled(np.ascontiguousarray(images), labels.astype(np.int64))
