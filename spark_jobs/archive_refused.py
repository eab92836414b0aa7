"""Labels that are refused: found bad in this batch, or without a transaction for too long."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from fraud import bus
from fraud.archive.clock import Verdict
from fraud.archive.records import of_topic
from fraud.codec import Refused, reject
from fraud.settings import Settings
from fraud.times import format_time

Rejection = tuple[bytes | None, bytes]


def refusals(
    settings: Settings, topic_id: str, rows: pa.Table, refused: Mapping[int, Refused], expired: Sequence[Verdict]
) -> list[Rejection]:
    """Return the rejections' keys and values: the same bytes whenever the same batch is taken again."""
    if not refused and not expired:
        return []
    newest = format_time(max(rows["broker_time"].to_pylist()))
    records = of_topic(rows, bus.LABELS, topic_id)
    found = [
        reject(
            why,
            topic=bus.LABELS,
            partition=records.partition[at],
            offset=records.offset[at],
            key=records.key[at],
            raw=records.value[at],
            rejected_at=newest,
        )
        for at, why in refused.items()
    ]
    originals = _originals(settings.kafka_bootstrap, [one for one in expired if one.topic_id == topic_id])
    for one in expired:
        key, raw = originals.get((one.partition, one.offset), (one.user_id.encode(), None))
        since = format_time(one.broker_time)
        why = Refused("unknown_transaction", "transaction_id", f"waiting for {one.transaction_id} since {since}")
        found.append(
            reject(
                why, topic=bus.LABELS, partition=one.partition, offset=one.offset, key=key, raw=raw, rejected_at=newest
            )
        )
    return found


def _originals(bootstrap: str, labels: Sequence[Verdict]) -> dict[tuple[int, int], tuple[bytes | None, bytes | None]]:
    """Read labels' messages again, by (partition, offset); those that Kafka has no more are left out."""
    from kafka import TopicPartition

    found: dict[tuple[int, int], tuple[bytes | None, bytes | None]] = {}
    if not labels:
        return found
    with bus.consumer(bootstrap, max_poll_records=1) as client:
        for one in labels:
            part = TopicPartition(bus.LABELS, one.partition)
            client.assign([part])
            client.seek(part, one.offset)
            for records in client.poll(timeout_ms=5_000).values():
                found.update({(one.partition, each.offset): (each.key, each.value) for each in records})
    return found
