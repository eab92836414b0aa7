"""The stream without Spark: a small simulated past, and `score_slice` driven over it partition by partition."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count

import numpy as np
import polars as pl

from fraud import bus, codec
from fraud.decision import Model, Slice, Terms
from fraud.model import Scorer
from fraud.schema import Transaction
from fraud.scoring import score_slice
from fraud.store.base import Answers, PartitionKey, Pointer, Store
from producer.simulate import Config, Simulation, generate
from tests.models import small_bundle

TOPIC_ID = "topic-a"
PARTITIONS = 2
NOW = codec.parse_time("2024-03-01T00:00:00Z")  # after everything simulated here
DAY_MS = 86_400_000

Message = tuple[bytes | None, bytes | None]  # key and value


@lru_cache(maxsize=1)
def simulation() -> Simulation:
    """Return twenty days of sixty users, with late and out-of-order events."""
    return generate(Config(datetime(2024, 2, 1, tzinfo=UTC), days=20, seed=5, users=60, merchants=40, per_day=3.0))


def day(number: int) -> int:
    """Return the beginning of a simulated day, in ms since the epoch."""
    return codec.parse_time("2024-02-01T00:00:00Z") + number * DAY_MS


def transactions(table: pl.DataFrame) -> list[Transaction]:
    """Return a table's rows as messages have them."""
    texts = table.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    return [Transaction(**row) for row in texts.iter_rows(named=True)]


def encoded(rows: Sequence[Transaction]) -> list[Message]:
    """Return keys and values."""
    return [(row.user_id.encode(), codec.encode(row)) for row in rows]


def by_partition(messages: Sequence[Message], partitions: int = PARTITIONS) -> list[list[Message]]:
    """Place messages as Kafka's clients would."""
    parts: list[list[Message]] = [[] for _ in range(partitions)]
    for key, value in messages:
        parts[bus.partition_of((key or b"").decode(), partitions)].append((key, value))
    return parts


def model(version: str = "1") -> Model:
    """Return a small model."""
    return Model(Scorer(small_bundle(0)), Pointer(int(version), "0" * 64, "fraud-detector", version, NOW))


def slices(
    parts: Sequence[Sequence[Message]], broker_times: Sequence[Sequence[int]] | None = None, size: int = 97
) -> Iterator[Slice]:
    """Yield every partition's messages in slices; the broker's time is NOW where none is given."""
    for number, part in enumerate(parts):
        times = np.full(len(part), NOW) if broker_times is None else np.array(broker_times[number], np.int64)
        for start in range(0, len(part), size):
            rows = part[start : start + size]
            yield Slice(
                PartitionKey(TOPIC_ID, number),
                bus.TRANSACTIONS,
                np.arange(start, start + len(rows)),
                [key for key, _ in rows],
                [value for _, value in rows],
                times[start : start + len(rows)],
            )


_owners = count()


def score(store: Store, stream: Iterator[Slice], *, partitions: int = PARTITIONS) -> list[Answers]:
    """Score slices in order, as the job would, from offset 0 on; no transaction is too old."""
    owner = f"stream {next(_owners)}"
    lease = store.histories.acquire("score", owner, host="here", pid=1, now=NOW, ttl=60_000)
    store.histories.start({PartitionKey(TOPIC_ID, number): 0 for number in range(partitions)}, lease)
    terms = Terms(lease.epoch, None)
    answers = [score_slice(part, store, model(), terms, now_ms=NOW) for part in stream]
    store.histories.release(lease)
    return answers
