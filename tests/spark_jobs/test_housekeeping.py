"""What the driver does beside the query: marks and trimming, one line of progress, errors that end it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraud import bus
from fraud.errors import FencedError, FraudError, ServiceError, StateError
from fraud.store.base import Answers, Lease, PartitionKey, SliceCommit, Store
from fraud.store.memory import open_memory
from spark_jobs import housekeeping
from spark_jobs.housekeeping import KEEP_MS, House, Housekeeping, look, mark
from spark_jobs.start import Topic
from tests import servers
from tests.spark_jobs.test_checkpoint import write

NOW = 10_000_000
KEY = PartitionKey("id-1", 0)
TOPIC = Topic("transactions", "id-1", begin={0: 0}, end={0: 9})


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_memory()
    yield opened
    opened.close()


@pytest.fixture
def house(store: Store, tmp_path: Path) -> House:
    """A store with five answers that are old enough to go, and a checkpoint that published three."""
    lease = store.histories.acquire("score", "me", host="here", pid=1, now=NOW, ttl=10_000)
    store.histories.start({KEY: 0}, lease)
    for offset in range(5):
        commit(store, lease, offset, committed_at=NOW - KEEP_MS - 1)
    write(tmp_path / "offsets", 0, {"0": 3})
    write(tmp_path / "commits", 0)
    progress = tmp_path / "logs" / "progress.jsonl"
    return House(store.histories, lambda: lease, TOPIC, "nowhere:1", tmp_path, progress, dict, lambda: NOW)


def commit(store: Store, lease: Lease, offset: int, *, committed_at: int) -> None:
    answers = Answers(np.array([offset]), np.zeros(1, np.uint8), np.zeros(1, np.uint64), [None], [b"{}"])
    store.histories.commit(SliceCommit(KEY, lease.epoch, offset, offset + 1, {}, answers, committed_at))


def kept(store: Store) -> list[int]:
    offsets: list[int] = store.histories.answers(KEY, 0, 100).offsets.tolist()
    return offsets


def test_the_outbox_goes_below_what_was_published(store: Store, house: House) -> None:
    mark(house)
    assert store.histories.marks() == {KEY: 3}
    assert kept(store) == [3, 4]


def test_ten_minutes_stay_whatever_was_published(store: Store, house: House) -> None:
    mark(replace(house, clock=lambda: NOW - 2))
    assert store.histories.marks() == {KEY: 3}
    assert kept(store) == [0, 1, 2, 3, 4]


def test_nothing_goes_before_a_first_commit(store: Store, house: House) -> None:
    (house.checkpoint / "commits" / "0").unlink()
    mark(house)
    assert store.histories.marks() == {KEY: 0}
    assert kept(store) == [0, 1, 2, 3, 4]


def test_a_partition_that_spark_added_by_itself_ends_the_query(house: House) -> None:
    write(house.checkpoint / "offsets", 1, {"0": 4, "1": 1})
    write(house.checkpoint / "commits", 1)
    with pytest.raises(StateError, match="went from 1 to 2 partitions under the running job"):
        mark(house)


def test_a_line_says_where_the_stream_is(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(housekeeping, "look", lambda house: None)
    last: dict[str, Any] = {"batchId": 4, "numInputRows": 2, "durationMs": {"triggerExecution": 80, "addBatch": 61}}
    keeping = Housekeeping(replace(house, last_batch=lambda: last), lambda error: pytest.fail(str(error)))
    servers.wait_for("two lines", lambda: house.progress.exists() and house.progress.read_text().count("\n") > 1, 5)
    keeping.close()
    first, second, *_ = map(json.loads, house.progress.read_text().splitlines())
    told = {"at": NOW, "position": 5, "batch": 4, "batch_rows": 2, "batch_ms": 80, "phases_ms": {"addBatch": 61}}
    assert first == told
    assert second["rows"] == 0


@pytest.mark.parametrize("error", [StateError("recreated"), FencedError("lost")])
def test_an_error_of_ours_ends_the_query(house: House, monkeypatch: pytest.MonkeyPatch, error: FraudError) -> None:
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)

    def fail(_: House) -> None:
        raise error

    monkeypatch.setattr(housekeeping, "mark", fail)
    said: list[FraudError] = []
    keeping = Housekeeping(house, said.append)
    servers.wait_for("it is said", lambda: said, 5, every=0.01)
    keeping.close()
    assert said == [error]


def test_kafka_away_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)
    looks: list[int] = []

    def away(_: House) -> None:
        looks.append(1)
        raise ServiceError("away")

    monkeypatch.setattr(housekeeping, "look", away)
    keeping = Housekeeping(house, lambda error: pytest.fail(str(error)))
    servers.wait_for("it looks again", lambda: len(looks) > 2, 5, every=0.01)
    keeping.close()


def test_a_store_away_at_the_end_keeps_no_thread(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.05)
    rounds: list[int] = []

    def away(_: House) -> None:
        rounds.append(1)
        raise ServiceError("away")

    monkeypatch.setattr(housekeeping, "mark", away)
    keeping = Housekeeping(house, lambda error: pytest.fail(str(error)))
    servers.wait_for("a round", lambda: rounds, 5, every=0.01)
    before = len(rounds)
    keeping.close()
    assert not keeping._thread.is_alive()
    assert len(rounds) <= before + 2  # the one that ran, and the last


@pytest.mark.parametrize(("missed", "deleted"), [(1, False), (2, True)])
def test_a_topic_is_deleted_after_two_looks(
    house: House, monkeypatch: pytest.MonkeyPatch, missed: int, deleted: bool
) -> None:
    monkeypatch.setattr(housekeeping, "AGAIN_SECONDS", 0.0)
    looks: list[str] = []

    def describe(_: str, topic: str) -> bus.TopicState:
        looks.append(topic)
        if len(looks) <= missed:
            raise StateError("no such topic")
        return bus.TopicState(topic, TOPIC.id, 1)

    monkeypatch.setattr(bus, "describe", describe)
    if deleted:
        with pytest.raises(StateError, match="was deleted under the running job"):
            look(house)
    else:
        look(house)
    assert len(looks) == 2


@pytest.mark.server
def test_look_sees_another_topic(kafka: servers.Server, stack_settings: Any, house: House) -> None:
    with pytest.raises(StateError, match="recreated"):
        look(replace(house, bootstrap=stack_settings.kafka_bootstrap))
