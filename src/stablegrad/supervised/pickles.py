"""Arrays out of pickled dictionaries, without running anything that the file names.

A pickle is a program: it imports what it likes and calls it. Here every import ends in one of five stand-ins
that only record their arguments, or in an error, and arrays are built from the recorded bytes afterwards.
"""

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from stablegrad.errors import UserError

_PLAIN_DTYPES = frozenset({"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"})


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def resolve(self) -> np.dtype[Any]:
        if self.code not in _PLAIN_DTYPES or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"array of type {self.order}{self.code}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands in for numpy.ndarray; holds what the pickle says about it."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = _Dtype("u1")
        self.order = "C"
        self.content: bytes = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, is_fortran, content = state
        self.order = "F" if is_fortran else "C"
        self.content = _bytes(content)

    def resolve(self) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or not isinstance(self.shape, tuple):
            raise pickle.UnpicklingError("array without a type or a shape")
        dtype = self.dtype.resolve()
        if len(self.content) != math.prod(self.shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"array of shape {self.shape} with {len(self.content)} bytes")
        return np.frombuffer(self.content, dtype).reshape(self.shape, order="F" if self.order == "F" else "C")


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    return _Array()


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    array = _Array()
    array.content, array.dtype, array.shape, array.order = _bytes(content), dtype, shape, _text(order)
    return array


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Stands in for codecs.encode: how protocol 2 spells bytes."""
    return _text(text).encode("latin1")


_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and only arrays and plain values are read"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside of the file")


def read_pickled_arrays(content: bytes, *, name: str) -> dict[str, Any]:
    """The dictionary that `content` pickles: text keys; values are arrays, lists, numbers, text or bytes.

    Pickles of Python 2 are read too (their text comes as bytes). `name` is the file's, for the error.
    Raises UserError when the file asks for anything but numpy arrays and plain values, or is damaged.
    """
    # What damaged bytes raise inside of the unpickler is not of one kind.
    damaged = (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError,
        OverflowError, MemoryError, ImportError,
    )  # fmt: skip
    try:
        pickled = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(pickled, dict):
            raise pickle.UnpicklingError("it does not hold a dictionary")
        return {_text(key): value.resolve() if isinstance(value, _Array) else value for key, value in pickled.items()}
    except damaged as error:
        raise UserError(f"{name} is not a data set in Python's format, or it is damaged: {error}") from error


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, str):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__} where text belongs")


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise pickle.UnpicklingError(f"a {type(value).__name__} where bytes belong")
