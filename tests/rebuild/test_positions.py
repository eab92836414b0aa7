"""Where a partition goes on: the contiguous end of its answers, and what the topic has in between."""

import numpy as np
import pytest

from fraud.rebuild.positions import Reached, reached


@pytest.mark.parametrize(
    ("answered", "begin", "records", "expected"),
    [
        ([], 0, [], Reached(0)),
        ([], 40, [40], Reached(40)),
        ([0, 1, 2], 0, [0, 1, 2, 3], Reached(3)),
        ([2, 1, 2, 0], 0, [0, 1, 2], Reached(3)),  # out of order, and published twice
        ([5, 6], 0, range(7), Reached(7)),  # a job that began at the topic's end
        ([0, 1, 4, 5], 0, range(6), Reached(2)),  # a hole: killed while it published
        ([0, 1, 4, 5], 0, [0, 1, 4, 5], Reached(6)),  # control records
        ([0, 1, 4, 5, 8], 0, [0, 1, 4, 5, 7, 8], Reached(6)),
        ([0, 1, 4, 5], 4, [4, 5], Reached(6, expired=2)),  # two expired unanswered
        ([0, 1, 4, 5], 3, [3, 4, 5], Reached(3, expired=1)),
        ([0, 1], 6, [6], Reached(6, expired=4)),
        ([0, 1], 2, [2], Reached(2)),
    ],
)
def test_a_partition_goes_on_where_its_answers_end(
    answered: list[int], begin: int, records: list[int], expected: Reached
) -> None:
    def readable(start: int, end: int) -> int | None:
        return next((at for at in records if start <= at < end), None)

    assert reached(np.array(answered, np.int64), begin=begin, readable=readable) == expected
