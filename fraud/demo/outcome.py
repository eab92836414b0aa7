"""What a streamed run left on the topics, and what it amounts to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fraud import bus
from fraud.errors import ServiceError

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

POLL_MS = 500
IDLE_POLLS = 40
FETCH_BYTES = 8 << 20

Offset = tuple[int, int]  # partition, offset of `transactions`


class Source(msgspec.Struct, frozen=True):
    """Which message an answer is about."""

    partition: int
    offset: int


class Scored(msgspec.Struct, frozen=True, gc=False):
    """The part of a prediction that the report needs."""

    source: Source
    transaction_id: str
    user_id: str
    fraud_probability: float
    prediction: int
    model_version: str


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The part of a rejection that the report needs."""

    source: Source
    reason: str


@dataclass
class Outcome:
    """The topics' content: each source offset's first answer, times in ms by the broker's clock.

    `duplicates`: predictions beyond one per offset.
    """

    arrived: dict[Offset, int] = field(default_factory=dict)
    scored: dict[Offset, tuple[int, Scored]] = field(default_factory=dict)
    rejected: dict[Offset, str] = field(default_factory=dict)
    duplicates: int = 0

    def missing(self) -> int:
        """Return how many messages have no answer."""
        return len(self.arrived) - len(self.scored.keys() | self.rejected.keys())


def read(bootstrap: str, since: Mapping[int, int]) -> Outcome:
    """Read what was sent to `transactions` from the offsets `since` on, and its answers.

    Raises:
        ServiceError: Kafka is away, or doesn't give what it said it holds.
    """
    outcome = Outcome()
    for record in _records(bootstrap, bus.TRANSACTIONS, since):
        outcome.arrived[record.partition, record.offset] = record.timestamp
    scored = msgspec.json.Decoder(Scored)
    for record in _records(bootstrap, bus.PREDICTIONS, {}):
        prediction = scored.decode(record.value)
        at = prediction.source.partition, prediction.source.offset
        if at in outcome.scored:
            outcome.duplicates += 1
        elif at in outcome.arrived:
            outcome.scored[at] = record.timestamp, prediction
    refused = msgspec.json.Decoder(Refusal)
    for record in _records(bootstrap, bus.DLQ, {}):
        rejection = refused.decode(record.value)
        at = rejection.source.partition, rejection.source.offset
        if at in outcome.arrived:
            outcome.rejected[at] = rejection.reason
    return outcome


def _records(bootstrap: str, topic: str, since: Mapping[int, int]) -> Iterator["ConsumerRecord"]:
    """Yield a topic's records from `since` (else from its beginning) to its end as it is now."""
    from kafka import TopicPartition

    ends = bus.end_offsets(bootstrap, topic)
    begins = bus.begin_offsets(bootstrap, topic)
    open_parts = {p: end for p, end in ends.items() if end > max(since.get(p, 0), begins[p])}
    if not open_parts:
        return
    consumer = bus.consumer(
        bootstrap,
        max_poll_records=10_000,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=FETCH_BYTES,
        check_crcs=False,
    )
    try:
        parts = {p: TopicPartition(topic, p) for p in open_parts}
        consumer.assign(list(parts.values()))
        for p, part in parts.items():
            consumer.seek(part, max(since.get(p, 0), begins[p]))
        idle = 0
        while open_parts:
            found = consumer.poll(timeout_ms=POLL_MS)
            idle = 0 if found else idle + 1
            if idle > IDLE_POLLS:
                raise ServiceError(f"Kafka at {bootstrap} gave nothing of {topic} for {IDLE_POLLS * POLL_MS // 1000} s")
            for records in found.values():
                for record in records:
                    if record.offset < ends[record.partition]:
                        yield record
            for p, part in parts.items():
                if p in open_parts and consumer.position(part) >= ends[p]:
                    del open_parts[p]
    finally:
        consumer.close()


def report(
    outcome: Outcome, produced: int, truth: Mapping[str, str | None], promoted: Mapping[str, int], peak_mb: float
) -> dict[str, Any]:
    """Return the demo's report (contracts.md, Reports).

    Args:
        produced: valid and bad messages that the broker acknowledged.
        truth: transaction_id → how it is a fraud, None where it is none; the simulator's.
        promoted: version → when its promotion returned, ms by the broker's clock; the first is the one that the
            stream began with.
        peak_mb: sum of PSS over every process of the demo.
    """
    from fraud.evaluation import ranking_quality

    latencies = [at - outcome.arrived[key] for key, (at, _) in outcome.scored.items()]
    known = [row for _, row in outcome.scored.values() if row.transaction_id in truth]
    fraud = np.array([truth[row.transaction_id] is not None for row in known], bool)
    flagged = np.array([row.prediction == 1 for row in known], bool)
    score = np.array([row.fraud_probability for row in known])
    hits = int((flagged & fraud).sum())
    first_seen: dict[str, int] = {}
    for at, row in outcome.scored.values():
        first_seen[row.model_version] = min(at, first_seen.get(row.model_version, at))
    swapped = [first_seen[v] - at for v, at in list(promoted.items())[1:] if v in first_seen]
    return {
        "produced": produced,
        "scored": len(outcome.scored),
        "rejected": len(outcome.rejected.keys() - outcome.scored.keys()),
        "missing": produced - len(outcome.scored.keys() | outcome.rejected.keys()),
        "duplicates": outcome.duplicates,
        "latency_ms": {f"p{q}": _percentile(latencies, q) for q in (50, 95, 99)},
        "model_versions": sorted(first_seen, key=lambda version: first_seen[version]),
        "swap_seconds": round(max(swapped) / 1000, 2) if swapped else None,
        "recall": round(hits / max(int(fraud.sum()), 1), 4),
        "precision": round(hits / max(int(flagged.sum()), 1), 4),
        "average_precision": ranking_quality(score, fraud),
        "peak_rss_mb": peak_mb,
    }


def recall_of(
    outcome: Outcome, truth: Mapping[str, str | None], pattern: str, promoted: Mapping[str, int]
) -> dict[str, Any]:
    """Return how much of one pattern the first version found, and how much the last, at their own thresholds.

    A recall is None where a version met none of it; `new_pattern` has the counts behind both.
    """
    found: dict[str, list[bool]] = {}
    for _, row in outcome.scored.values():
        if truth.get(row.transaction_id) == pattern:
            found.setdefault(row.model_version, []).append(row.prediction == 1)
    versions = list(promoted)
    before = found.get(versions[0], []) if versions else []
    after = found.get(versions[-1], []) if len(versions) > 1 else []
    return {
        "recall_new_pattern_before": _share(before),
        "recall_new_pattern_after": _share(after),
        "new_pattern": {"name": pattern, "before": _counts(before), "after": _counts(after)},
    }


def _share(flagged: list[bool]) -> float | None:
    return round(sum(flagged) / len(flagged), 4) if flagged else None


def _counts(flagged: list[bool]) -> dict[str, int]:
    return {"frauds": len(flagged), "found": sum(flagged)}


def _percentile(values: list[int], q: int) -> float | None:
    return round(float(np.percentile(values, q)), 1) if values else None
