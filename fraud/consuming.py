"""Follow a topic of answers in a consumer group, and sum up what was seen.

Delivery: at least once. An offset is committed after its message was shown; after a crash the last ones come
again.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from fraud import bus
from fraud.errors import ServiceError
from fraud.settings import Settings

if TYPE_CHECKING:
    from kafka import KafkaConsumer

Start = Literal["beginning", "end"]

COMMIT_S = 1.0
RATE_S = 10.0  # a rate is the mean of so many seconds
SAMPLES = 2_000  # latencies kept: the newest
_PEEK = 200  # transactions read at once to learn their broker times
_COMMIT_MS = 5_000


@dataclass(frozen=True)
class Answer:
    """A prediction or a rejection as it stands on its topic.

    `message` is the JSON object, with whatever fields a newer job writes; `raw` its bytes; `at_ms` the
    broker's time.
    """

    message: dict[str, Any]
    raw: bytes
    partition: int
    offset: int
    at_ms: int


class Follower:
    """A member of a consumer group; `shown` decides what is committed."""

    def __init__(self, client: "KafkaConsumer", bootstrap: str) -> None:
        self.client, self.bootstrap = client, bootstrap
        self.unreadable = 0
        self.done: dict[Any, int] = {}
        self.committed_at = time.monotonic()

    def poll(self, timeout_ms: int = 200) -> list[Answer]:
        """Return the next answers of all partitions by the broker's time; what is no object is left out, counted.

        Raises:
            ServiceError: Kafka refuses; while it is away nothing comes.
        """
        from kafka.errors import KafkaError

        try:
            found = self.client.poll(timeout_ms=timeout_ms)
        except KafkaError as exc:
            raise ServiceError(f"Kafka at {self.bootstrap} refuses to be read: {type(exc).__name__}: {exc}") from exc
        records = [record for part in found.values() for record in part]
        answers = []
        for record in sorted(records, key=lambda r: r.timestamp):
            try:
                message = msgspec.json.decode(record.value or b"")
            except msgspec.DecodeError:
                message = None
            if isinstance(message, dict):
                answers.append(Answer(message, record.value, record.partition, record.offset, record.timestamp))
            else:
                self.unreadable += 1
        return answers

    def shown(self, answers: Sequence[Answer], topic: str) -> None:
        """Take answers as dealt with; now and then commit how far that is."""
        from kafka import TopicPartition

        for answer in answers:
            part = TopicPartition(topic, answer.partition)
            self.done[part] = max(self.done.get(part, 0), answer.offset + 1)
        if time.monotonic() - self.committed_at >= COMMIT_S:
            self.commit()

    def commit(self) -> bool:
        """Commit what was shown; False where Kafka is away or the partitions went to another member."""
        from kafka.errors import KafkaError
        from kafka.structs import OffsetAndMetadata

        self.committed_at = time.monotonic()
        mine = self.client.assignment()
        offsets = {part: OffsetAndMetadata(offset, "", -1) for part, offset in self.done.items() if part in mine}
        self.done.clear()
        try:
            if offsets:
                self.client.commit(offsets, timeout_ms=_COMMIT_MS)
        except KafkaError:
            return False
        return True


@contextmanager
def follow(settings: Settings, topic: str, *, group: str, start: Start | None) -> Iterator[Follower]:
    """Join a consumer group on a topic.

    Args:
        start: where to begin; None: where the group was, the first time at the beginning.

    Raises:
        StateError: there is no such topic. ServiceError: Kafka is away, also at the end, when what was shown
        can't be committed.
    """
    bus.describe(settings.kafka_bootstrap, topic)
    client = bus.consumer(settings.kafka_bootstrap, group_id=group, client_id=group, reconnect_backoff_max_ms=1_000)
    try:
        client.subscribe([topic], listener=_listener(client, start))
        follower = Follower(client, settings.kafka_bootstrap)
        yield follower
        if not follower.commit():
            raise ServiceError(
                f"Kafka at {settings.kafka_bootstrap} didn't note how far group {group!r} has read: "
                f"the last messages will come again"
            )
    finally:
        client.close(autocommit=False, timeout_ms=_COMMIT_MS)


def _listener(client: "KafkaConsumer", start: Start | None) -> Any:
    """Seek a partition when it is assigned for the first time."""
    from kafka import ConsumerRebalanceListener

    class Seek(ConsumerRebalanceListener):  # type: ignore[misc]
        seen: set[Any] = set()  # noqa: RUF012

        def on_partitions_revoked(self, revoked: object) -> None:
            """Keep quiet: what was shown is committed by the follower."""

        def on_partitions_assigned(self, assigned: list[Any]) -> None:
            fresh = [part for part in assigned if part not in self.seen]
            self.seen.update(fresh)
            if fresh and start is not None:
                (client.seek_to_beginning if start == "beginning" else client.seek_to_end)(*fresh)

    listener = Seek()
    listener.seen = set()
    return listener


@dataclass
class Tally:
    """What was seen so far: how many of each kind, how fast, the newest ones."""

    kind: Literal["decision", "reason"]
    keep: int = 15
    counts: Counter[str] = field(default_factory=Counter)
    newest: deque[Answer] = field(default_factory=deque)
    latencies_ms: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    _arrivals: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, answers: Sequence[Answer], now: float) -> None:
        """Count answers that arrived at `now`, a monotonic clock's seconds."""
        self._arrivals.append((now, len(answers)))
        for answer in answers:
            self.counts[str(answer.message.get(self.kind))] += 1
            self.newest.appendleft(answer)
        while len(self.newest) > self.keep:
            self.newest.pop()

    @property
    def total(self) -> int:
        return self.counts.total()

    def rate(self, now: float) -> float:
        """Return answers a second over the last RATE_S seconds."""
        while self._arrivals and self._arrivals[0][0] < now - RATE_S:
            self._arrivals.popleft()
        if not self._arrivals:
            return 0.0
        return sum(n for _, n in self._arrivals) / max(1.0, now - self._arrivals[0][0])

    def percentile_ms(self, q: float) -> float | None:
        """Return a percentile of the latencies; None without any."""
        return float(np.percentile(np.array(self.latencies_ms), q)) if self.latencies_ms else None


class Latencies:
    """Learns how long predictions took: their broker's time minus their transaction's, by sampling."""

    def __init__(self, client: "KafkaConsumer") -> None:
        self.client = client

    def sample(self, predictions: Sequence[Answer]) -> list[int]:
        """Return the latencies, in ms, of some of `predictions`; none where Kafka doesn't answer soon."""
        from kafka import TopicPartition

        wanted: dict[tuple[int, int], int] = {}
        for each in predictions:
            source = each.message.get("source")
            if isinstance(source, dict) and source.get("topic") == bus.TRANSACTIONS:
                wanted[source["partition"], source["offset"]] = each.at_ms
        first: dict[int, int] = {}
        for partition, offset in sorted(wanted):
            first.setdefault(partition, offset)
        if not first:
            return []
        parts = {partition: TopicPartition(bus.TRANSACTIONS, partition) for partition in first}
        self.client.assign(list(parts.values()))
        for partition, offset in first.items():
            self.client.seek(parts[partition], offset)
        read = self.client.poll(timeout_ms=200, max_records=_PEEK * len(first))
        return [
            wanted[r.partition, r.offset] - r.timestamp
            for records in read.values()
            for r in records
            if (r.partition, r.offset) in wanted
        ]


@contextmanager
def latencies(settings: Settings) -> Iterator[Latencies]:
    """Open what samples latencies; it belongs to no group."""
    client = bus.consumer(settings.kafka_bootstrap, client_id="fraud-latency", max_partition_fetch_bytes=256 * 1024)
    try:
        yield Latencies(client)
    finally:
        client.close()
