"""Small image sets in every published format, written from the formats' definitions; small runs."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supervised_runs import SMALL, StopAfter, never

from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.training import SupervisedTraining


def cifar_images(count: int, *, seed: int) -> np.ndarray:
    """[count, 3072] uint8."""
    return np.random.default_rng(seed).integers(0, 256, size=(count, 3072), dtype=np.uint8)


def cifar10_part(part: int) -> tuple[np.ndarray, np.ndarray]:
    """The 4 images and labels of batch `part` (6 is the test batch) that every CIFAR-10 fixture has."""
    return cifar_images(4, seed=part), (np.arange(4) + part) % 10


def _records(images: np.ndarray, *labels: np.ndarray) -> bytes:
    return np.concatenate([*(column[:, None].astype(np.uint8) for column in labels), images], axis=1).tobytes()


@pytest.fixture
def write_cifar10_binary() -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for part in range(1, 7):
            name = "test_batch.bin" if part == 6 else f"data_batch_{part}.bin"
            (folder / name).write_bytes(_records(*cifar10_part(part)))
        return folder

    return write


@pytest.fixture
def write_cifar10_python() -> Callable[..., Path]:
    def write(folder: Path, *, protocol: int = 2) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for part in range(1, 7):
            images, labels = cifar10_part(part)
            fields = {b"data": images, b"labels": labels.tolist(), b"batch_label": b"part"}
            name = "test_batch" if part == 6 else f"data_batch_{part}"
            (folder / name).write_bytes(pickle.dumps(fields, protocol=protocol))
        return folder

    return write


@pytest.fixture
def write_cifar100_binary() -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, seed in (("train.bin", 1), ("test.bin", 2)):
            coarse, fine = np.full(4, 19), np.array([0, 42, 99, seed])
            (folder / name).write_bytes(_records(cifar_images(4, seed=seed), coarse, fine))
        return folder

    return write


@pytest.fixture
def classify(tmp_path: Path) -> Callable[..., RunFolder]:
    """Train a small classifier with these settings; `stops` interrupts it and resumes it in a new process's place."""

    def train(*, stops: tuple[int, ...] = (), name: str = "run", **settings: Any) -> RunFolder:
        config = RunConfig.resolve("cifar", {**SMALL, "epochs": 4, "diagnostics": "off", **settings})
        folder = RunFolder.create(tmp_path / name, config)
        for stop in (*map(StopAfter, stops), never()):
            training = SupervisedTraining(RunFolder.open(folder.path).config)
            try:
                training.attach(folder)
                training.run(stop)
            finally:
                training.close()
        return folder

    return train
