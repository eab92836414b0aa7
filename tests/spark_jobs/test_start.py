"""A start happens only where store, checkpoint and broker continue each other."""

import pytest

from fraud.errors import GapError, StateError
from fraud.store.base import PartitionKey
from spark_jobs.start import From, Offsets, Remembered, Start, Topic, decide, watch

TOPIC = Topic("transactions", "id-1", begin={0: 0, 1: 5}, end={0: 100, 1: 50})


def at(*positions: int, topic_id: str = "id-1") -> dict[PartitionKey, int]:
    return {PartitionKey(topic_id, partition): position for partition, position in enumerate(positions)}


def remembered(
    positions: dict[PartitionKey, int] | None = None,
    marks: dict[PartitionKey, int] | None = None,
    resume: Offsets | None = None,
) -> Remembered:
    return Remembered(positions or {}, marks or {}, resume)


@pytest.mark.parametrize(
    ("choice", "offsets"), [(None, {0: 0, 1: 5}), ("earliest", {0: 0, 1: 5}), ("latest", {0: 100, 1: 50})]
)
def test_a_first_start_stores_what_spark_is_told(choice: From | None, offsets: dict[int, int]) -> None:
    assert decide(TOPIC, remembered(), choice) == Start(offsets, at(*offsets.values()))


def test_it_goes_on_where_the_checkpoint_is() -> None:
    """The checkpoint lies behind the positions: the outbox answers what lies between."""
    found = decide(TOPIC, remembered(at(90, 40), at(70, 30), {0: 80, 1: 35}), None)
    assert found == Start({0: 80, 1: 35}, None)


def test_without_a_checkpoint_it_goes_on_at_the_mark() -> None:
    assert decide(TOPIC, remembered(at(90, 40), at(70, 30)), None) == Start({0: 70, 1: 30}, None)


def test_without_a_checkpoint_what_expired_decided_is_left_out() -> None:
    topic = Topic("transactions", "id-1", begin={0: 75, 1: 45}, end={0: 100, 1: 50})
    assert decide(topic, remembered(at(90, 45), at(70, 30)), None).offsets == {0: 75, 1: 45}


def test_a_checkpoint_before_its_first_commit_counts_as_the_mark() -> None:
    assert decide(TOPIC, remembered(at(90, 40), at(0, 5), {}), None).offsets == {0: 0, 1: 5}


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        (remembered(resume={0: 10, 1: 10}), StateError, "the online store is empty"),
        (remembered(resume={}), StateError, "the online store is empty"),
        (
            remembered(at(90, 40, topic_id="id-0")),
            StateError,
            "recreated: it has the id id-1, the store continues id-0",
        ),
        (remembered(at(90)), StateError, "has 2 partitions, the store's histories lie in 1"),
        (remembered(at(90, 40, 3)), StateError, "has 2 partitions, the store's histories lie in 3"),
        (remembered(at(101, 40), at(90, 40)), GapError, "partition 0 ends at offset 100, .* decided up to 101"),
        (remembered(at(60, 40), at(60, 40), {0: 80, 1: 40}), GapError, "resumes at offset 80, .* older copy"),
        (remembered(at(90, 3), at(90, 3)), GapError, "partition 1 begins at offset 5, the stream must go on at 3"),
        (remembered(at(90, 40), at(90, 3), {0: 90, 1: 3}), GapError, "has expired, but was decided"),
    ],
)
def test_a_start_that_would_score_on_another_past_is_refused(
    state: Remembered, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        decide(TOPIC, state, None)


@pytest.mark.parametrize("choice", ["earliest", "latest"])
def test_from_is_for_a_first_start(choice: From) -> None:
    with pytest.raises(StateError, match=f"--from {choice} is for a first start"):
        decide(TOPIC, remembered(at(90, 40), at(90, 40)), choice)


@pytest.mark.parametrize(
    ("id_now", "partitions", "says"),
    [
        (None, 0, "was deleted under the running job"),
        ("id-2", 2, r"was recreated \(its id is id-2 now\) under the running job"),
        ("id-1", 3, "went from 2 to 3 partitions under the running job"),
    ],
)
def test_a_topic_that_changes_under_the_query_ends_it(id_now: str | None, partitions: int, says: str) -> None:
    with pytest.raises(StateError, match=says):
        watch(TOPIC, id_now, partitions)


def test_a_topic_that_stays_is_fine() -> None:
    watch(TOPIC, "id-1", 2)
