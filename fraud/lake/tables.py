"""The lake's tables: one Delta table a topic, and the changes of merchant profiles that were made of them.

A row of the first four is one record of its topic, found by (topic_id, partition, offset); what `backfill`
loads has the topic id "backfill" and pseudo-offsets in file order. Delta keeps times in microseconds and has
no unsigned integers: readers turn both back (`fraud.lake.read`).
"""

from dataclasses import dataclass

import pyarrow as pa

from fraud.features import FEATURE_NAMES

TIME = pa.timestamp("us", tz="UTC")
BACKFILL = "backfill"  # the topic id of what was loaded, not streamed
NO_BATCH = -1  # the batch of what was loaded

# Where a record stood. `date` is the broker's (UTC), by which tables are partitioned; `batch` is the archive
# job's, within its checkpoint's query id `query`.
POSITION = [
    pa.field("date", pa.date32(), nullable=False),
    pa.field("topic_id", pa.string(), nullable=False),
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("broker_time", TIME, nullable=False),
    pa.field("query", pa.string(), nullable=False),
    pa.field("batch", pa.int64(), nullable=False),
]
_TEXT, _LONG, _INT, _REAL = pa.string(), pa.int64(), pa.int32(), pa.float64()


def _fields(**columns: pa.DataType) -> list[pa.Field]:
    return [pa.field(name, kind) for name, kind in columns.items()]


@dataclass(frozen=True)
class Table:
    """A table: its folder's name, its columns, and the topic whose records it holds (None: it is derived)."""

    name: str
    schema: pa.Schema
    topic: str | None


# Every message that is a valid Transaction, repeats and refused ones among them; `digest` is
# `fraud.codec.digest` of the message's raw bytes, its 64 bits read as signed. What isn't valid stands in
# `rejections` with its bytes.
TRANSACTIONS = Table(
    "transactions",
    pa.schema(
        [
            *POSITION,
            *_fields(
                transaction_id=_TEXT,
                user_id=_TEXT,
                merchant_id=_TEXT,
                timestamp=TIME,
                amount=_REAL,
                currency=_TEXT,
                merchant_category=_TEXT,
                channel=_TEXT,
                country=_TEXT,
                device_id=_TEXT,
                latitude=_REAL,
                longitude=_REAL,
                digest=_LONG,
            ),
        ]
    ),
    "transactions",
)
# `source_partition` and `source_offset`: the transaction's. A repeat (published again after a crash) is a
# record of its own with the same source. `features` in the order of its feature_version; null is missing.
PREDICTIONS = Table(
    "predictions",
    pa.schema(
        [
            *POSITION,
            *_fields(
                source_partition=_INT,
                source_offset=_LONG,
                transaction_id=_TEXT,
                user_id=_TEXT,
                merchant_id=_TEXT,
                timestamp=TIME,
                amount=_REAL,
                fraud_probability=_REAL,
                prediction=_INT,
                decision=_TEXT,
                threshold=_REAL,
                model_name=_TEXT,
                model_version=_TEXT,
                feature_version=_TEXT,
                profile_through=TIME,
                scored_at=TIME,
                features=pa.struct(_fields(**dict.fromkeys(FEATURE_NAMES, _REAL))),
            ),
        ]
    ),
    "fraud_predictions",
)
LABELS = Table(
    "labels",
    pa.schema(
        [
            *POSITION,
            *_fields(
                transaction_id=_TEXT,
                user_id=_TEXT,
                merchant_id=_TEXT,
                timestamp=TIME,
                is_fraud=pa.bool_(),
                labelled_at=TIME,
                source=_TEXT,
            ),
        ]
    ),
    "transaction_labels",
)
REJECTIONS = Table(
    "rejections",
    pa.schema(
        [
            *POSITION,
            *_fields(
                reason=_TEXT,
                field=_TEXT,
                detail=_TEXT,
                source_topic=_TEXT,
                source_partition=_INT,
                source_offset=_LONG,
                key=pa.binary(),
                original=_TEXT,
                length=_LONG,
                sha256=_TEXT,
                key_length=_LONG,
                rejected_at=TIME,
            ),
        ]
    ),
    "transactions_dlq",
)
# What merchant profiles are made of, and the record of acceptance: a row with transactions = 1 says that the
# transaction at (topic_id, partition, offset) was accepted; one with frauds = ±1 that the label there moved the
# fraud count of its transaction's quarter. `cause` is the topic of that position.
PROFILE_CHANGES = Table(
    "profile_changes",
    pa.schema(
        [
            *POSITION,
            *_fields(
                cause=_TEXT,
                user_id=_TEXT,
                transaction_id=_TEXT,
                merchant_id=_TEXT,
                quarter=_INT,
                effective=_INT,
                transactions=_INT,
                frauds=_INT,
            ),
        ]
    ),
    None,
)
TABLES = (TRANSACTIONS, PREDICTIONS, LABELS, REJECTIONS, PROFILE_CHANGES)
