"""Pickled arrays are read from every protocol, and nothing that a pickle names is ever run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from stablegrad.errors import UserError
from stablegrad.supervised.pickles import read_pickled_arrays


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_come_back(protocol: int) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 12)
    fields = {b"data": images, "labels": [3, 1], b"name": b"batch 1", "weights": np.array([1.5, -2.0], ">f4")}
    found = read_pickled_arrays(pickle.dumps(fields, protocol=protocol), name="batch")
    assert found["data"].tolist() == images.tolist()
    assert found["data"].dtype == np.uint8
    assert found["weights"].tolist() == [1.5, -2.0]
    assert found["labels"] == [3, 1]
    assert found["name"] == b"batch 1"


def test_fortran_order_is_kept() -> None:
    images = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    found = read_pickled_arrays(pickle.dumps({"data": images}, protocol=2), name="batch")
    assert found["data"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_pickle_of_python_2_is_read() -> None:
    # {'data': numpy.array([7, 8], uint8), 'labels': [1]} as Python 2 and numpy 1 write it at protocol 2.
    content = (
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b"
        b"\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x02\x07\x08tbU\x06labels]q\x07K\x01au."
    )
    found = read_pickled_arrays(content, name="batch")
    assert found["data"].tolist() == [7, 8]
    assert found["labels"] == [1]


class _Command:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.target),))


def test_a_pickle_that_names_a_function_is_refused_and_not_run(tmp_path: Path) -> None:
    content = pickle.dumps({"data": _Command(tmp_path / "made")})
    with pytest.raises(UserError, match=r"batch 1 is not a data set .* it asks for posix.mkdir"):
        read_pickled_arrays(content, name="batch 1")
    assert not (tmp_path / "made").exists()
    pickle.loads(content)  # the control: the plain unpickler runs it
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.array([object()])}),
        pickle.dumps({"data": np.arange(4, dtype=np.uint8)}, protocol=2)[:-20],
        pickle.dumps({3: 4}),
    ],
    ids=["empty", "text", "no dictionary", "array of objects", "cut off", "number as key"],
)
def test_what_is_no_dictionary_of_arrays_is_named(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^batch 7 is not a data set in Python's format, or it is damaged: "):
        read_pickled_arrays(content, name="batch 7")


def test_an_array_whose_bytes_do_not_fill_its_shape_is_refused() -> None:
    content = pickle.dumps({"data": np.zeros(300, np.uint8)}, protocol=2)
    longer = content.replace(b"M\x2c\x01\x85", b"M\x2d\x01\x85")  # the shape (300,) becomes (301,)
    assert longer != content
    with pytest.raises(UserError, match="array of shape \\(301,\\) with 300 bytes"):
        read_pickled_arrays(longer, name="batch")
