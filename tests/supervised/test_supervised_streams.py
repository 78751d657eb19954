"""When tasks change, and what cannot be asked for."""

import pytest

from stablegrad.errors import UserError
from stablegrad.supervised.streams import StreamSpec, default_change_points


@pytest.mark.parametrize(
    ("epochs", "points"),
    [(100, (20, 40, 60, 80)), (10, (2, 4, 6, 8)), (7, (1, 2, 4, 5)), (3, (1, 2)), (2, (1,)), (1, ())],
)
def test_five_equal_tasks_where_there_are_five_epochs(epochs: int, points: tuple[int, ...]) -> None:
    assert default_change_points(epochs) == points


def test_a_task_begins_at_its_change_point() -> None:
    spec = StreamSpec(stream="shuffled_labels", change_points=(2, 5))
    assert [spec.task_at(epoch) for epoch in range(7)] == [0, 0, 1, 1, 1, 2, 2]
    assert spec.tasks == 3


@pytest.mark.parametrize("points", [(0, 2), (3, 3), (4, 2)])
def test_change_points_rise(points: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="are not rising epochs after the first"):
        StreamSpec(stream="shuffled_labels", change_points=points)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        StreamSpec(stream="noisy_labels", first_task="shuffled", label_noise=1.5)
    assert caught.value.problems == (
        "the stream 'noisy_labels' needs a change point: one epoch cannot be divided",
        "the tasks of 'noisy_labels' are not drawn alike: first_task cannot be 'shuffled'",
        "label_noise is a share between 0 and 1, not 1.5",
    )


def test_a_stationary_stream_does_not_change() -> None:
    with pytest.raises(UserError, match="a stationary stream has no change points"):
        StreamSpec(change_points=(3,))
