"""Parity finds what differs, and nothing where nothing does; against a real Kafka too."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud import bus, decision
from fraud.backfill import Past, load
from fraud.backfill.record import Loaded, Origin, Record, fingerprint, write
from fraud.builder import bulk_changes
from fraud.errors import DataError, StateError
from fraud.features import FEATURE_NAMES, MERCHANT_COLUMNS
from fraud.lake import open_lake
from fraud.lake.tables import BACKFILL, PROFILE_CHANGES
from fraud.parity import columns, topics
from fraud.parity.columns import Messages, Predictions, Rejections, place, source_of
from fraud.parity.comparison import ANSWER, REPEAT, Result, compare
from fraud.parity.kept import Kept, merchant_changes
from fraud.parity.offline import Offline, must_say
from fraud.schema import Transaction
from fraud.settings import Settings
from fraud.store.base import Answers, Kind
from fraud.store.memory import open_memory
from producer.tables import write_tables
from tests import streaming
from tests.servers import Server, environment, fresh_topics
from tests.streaming import NOW, PARTITIONS, day, simulation

UNTIL = day(10)
NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Run:
    """A stream that was scored: its messages and what was published."""

    messages: Messages
    predictions: Predictions
    rejections: Rejections

    def offline(self, past: Past | None, *, max_age_ms: int | None = None, skipped: Any = NONE) -> Offline:
        return must_say(self.messages, past, partitions=PARTITIONS, max_age_ms=max_age_ms, skipped=skipped)

    def compare(self, past: Past | None, **terms: Any) -> Result:
        return compare(self.offline(past, **terms), self.predictions, self.rejections)


def past() -> Past:
    return Past(simulation().transactions, simulation().labels, UNTIL)


def stream() -> list[Transaction]:
    return streaming.transactions(simulation().transactions.filter(pl.col("timestamp").dt.epoch("ms") >= UNTIL))


def with_repeats(rows: Sequence[Transaction]) -> list[streaming.Message]:
    """Return messages, among them bad ones, repeats, conflicting repeats and a late one."""
    messages = streaming.encoded(rows)
    other = msgspec.structs.replace(rows[0], amount=rows[0].amount + 1)
    of_the_past = streaming.transactions(simulation().transactions.filter(pl.col("timestamp").dt.epoch("ms") < UNTIL))
    late = msgspec.structs.replace(rows[40], transaction_id="late", timestamp=rows[5].timestamp)
    messages[50:50] = [*messages[:20], *streaming.encoded([other, late, *of_the_past[-20:]])]
    messages[30:30] = [(b"u", b"{"), (None, messages[3][1]), (rows[4].user_id.encode(), None)]
    return messages


def run(messages: Sequence[streaming.Message], *, loaded: Past | None) -> Run:
    parts = [[] for _ in range(PARTITIONS)] if not messages else streaming.by_partition(messages)
    store = open_memory()
    if loaded is not None:
        load(loaded, store, partitions=PARTITIONS, clock=lambda: NOW)
    said = streaming.score(store, streaming.slices(parts))
    sources = [source_of(number, offset) for number, part in enumerate(parts) for offset in range(len(part))]
    flat = [message for part in parts for message in part]
    return Run(
        Messages(
            np.array(sources, np.int64),
            np.full(len(flat), NOW),
            [key for key, _ in flat],
            [value for _, value in flat],
        ),
        columns.predictions(published(said, Kind.PREDICTION), bus.TRANSACTIONS),
        columns.rejections(published(said, Kind.REJECTION), bus.TRANSACTIONS),
    )


def published(answers: Sequence[Answers], kind: Kind) -> list[bytes]:
    return [value for part in answers for k, value in zip(part.kinds, part.values, strict=True) if k == kind]


@lru_cache(maxsize=1)
def good() -> Run:
    """Score once; the tests below look at it or change a copy."""
    return run(with_repeats(stream()), loaded=past())


def test_stream_and_builder_agree_with_repeats_and_late_rows_among_them() -> None:
    result = good().compare(past())
    assert result.by_feature == {}
    assert result.stale == 0
    assert result.compared == result.rows == len(stream()) + 1
    assert result.holds
    reasons = list(good().offline(past()).reasons)
    assert {reason: reasons.count(reason) for reason in set(reasons)} == {
        None: result.rows,
        "duplicate": 40,
        "conflicting_duplicate": 1,
        "not_json": 1,
        "key_mismatch": 1,
        "null_value": 1,
    }
    seen = np.isfinite(good().predictions.matrix).sum(axis=0)
    rare = {name: count for name, count in zip(FEATURE_NAMES, seen.tolist(), strict=True) if count < 100}
    assert rare == {}, "every feature must be there to be compared"


def test_a_few_users_at_a_time_are_answered_like_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "USERS_AT_ONCE", 3)
    few, all_at_once = run(with_repeats(stream()), loaded=past()), good()
    np.testing.assert_array_equal(few.predictions.digests, all_at_once.predictions.digests)
    np.testing.assert_array_equal(few.rejections.digests, all_at_once.rejections.digests)


@pytest.mark.parametrize("feature", ["user_txn_count_30d", "rolling_avg_7d", "merchant_fraud_rate_30d"])
def test_one_wrong_value_is_found(feature: str) -> None:
    said = good().predictions
    row, column = 17, FEATURE_NAMES.index(feature)
    matrix = said.matrix.copy()
    matrix[row, column] = np.nan_to_num(matrix[row, column]) * (1 + 3e-9) + 3e-9
    result = replace(good(), predictions=replace(said, matrix=matrix)).compare(past())
    assert result.by_feature == {feature: 1}
    assert (result.mismatches, result.holds) == (1, False)
    [found] = result.examples
    assert (found.partition, found.offset) == place(int(said.sources[row]))
    assert found.feature == feature
    assert found.stream == matrix[row, column]


def test_floats_within_the_tolerance_agree() -> None:
    said = good().predictions
    matrix = said.matrix.copy()
    matrix[:, FEATURE_NAMES.index("rolling_avg_7d")] *= 1 + 5e-10
    assert replace(good(), predictions=replace(said, matrix=matrix)).compare(past()).holds


def test_a_missing_value_is_no_number_and_no_number_is_no_missing_value() -> None:
    said = good().predictions
    column = FEATURE_NAMES.index("amount_zscore")
    there = int(np.flatnonzero(np.isfinite(said.matrix[:, column]))[0])
    absent = int(np.flatnonzero(np.isnan(said.matrix[:, FEATURE_NAMES.index("device_change_flag")]))[0])
    matrix = said.matrix.copy()
    matrix[there, column] = np.nan
    matrix[absent, FEATURE_NAMES.index("device_change_flag")] = 0.0
    result = replace(good(), predictions=replace(said, matrix=matrix)).compare(past())
    assert result.by_feature == {"amount_zscore": 1, "device_change_flag": 1}


def test_another_past_than_the_one_loaded_is_found() -> None:
    assert good().compare(None).by_feature["rolling_avg_7d"] > 100
    shorter = Past(simulation().transactions, simulation().labels, day(9))
    assert good().compare(shorter).by_feature["user_txn_count_30d"] > 10
    blind = Past(simulation().transactions, None, UNTIL)
    assert set(good().compare(blind).by_feature) <= set(FEATURE_NAMES[MERCHANT_COLUMNS])
    assert not good().compare(blind).holds


def test_a_missing_prediction_breaks_parity_without_a_mismatch() -> None:
    said = good().predictions
    fewer = replace(said, sources=np.concatenate([said.sources[:-1], [source_of(0, 10**9)]]))
    result = replace(good(), predictions=fewer).compare(past())
    assert result.mismatches == 0
    assert result.compared == result.rows - 1
    assert not result.holds


def test_repeats_must_be_the_same_bytes() -> None:
    said = good().predictions
    twice = Predictions(*(np.concatenate([column, column[:9]]) for column in vars(said).values()))
    assert replace(good(), predictions=twice).compare(past()).holds
    digests = twice.digests.copy()
    digests[-1] += np.uint64(1)
    result = replace(good(), predictions=replace(twice, digests=digests)).compare(past())
    assert result.by_feature == {REPEAT: 1}
    assert result.compared == result.rows


def test_reasons_are_compared() -> None:
    said = good().rejections
    reasons = said.reasons.copy()
    row = int(np.flatnonzero(reasons == "duplicate")[0])
    reasons[row] = "conflicting_duplicate"
    result = replace(good(), rejections=replace(said, reasons=reasons)).compare(past())
    assert result.by_feature == {ANSWER: 1}
    [found] = result.examples
    assert (found.stream, found.offline) == ("conflicting_duplicate", "duplicate")
    predicted = replace(said, sources=np.concatenate([good().predictions.sources[:1], said.sources[1:]]))
    assert replace(good(), rejections=predicted).compare(past()).by_feature == {ANSWER: 1}


def test_the_brokers_clock_refuses_offline_too() -> None:
    reasons = good().offline(past(), max_age_ms=streaming.DAY_MS).reasons
    assert list(reasons).count("too_old") > 100
    result = good().compare(past(), max_age_ms=streaming.DAY_MS)
    assert result.by_feature[ANSWER] > 100


def test_stale_rows_compare_their_user_features_alone() -> None:
    merchants_behind = Past(
        simulation().transactions.filter(pl.col("timestamp").dt.epoch("ms") < UNTIL), simulation().labels, UNTIL
    )
    behind = run(streaming.encoded(stream()), loaded=merchants_behind)
    result = behind.compare(past())  # the whole truth, of which the stream knew a part
    assert result.mismatches == 0
    assert result.stale > 100
    assert result.compared + result.stale == result.rows
    assert result.holds
    matrix = behind.predictions.matrix.copy()
    matrix[-1, 0] += 1
    wrong = replace(behind, predictions=replace(behind.predictions, matrix=matrix))
    assert wrong.compare(past()).by_feature == {"amount": 1}


def test_without_profiles_every_row_is_stale() -> None:
    result = run(streaming.encoded(stream()), loaded=None).compare(None)
    assert (result.compared, result.stale, result.mismatches) == (0, result.rows, 0)


def test_a_message_that_failed_inside_the_job_left_no_trace() -> None:
    rows = stream()
    spared = run([message for n, message in enumerate(streaming.encoded(rows)) if n != 7], loaded=past())
    failed = source_of(*place_of(rows, 7))
    whole = run(streaming.encoded(rows), loaded=past())
    kept = whole.messages.sources != failed
    # The same predictions, at the offsets that they have beside the failed one.
    said = replace(spared.predictions, sources=whole.messages.sources[kept])
    rejected = Rejections(np.array([failed]), np.array([1], np.uint64), np.array(["internal_error"], np.object_))
    result = Run(whole.messages, said, rejected).compare(past(), skipped=np.array([failed]))
    assert result.by_feature == {ANSWER: 1}
    assert result.compared == result.rows - 1


def test_what_was_taken_without_a_model_needs_no_answer() -> None:
    said = good().predictions
    first = np.sort(np.unique(said.sources))[:40]
    silent = ~np.isin(said.sources, first)
    fewer = Predictions(*(column[silent] for column in vars(said).values()))
    whole = good().compare(past())
    offline = good().offline(past())
    assert not compare(offline, fewer, good().rejections).holds
    result = compare(offline, fewer, good().rejections, np.isin(offline.sources, first))
    assert result.holds
    assert (result.rows, result.compared) == (whole.rows - 40, whole.rows - 40)


def test_a_refused_message_that_was_taken_all_the_same_is_found() -> None:
    offline = good().offline(past())
    refused = np.flatnonzero(offline.reasons == "duplicate")[:1]
    collected = np.zeros(len(offline.sources), bool)
    collected[refused] = True
    result = compare(offline, good().predictions, good().rejections, collected)
    assert result.by_feature == {ANSWER: 1}
    assert result.examples[0].stream == "taken without a model"


def test_ranges_of_offsets_name_their_messages_partition_by_partition() -> None:
    remembered = Kept({0: np.array([[2, 4], [7, 8]]), 1: np.empty((0, 2), np.int64), 2: np.array([[0, 1]])})
    sources = np.array([source_of(p, offset) for p in range(3) for offset in range(9)])
    named = [place(int(source)) for source in sources[remembered.among(sources)]]
    assert named == [(0, 2), (0, 3), (0, 7), (2, 0)]
    assert not Kept().among(sources).any()


def test_changes_take_the_place_of_the_pasts_own() -> None:
    """With those that the past makes nothing changes; without a verdict the rates do, and nothing else."""
    changes = bulk_changes(simulation().transactions, simulation().labels)
    said = good()
    terms: dict[str, Any] = {"partitions": PARTITIONS, "max_age_ms": None, "skipped": NONE}
    same = must_say(said.messages, past(), changes, **terms)
    assert compare(same, said.predictions, said.rejections).holds
    blind = must_say(said.messages, past(), changes.filter(pl.col("frauds") == 0), **terms)
    differs = compare(blind, said.predictions, said.rejections).by_feature
    assert differs.pop("merchant_fraud_rate_7d") > 100
    assert all(name.startswith("merchant_") for name in differs)


def appended(settings: Settings, changes: pl.DataFrame, topic_id: str, batch: int) -> None:
    """Write changes into the lake's table, a row a change, as if they stood in a topic."""
    rows = changes.with_row_index("offset").select(
        pl.lit(datetime(2024, 3, 1, tzinfo=UTC)).alias("broker_time"),
        pl.lit(topic_id).alias("topic_id"),
        pl.lit(0).alias("partition"),
        pl.col("offset").cast(pl.Int64),
        *(pl.lit("x").alias(name) for name in ("cause", "user_id", "transaction_id")),
        *changes.columns,
    )
    assert open_lake(settings).append(PROFILE_CHANGES, rows.to_arrow(), query=topic_id, batch=batch)


def test_the_lakes_changes_are_all_there_are_or_come_to_those_that_were_loaded_without_it(tmp_path: Path) -> None:
    whole = bulk_changes(simulation().transactions, simulation().labels)
    half = pl.int_range(pl.len()) % 2 == 0
    settings = Settings.load({}, home=tmp_path, lake_uri=str(tmp_path / "lake"))
    assert merchant_changes(settings, past()) is None
    appended(settings, whole.filter(half), "topic-a", 0)
    found = merchant_changes(settings, None)
    assert found is not None
    assert found.equals(whole.filter(half))
    both = merchant_changes(settings, past())
    assert both is not None
    assert len(both) == len(whole) + len(whole.filter(half))
    appended(settings, whole.filter(~half), BACKFILL, 0)
    found = merchant_changes(settings, past())
    assert found is not None
    assert found.equals(whole)


def place_of(rows: Sequence[Transaction], number: int) -> tuple[int, int]:
    """Return partition and offset of the row with this number."""
    message = streaming.encoded(rows)[number]
    parts = streaming.by_partition(streaming.encoded(rows))
    [found] = [(partition, part.index(message)) for partition, part in enumerate(parts) if message in part]
    return found


def test_the_whole_of_nothing_holds() -> None:
    assert run([], loaded=None).compare(None).report() == {
        "rows": 0,
        "compared": 0,
        "stale": 0,
        "mismatches": 0,
        "by_feature": {},
    }


def test_what_cannot_be_judged_is_refused() -> None:
    store = open_memory()
    said = streaming.score(store, streaming.slices(streaming.by_partition(streaming.encoded(stream()[:1]))))
    [value] = published(said, Kind.PREDICTION)
    other = json.loads(value) | {"feature_version": "0-old"}
    with pytest.raises(DataError, match="features 0-old"):
        columns.predictions([json.dumps(other).encode()], bus.TRANSACTIONS)
    with pytest.raises(DataError, match="can't be read"):
        columns.predictions([b"{}"], bus.TRANSACTIONS)
    assert len(columns.predictions([value], "another topic").sources) == 0


# Against a real Kafka.


@pytest.fixture
def settings(kafka: Server, stack_settings: Settings, tmp_path: Path) -> Settings:
    fresh_topics(stack_settings)
    return Settings.load({}, home=tmp_path / "home", kafka_bootstrap=stack_settings.kafka_bootstrap, max_age_days=None)


def send(settings: Settings, messages: Sequence[tuple[str, int, bytes | None, bytes | None]]) -> None:
    client = bus.producer(settings.kafka_bootstrap)
    for topic, partition, key, value in messages:
        client.send(topic, key=key, value=value, partition=partition)
    client.flush()
    client.close()


def publish_stream(settings: Settings) -> list[Answers]:
    """Send the messages, read them back, score them here, publish the answers, some of them twice."""
    parts = streaming.by_partition(with_repeats(stream()))
    send(settings, [(bus.TRANSACTIONS, n, key, value) for n, part in enumerate(parts) for key, value in part])
    read = topics.read_transactions(settings.kafka_bootstrap)
    assert [(key, value) for part in parts for key, value in part] == list(zip(read.keys, read.values, strict=True))
    store = open_memory()
    load(past(), store, partitions=PARTITIONS, clock=lambda: NOW)
    times = [read.broker_times[read.sources >> columns.PARTITION_BITS == n].tolist() for n in range(PARTITIONS)]
    said = streaming.score(store, streaming.slices(parts, times))
    publish(settings, [*said, *said[:2]])
    return said


def publish(settings: Settings, answers: Sequence[Answers]) -> None:
    names = {Kind.PREDICTION: bus.PREDICTIONS, Kind.REJECTION: bus.DLQ}
    rows = [
        (names[Kind(kind)], n % PARTITIONS, key, value)
        for part in answers
        for n, (kind, key, value) in enumerate(zip(part.kinds, part.keys, part.values, strict=True))
    ]
    send(settings, rows)


def remember(settings: Settings, directory: Path) -> None:
    """Leave the record that `backfill --until` would have left."""
    write_tables(simulation(), directory)
    files = tuple(fingerprint(directory / f"{name}.parquet") for name in ("transactions", "labels"))
    origin = Origin(str(directory), until="2024-02-11T00:00:00.000Z")
    loaded = Loaded(0, 0, 0, 0, "2024-02-11T00:00:00.000Z", 0.0)
    write(settings.data / "backfill.json", Record(origin, files, loaded, "2024-03-01T00:00:00.000Z"))


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "fraud-detect"), "parity", "--wait", "0", *arguments],
        env={**environment(settings), "FRAUD_MAX_AGE_DAYS": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.server
def test_the_command_proves_parity_and_finds_a_lie(settings: Settings, tmp_path: Path) -> None:
    said = publish_stream(settings)
    remember(settings, tmp_path / "past")
    done = command(settings, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = len(stream()) + 1
    assert json.loads(done.stdout) == {"rows": rows, "compared": rows, "stale": 0, "mismatches": 0, "by_feature": {}}
    forgetful = command(settings, "--json", "--past", str(tmp_path / "past"), "--limit", "200")
    assert forgetful.returncode == 1, "the whole past was never in the store"
    told = json.loads(forgetful.stdout)
    assert told["by_feature"]["answer"] > 100  # as if the stream repeated what was loaded
    lie = json.loads(published(said, Kind.PREDICTION)[0])
    lie["features"]["user_txn_count_7d"] += 1
    send(settings, [(bus.PREDICTIONS, 0, lie["user_id"].encode(), json.dumps(lie).encode())])
    caught = command(settings)
    assert caught.returncode == 1
    assert "other bytes" in caught.stderr
    assert "1 mismatches" in caught.stderr


@pytest.mark.server
def test_a_limit_takes_the_first_messages_of_every_partition(settings: Settings) -> None:
    parts = streaming.by_partition(streaming.encoded(stream()[:300]))
    for n, part in enumerate(parts):
        send(settings, [(bus.TRANSACTIONS, n, key, value) for key, value in part])
    whole = topics.read_transactions(settings.kafka_bootstrap)
    some = topics.read_transactions(settings.kafka_bootstrap, limit=len(parts[0]) + 10)
    assert len(some) == len(parts[0]) + 10
    assert (np.diff(some.sources) > 0).all()
    for n, wanted in enumerate([len(parts[0]), 10]):  # partition 0 was sent first
        mine = some.sources[some.sources >> columns.PARTITION_BITS == n]
        assert mine.tolist() == whole.sources[whole.sources >> columns.PARTITION_BITS == n][:wanted].tolist()


@pytest.mark.server
def test_a_topic_without_its_beginning_is_refused(settings: Settings) -> None:
    from kafka import TopicPartition

    send(settings, [(bus.TRANSACTIONS, 0, b"u", b"{}")] * 3)
    with bus.admin(settings.kafka_bootstrap) as client:
        client.delete_records({TopicPartition(bus.TRANSACTIONS, 0): 2})
    with pytest.raises(StateError, match="begins at offset 2"):
        topics.read_transactions(settings.kafka_bootstrap)
