"""Image files in the format of MNIST, written from its definition."""

import gzip
import struct
from pathlib import Path

import numpy as np


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx_pair(folder: Path, split: str, images: np.ndarray, labels: np.ndarray, *, zipped: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
        content = idx_bytes(values)
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
