"""The archive job as a test sees it, the topics as it must have kept them, and predictions without a score job.

with Archive(settings) as job:
    job.start().ready()
    send(settings, [*payments(100), verdict(3)])
    caught_up(settings)               # `archive --wait`
assert_equal_to_topics(settings)
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import polars as pl

from fraud import bus, codec
from fraud.archive.records import DECODERS
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.lake import open_lake
from fraud.lake.tables import Table
from fraud.schema import Transaction
from fraud.settings import Settings
from fraud.stack import classes
from spark_jobs.archive_wait import Waited, wait
from tests import servers

READY = "archiving transactions"
NOW = time.time_ns() // 1_000_000
DAY_MS = 86_400_000
PATIENCE_SECONDS = 150.0  # a start, a batch or an end on a busy machine


@dataclass(frozen=True)
class Sent:
    """A message and where it goes."""

    topic: str
    key: bytes | None
    value: bytes | None


class Archive:
    """The archive job as a subprocess; leaving its block ends it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log_file = settings.logs / "archive-test.log"
        self.fault_file = settings.home.absolute() / "archive-fault.json"
        self.process: subprocess.Popen[bytes] | None = None
        self._said = 0

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        """What its last run said."""
        return self.log_file.read_text(errors="replace")[self._said :]

    def start(self) -> "Archive":
        """Start it; the same home goes on."""
        classes.ensure(self.settings, print)  # as `up` does
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._said = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.spark_jobs.archive_entry"],
                cwd=servers.REPOSITORY,
                env=servers.environment(self.settings) | {"FAULT_FILE": str(self.fault_file)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=servers._die_with_pytest,
            )
        return self

    def ready(self, seconds: float = 90.0) -> "Archive":
        """Wait until its query runs."""

        def said() -> bool:
            assert self.process is not None
            assert self.process.poll() is None or READY in self.log, self.log[-3000:]
            return READY in self.log

        servers.wait_for(f"the archive job runs (see {self.log_file})", said, seconds)
        return self

    @property
    def batches(self) -> int:
        """Return how many batches its runs have told of."""
        path = self.settings.logs / "archive-progress.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def wait_for_a_batch(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until another batch is done."""
        before = self.batches
        servers.wait_for("a batch is archived", lambda: self.batches > before, seconds)

    def order(self, step: str) -> None:
        """Let it die after this step, once."""
        fresh = self.fault_file.with_suffix(".new")
        fresh.write_text(json.dumps({"step": step}))
        fresh.replace(self.fault_file)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until it ends; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the archive job still runs after {seconds} s:\n{self.log[-3000:]}") from None

    def kill(self) -> None:
        """kill -9 of its driver."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.wait()


def caught_up(settings: Settings, seconds: float = PATIENCE_SECONDS) -> Waited:
    """Wait until the lake holds what the topics hold now, and what the job itself has rejected of it."""
    wait(settings, seconds, lambda _words: None)
    return wait(settings, seconds, lambda _words: None)


def payment(n: int, *, at: int = NOW - 30 * DAY_MS, **changes: Any) -> Sent:
    """Return payment `n` of one of 50 users at one of 20 merchants, a minute after the one before it."""
    values = {
        "transaction_id": f"t{n}",
        "user_id": f"u{n % 50}",
        "merchant_id": f"m{n % 20}",
        "timestamp": codec.format_time(at + n * 60_000),
        "amount": 10.0 + n % 100,
        "currency": "EUR",
        "country": "DE" if n % 4 else None,
        "latitude": 52.5 if n % 3 else None,
        **changes,
    }
    return Sent(bus.TRANSACTIONS, str(values["user_id"]).encode(), json.dumps(values).encode())


def verdict(n: int, fraud: bool = True, *, at: int = NOW - DAY_MS, key: bytes | None = None, **changes: Any) -> Sent:
    """Return a label of payment `n`, given at `at`."""
    values = json.loads(payment(n).value or b"")
    wanted = {name: values[name] for name in ("transaction_id", "user_id", "merchant_id", "timestamp")}
    label = {**wanted, "is_fraud": fraud, "labelled_at": codec.format_time(at), "source": "analyst", **changes}
    return Sent(bus.LABELS, key or str(label["user_id"]).encode(), json.dumps(label).encode())


def send(settings: Settings, messages: Iterable[Sent]) -> list[tuple[int, int]]:
    """Send messages in order; return each one's partition and offset."""
    producer = bus.producer(settings.kafka_bootstrap)
    try:
        futures = [producer.send(one.topic, key=one.key, value=one.value) for one in messages]
        producer.flush(30)
        found = [future.get(30) for future in futures]
    finally:
        producer.close()
    return [(each.partition, each.offset) for each in found]


def answer(message: Sent, source: tuple[int, int]) -> Sent:
    """Return what a score job would say of a payment: a prediction, or a rejection of what it can't read."""
    payment = codec.decode_transaction(message.value, message.key)
    at = codec.format_time(NOW)
    if not isinstance(payment, Transaction):
        key, value = codec.reject(
            payment,
            topic=bus.TRANSACTIONS,
            partition=source[0],
            offset=source[1],
            key=message.key,
            raw=message.value,
            rejected_at=at,
        )
        return Sent(bus.DLQ, key, value)
    prediction = {
        **{
            name: getattr(payment, name) for name in ("transaction_id", "user_id", "merchant_id", "timestamp", "amount")
        },
        "rolling_avg_7d": None,
        "amount_to_avg_ratio": 1.5,
        "fraud_probability": source[1] % 100 / 100,
        "prediction": 0,
        "decision": "APPROVE",
        "threshold": 0.5,
        "model_name": "fraud-detector",
        "model_version": "1",
        "feature_version": FEATURE_VERSION,
        "features": {name: None if n % 5 == 0 else n + 0.25 for n, name in enumerate(FEATURE_NAMES)},
        "profile_through": at if source[1] % 2 else None,
        "source": {"topic": bus.TRANSACTIONS, "partition": source[0], "offset": source[1]},
        "scored_at": at,
    }
    return Sent(bus.PREDICTIONS, message.key, json.dumps(prediction).encode())


def send_answered(settings: Settings, payments: Sequence[Sent]) -> None:
    """Send payments, and what a score job says of them."""
    sources = send(settings, payments)
    send(settings, [answer(message, source) for message, source in zip(payments, sources, strict=True)])


def topic_records(settings: Settings, topic: str) -> list[Any]:
    """Return every record that a topic holds."""
    from kafka import TopicPartition

    ends = bus.end_offsets(settings.kafka_bootstrap, topic)
    parts = [TopicPartition(topic, part) for part in ends]
    found: list[Any] = []
    with bus.consumer(settings.kafka_bootstrap, check_crcs=False, max_poll_records=5_000) as client:
        client.assign(parts)
        client.seek_to_beginning(*parts)
        deadline = time.monotonic() + 30
        while len(found) < sum(ends.values()):
            for records in client.poll(timeout_ms=200).values():
                found += records
            assert time.monotonic() < deadline, f"{topic}: {len(found)} of {ends}"
    return found


def rows_of(settings: Settings, table: Table) -> list[dict[str, Any]]:
    """Return a table's rows."""
    return open_lake(settings).scan(table).sort("partition", "offset").collect().to_dicts()


def assert_equal_to_topics(settings: Settings) -> dict[str, int]:
    """Compare every table with its topic, record by record and field by field; return each table's rows."""
    counts = {}
    for topic, (table, _) in DECODERS.items():
        wanted = {}
        for record in topic_records(settings, topic):
            fields = _fields(topic, record)
            if fields is not None:
                wanted[record.partition, record.offset] = fields | {"broker_time": codec.format_time(record.timestamp)}
        found = rows_of(settings, table)
        places = [(row["partition"], row["offset"]) for row in found]
        assert len(places) == len(set(places)), f"{table.name}: a record is there twice"
        assert set(places) == set(wanted), f"{table.name}: {len(places)} rows of {len(wanted)}"
        for row in found:
            said = wanted[row["partition"], row["offset"]]
            assert {name: _plain(row[name]) for name in said} == said, table.name
        counts[table.name] = len(found)
    return counts


def _fields(topic: str, record: Any) -> dict[str, Any] | None:
    """Return what a record says, by the table's columns; None where it has no row."""
    if topic == bus.TRANSACTIONS:
        if not isinstance(codec.decode_transaction(record.value, record.key), Transaction):
            return None
        sent: dict[str, Any] = json.loads(record.value)
        return sent | {"digest": codec.digest(record.value) - (codec.digest(record.value) >> 63 << 64)}
    if topic == bus.LABELS and isinstance(codec.decode_label(record.value, record.key), codec.Refused):
        return None
    said: dict[str, Any] = json.loads(record.value)
    if topic == bus.LABELS and codec.parse_time(said["labelled_at"]) - record.timestamp > 600_000:
        return None
    if "source" in said and isinstance(said["source"], dict):
        source = said.pop("source")
        said |= {"source_partition": source["partition"], "source_offset": source["offset"]}
        if topic == bus.DLQ:
            said |= {"source_topic": source["topic"], "key": record.key}
    said.pop("rolling_avg_7d", None)
    said.pop("amount_to_avg_ratio", None)
    times = ("timestamp", "labelled_at", "scored_at", "rejected_at", "profile_through")
    return {
        name: codec.format_time(codec.parse_time(value)) if name in times and value else value
        for name, value in said.items()
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "timestamp"):
        return codec.format_time(round(value.timestamp() * 1000))
    return value


def totals(changes: pl.DataFrame) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (merchant, quarter) → transactions and frauds."""
    summed = changes.group_by("merchant_id", "quarter").agg(pl.col("transactions").sum(), pl.col("frauds").sum())
    return {(merchant, quarter): (count, frauds) for merchant, quarter, count, frauds in summed.rows()}


def original(row: dict[str, Any]) -> bytes:
    """Return a rejection's original message."""
    return base64.b64decode(row["original"])
