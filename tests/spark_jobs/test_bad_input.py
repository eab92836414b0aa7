"""Every bad message that issue A names, through a real Kafka and a real Spark, in one micro-batch.

A case is refused as the contracts say (or scored, where it only looks bad), the good rows beside it are
scored, and the query lives.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fraud import bus, codec
from fraud.schema import MAX_BYTES, MAX_KEY_BYTES
from fraud.settings import Settings
from tests import servers
from tests.spark_jobs import jobs
from tests.spark_jobs.jobs import Answers, Message, Source

pytestmark = pytest.mark.server

NOW = time.time_ns() // 1_000_000
USER = "u0"
PARTITION = bus.partition_of(USER, 2)  # everything goes where the good rows go: one slice
TRANSACTION: dict[str, Any] = {**json.loads(jobs.message(0, now_ms=NOW)[1] or b""), "user_id": USER}


@dataclass(frozen=True)
class Case:
    """A message and how it is answered; `reason` None: scored. `before`: what is sent (and scored) first."""

    name: str
    message: Message
    reason: str | None
    field: str | None = None
    before: tuple[Message, ...] = ()


def raw(name: str, value: bytes | None, reason: str | None, *, key: bytes | None = USER.encode()) -> Case:
    return Case(name, Message(key, value, PARTITION), reason)


def changed(name: str, reason: str | None, field: str | None = None, **changes: Any) -> Case:
    """Return a case whose message is a good one with other fields; its key is its user_id."""
    return Case(name, transaction(name, **changes), reason, field)


def transaction(name: str, **changes: Any) -> Message:
    values = {**TRANSACTION, "transaction_id": name, **changes}
    return Message(str(values["user_id"]).encode(), json.dumps(values).encode(), PARTITION)


def at(ms: int) -> str:
    return codec.format_time(ms)


def padded(name: str, size: int) -> bytes:
    """Return a valid transaction of exactly `size` bytes; unknown fields are ignored."""
    empty = json.dumps({**TRANSACTION, "transaction_id": name, "padding": ""}).encode()
    return empty.replace(b'"padding": ""', b'"padding": "' + b"x" * (size - len(empty)) + b'"')


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in TRANSACTION.items() if name != field}).encode()


DAY = 86_400_000
HERE, THERE = {"latitude": 52.5, "longitude": 13.4}, {"latitude": -33.9, "longitude": 151.2}
CASES = [
    raw("not JSON", b"amount=3;user=u0", "not_json"),
    raw("invalid UTF-8", b'{"transaction_id": "\xff\xfe"}', "not_utf8"),
    raw("null value", None, "null_value"),
    raw("empty value", b"", "not_json"),
    Case("empty object", Message(USER.encode(), b"{}", PARTITION), "schema", "transaction_id"),
    changed("wrong types", "schema", "merchant_id", merchant_id=7),
    Case("missing field", Message(USER.encode(), without("currency"), PARTITION), "schema", "currency"),
    changed("amount 0", "schema", "amount", amount=0),
    changed("amount negative", "schema", "amount", amount=-1.5),
    raw("amount NaN", json.dumps({**TRANSACTION, "amount": float("nan")}).encode(), "not_json"),
    changed("amount 1e300", "schema", "amount", amount=1e300),
    changed("amount a string", "schema", "amount", amount="12.50"),
    raw("a 5 MB message", padded("large", 5_000_000), "too_large"),
    raw("nesting 30,000 deep", b"[" * 30_000 + b"]" * 30_000, "too_deep"),
    raw("nesting 200,000 deep", b"[" * 200_000 + b"]" * 200_000, "too_large"),
    changed("an id of 0 characters", "schema", "user_id", user_id=""),
    changed("an id of 65 characters", "schema", "user_id", user_id="x" * 65),
    changed("an id of 600 characters", "schema", "user_id", user_id="x" * 600),
    changed("an id with a newline", "schema", "user_id", user_id="u0\n"),
    raw("key isn't user_id", transaction("k1").value, "key_mismatch", key=b"u1"),
    raw("no key", transaction("k2").value, "key_mismatch", key=None),
    changed("timestamp in the future", "future_timestamp", "timestamp", timestamp=at(NOW + DAY)),
    changed("timestamp too old", "too_old", "timestamp", timestamp=at(NOW - 8 * DAY)),
    changed("timestamp without zone", "schema", "timestamp", timestamp=at(NOW).rstrip("Z")),
    changed("timestamp that overflows", "schema", "timestamp", timestamp="9999-12-31T23:59:59-01:00"),
    changed("30 February", "schema", "timestamp", timestamp="2026-02-30T12:00:00Z"),
    Case("a repeat", transaction("r1"), "duplicate", "transaction_id", before=(transaction("r1"),)),
    Case(
        "a repeat with another amount",
        transaction("r2", amount=9_999.0),
        "conflicting_duplicate",
        "transaction_id",
        before=(transaction("r2"),),
    ),
    Case("two places at one millisecond", transaction("p2", **THERE), None, before=(transaction("p1", **HERE),)),
    changed("an exception inside the kernel", "internal_error"),
    # What the limits let pass, and what they don't.
    raw("a value of 65,536 bytes", padded("limit", MAX_BYTES), None),
    raw("a value of 65,537 bytes", padded("limit+1", MAX_BYTES + 1), "too_large"),
    raw("a key of 1,024 bytes", transaction("k3").value, "key_mismatch", key=b"k" * MAX_KEY_BYTES),
    raw("a key of 1,025 bytes", transaction("k4").value, "key_mismatch", key=b"k" * (MAX_KEY_BYTES + 1)),
    raw("the largest rejection", b"\xff" * MAX_BYTES, "not_utf8", key=b"\xff" * 100_000),
]


@dataclass(frozen=True)
class Outcome:
    """What came of all cases: where each stands, the good rows around it, and every answer."""

    at: dict[str, Source]
    beside: dict[str, list[Source]]
    answers: Answers
    settings: Settings
    job: jobs.Job


@pytest.fixture(scope="module")
def outcome(
    kafka: servers.Server, stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """Send every case between good rows, in one go, and score them with one job."""
    servers.fresh_topics(stack_settings)
    home: Path = tmp_path_factory.mktemp("bad")
    settings = servers.settings(home, kafka_bootstrap=stack_settings.kafka_bootstrap)
    jobs.publish_model(settings)
    sent: list[Message] = []
    index: dict[str, int] = {}
    beside: dict[str, list[int]] = {}
    for number, case in enumerate(CASES):
        first = len(sent)
        sent += [transaction(f"good-{number}"), *case.before, case.message]
        index[case.name] = len(sent) - 1
        beside[case.name] = [*range(first, len(sent) - 1), len(sent)]  # the next case's good row too
    sent.append(transaction("good-last"))
    sources = jobs.produce(settings, sent)
    with jobs.Job(settings) as job:
        job.fault("features", "raise", transaction="an exception inside the kernel", once=False)
        job.start().wait_until_scoring()
        answers = jobs.answers(settings)
        yield Outcome(
            {name: sources[i] for name, i in index.items()},
            {name: [sources[i] for i in rows] for name, rows in beside.items()},
            answers,
            settings,
            job,
        )
        assert job.stop() == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(case: Case, outcome: Outcome) -> None:
    source = outcome.at[case.name]
    (answer,) = outcome.answers.by_source[source]
    said = answer.json()
    assert said["source"] == {"topic": bus.TRANSACTIONS, "partition": source.partition, "offset": source.offset}
    if case.reason is None:
        assert answer.kind == "prediction", said
        assert answer.key == case.message.key
    else:
        assert answer.kind == "rejection", said
        assert (said["reason"], said["field"]) == (case.reason, case.field), said["detail"]
        key, value = case.message.key, case.message.value
        assert answer.key == (None if key is None else key[:MAX_KEY_BYTES])
        assert said["key_length"] == (None if key is None else len(key))
        if value is None:
            assert (said["original"], said["length"], said["sha256"]) == (None, None, None)
        else:
            assert base64.b64decode(said["original"]) == value[:MAX_BYTES]
            assert (said["length"], said["sha256"]) == (len(value), hashlib.sha256(value).hexdigest())
    for good in outcome.beside[case.name]:
        (prediction,) = outcome.answers.by_source[good]
        assert prediction.kind == "prediction", prediction.json()


def test_two_places_at_one_millisecond_have_no_speed(outcome: Outcome) -> None:
    features = outcome.answers[outcome.at["two places at one millisecond"]].json()["features"]
    assert features["km_since_last_txn"] == pytest.approx(16_000, rel=0.02)
    assert features["minutes_since_last_txn"] == 0
    assert features["speed_kmh"] is None


def test_a_refused_row_leaves_no_trace_in_its_users_history(outcome: Outcome) -> None:
    """Every good row counts exactly the good ones before it: 30-day counts go up by one a row."""
    scored = sorted((at, copies[0].json()) for at, copies in outcome.answers.predictions.items())
    counts = [said["features"]["user_txn_count_30d"] for _, said in scored if said["user_id"] == USER]
    assert counts == list(range(len(counts)))


def test_the_query_lives(outcome: Outcome) -> None:
    (source,) = jobs.produce(outcome.settings, [transaction("after all")])
    assert jobs.answers(outcome.settings)[source].kind == "prediction"
    assert outcome.job.returncode is None
    assert "Exception" not in outcome.job.log
