"""Segments: versions rise with writing, equal versions mean equal data, and loading refuses what does not fit."""

import numpy as np
import pytest

from stablegrad.replay.segments import Segment, SegmentedArray


def array(**changes) -> SegmentedArray:
    options = {"length": 10, "shape": (2,), "dtype": np.dtype(np.int64)} | changes
    return SegmentedArray("a", segment_bytes=64, **options)  # four rows of 16 bytes a segment


def versions(segmented: SegmentedArray) -> dict[str, int]:
    return {segment.key: segment.version for segment in segmented.segments()}


def test_untouched_segments_are_left_out_and_written_ones_rise():
    segmented = array()
    assert segmented.segments() == []
    segmented.write(1, np.array([1, 2]))
    assert versions(segmented) == {"a/0": 1}
    segmented.write(np.array([3, 4]), np.ones((2, 2)))
    assert versions(segmented) == {"a/0": 2, "a/1": 1}
    segmented.write(9, np.array([5, 6]))
    assert versions(segmented) == {"a/0": 2, "a/1": 1, "a/2": 1}
    assert [segment.data.shape for segment in segmented.segments()] == [(4, 2), (4, 2), (2, 2)]


def test_segments_are_views_and_loading_copies():
    segmented, other = array(), array()
    segmented.write(np.arange(10), np.arange(20).reshape(10, 2))
    segments = segmented.segments()
    assert all(np.shares_memory(segment.data, segmented.data) for segment in segments)
    other.load(segments)
    np.testing.assert_array_equal(other.data, segmented.data)
    assert versions(other) == versions(segmented)
    segmented.write(0, np.array([7, 7]))
    assert other.data[0].tolist() == [0, 1]


def test_structured_rows_travel_as_bytes():
    dtype = np.dtype([("x", np.float32), ("y", np.bool_)])
    segmented, other = (SegmentedArray("s", 6, (3,), dtype, segment_bytes=30) for _ in range(2))
    rows = np.zeros((6, 3), dtype)
    rows["x"], rows["y"] = np.arange(18).reshape(6, 3), True
    segmented.write(np.arange(6), rows)
    segments = segmented.segments()
    assert {segment.data.dtype for segment in segments} == {np.dtype(np.uint8)}
    other.load(segments)
    np.testing.assert_array_equal(other.data, rows)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Segment("b/0", 1, np.zeros((4, 2), np.int64)), "does not belong to 'a'"),
        (Segment("a/7", 1, np.zeros((4, 2), np.int64)), "does not belong to 'a'"),
        (Segment("a/0", 1, np.zeros((1, 2), np.int64)), r"int64 \[4, 2\] was expected"),
        (Segment("a/0", 1, np.zeros((4, 2), np.int32)), r"holds int32"),
    ],
)
def test_a_segment_from_elsewhere_is_refused(segment, message):
    with pytest.raises(ValueError, match=message):
        array().load([segment])
