"""What the topics hold beyond the lake's ends, as the lake's rows: what the archive job hasn't written yet."""

import polars as pl

from fraud import bus
from fraud.archive.records import DECODERS, Records
from fraud.lake import Lake
from fraud.lake.tables import Table
from fraud.parity.topics import consume

SOURCE = ["partition", "offset"]


def tail(bootstrap: str, lake: Lake, table: Table, columns: list[str]) -> pl.DataFrame:
    """Return the rows that a table will get, in partition and offset order.

    Raises:
        StateError: there is no such topic.
        ServiceError: Kafka or S3 is away.
    """
    assert table.topic is not None  # noqa: S101  # derived tables have no topic to read
    topic_id = bus.topic_id(bootstrap, table.topic)
    starts = {partition: end for (topic, partition), end in lake.ends(table).items() if topic == topic_id}
    decode = DECODERS[table.topic][1]
    parts = [_frame(table.schema.empty_table().select(columns))]
    for partition, found in consume(bootstrap, table.topic, starts=starts):
        records = Records(
            topic_id,
            [partition] * len(found),
            [one.offset for one in found],
            [one.timestamp for one in found],
            [one.key for one in found],
            [one.value for one in found],
        )
        parts.append(_frame(decode(records).rows.select(columns)))
    return pl.concat(parts).sort(SOURCE)


def _frame(rows: object) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # from a table, not from an array
    return frame
