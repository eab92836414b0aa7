"""Records become rows with every field, or are refused, or are a stranger's."""

import json
from typing import Any

import msgspec

from fraud.archive import records
from fraud.archive.records import Records
from fraud.codec import digest
from fraud.features import FEATURE_NAMES
from fraud.lake.tables import TABLES
from fraud.times import format_time, parse_time
from tests import messages

AT = parse_time("2026-03-01T12:00:00Z")


def of(values: list[bytes | None], keys: list[bytes | None]) -> Records:
    n = len(values)
    return Records("id", [1] * n, list(range(7, 7 + n)), [AT] * n, keys, values)


def changed(valid: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(valid | fields).encode()


LABEL: dict[str, Any] = {
    "transaction_id": "x1",
    "user_id": "u1",
    "merchant_id": "m1",
    "timestamp": "2026-02-01T10:00:00Z",
    "is_fraud": True,
    "labelled_at": "2026-03-01T12:09:00.250Z",
    "source": "analyst",
}


def test_labels_that_nobody_may_count_are_refused_and_say_why() -> None:
    future = format_time(AT + 600_001)
    bad = [None, b"{", changed(LABEL, source="rumour"), changed(LABEL), changed(LABEL, labelled_at=future)]
    decoded = records.labels(of([changed(LABEL), *bad], [b"u1", b"u1", b"u1", b"u1", b"u2", b"u1"]))
    assert {at: why.reason for at, why in decoded.refused.items()} == {
        1: "null_value",
        2: "not_json",
        3: "schema",
        4: "key_mismatch",
        5: "future_timestamp",
    }
    (row,) = decoded.rows.to_pylist()
    assert (row["topic_id"], row["partition"], row["offset"]) == ("id", 1, 7)
    assert format_time(round(row["labelled_at"].timestamp() * 1000)) == LABEL["labelled_at"]
    assert (row["is_fraud"], row["source"], row["user_id"]) == (True, "analyst", "u1")
    assert decoded.refused[5].field == "labelled_at"


def test_a_transaction_keeps_every_field_and_the_digest_of_its_bytes() -> None:
    raw = messages.transaction()
    valid = msgspec.json.encode(raw) if not isinstance(raw, bytes) else raw
    sent = json.loads(valid)
    decoded = records.transactions(of([valid, b"nonsense"], [sent["user_id"].encode()] * 2))
    (row,) = decoded.rows.to_pylist()
    assert row["digest"] % 2**64 == digest(valid)
    for name, value in sent.items():
        if name != "timestamp" and name in row:
            assert row[name] == value


def test_a_strangers_record_is_counted_and_left_out() -> None:
    for decode in (records.predictions, records.rejections):
        decoded = decode(of([None, b"{}", b"[" * 100_000], [None] * 3))
        assert (decoded.rows.num_rows, decoded.strange) == (0, 3)


def test_a_prediction_keeps_its_features_in_their_order_and_nulls_as_nulls() -> None:
    features: dict[str, Any] = {name: n + 0.5 for n, name in enumerate(FEATURE_NAMES)}
    features["user_txn_count_1h"] = 3
    features["km_since_last_txn"] = None
    sent = {
        **{name: LABEL[name] for name in ("transaction_id", "user_id", "merchant_id", "timestamp")},
        "amount": 5.0,
        "rolling_avg_7d": None,
        "amount_to_avg_ratio": 1.0,
        "fraud_probability": 0.25,
        "prediction": 0,
        "decision": "APPROVE",
        "threshold": 0.5,
        "model_name": "n",
        "model_version": "1",
        "feature_version": "1",
        "features": dict(reversed(features.items())),
        "profile_through": None,
        "source": {"topic": "transactions", "partition": 1, "offset": 70},
        "scored_at": "2026-03-01T12:00:00.001Z",
    }
    (row,) = records.predictions(of([json.dumps(sent).encode()], [b"u1"])).rows.to_pylist()
    assert row["features"] == features
    assert (row["source_partition"], row["source_offset"], row["profile_through"]) == (1, 70, None)
    assert (row["fraud_probability"], row["decision"], row["model_version"]) == (0.25, "APPROVE", "1")


def test_every_topic_has_its_table_and_no_rows_are_no_problem() -> None:
    tables = {table.topic: table for table in TABLES if table.topic is not None}
    assert {topic: table for topic, (table, _) in records.DECODERS.items()} == tables
    for table, decode in records.DECODERS.values():
        empty = decode(of([], [])).rows
        assert set(table.schema.names) - set(empty.column_names) == {"date", "query", "batch"}
