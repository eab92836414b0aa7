"""A batch of Kafka records as the lake's rows: decoded once, a table a topic.

Rows are records, and a record that isn't what its topic promises has no row: a transaction like that is rejected by
the score job, a label by the archive job (`Decoded.refused`); a prediction or a rejection like that was written by
a stranger and is only counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud.codec import Refused, decode_label, decode_transaction, digest
from fraud.features import FEATURE_NAMES
from fraud.lake.tables import LABELS, PREDICTIONS, REJECTIONS, TIME, TRANSACTIONS, Table
from fraud.rejections import FUTURE_MS
from fraud.schema import Label, Prediction, Rejection, Transaction
from fraud.times import format_time, parse_times


@dataclass(frozen=True)
class Records:
    """A batch's records of one topic, as columns of equal length, in any order.

    `broker_time` is in ms since the epoch.
    """

    topic_id: str
    partition: Sequence[int]
    offset: Sequence[int]
    broker_time: Sequence[int]
    key: Sequence[bytes | None]
    value: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class Decoded:
    """A topic's rows.

    Attributes:
        rows: with the table's columns, without those that `Lake.append` fills in.
        refused: position in the records → why, of labels.
        strange: how many records of another kind nobody can read.
    """

    rows: pa.Table
    refused: dict[int, Refused] = field(default_factory=dict)
    strange: int = 0


def of_topic(rows: pa.Table, topic: str, topic_id: str) -> Records:
    """Return a topic's records, in offset order within each partition; `rows` has `topic` and Records' columns."""
    mine = rows.filter(pc.equal(rows["topic"], topic)).sort_by([("partition", "ascending"), ("offset", "ascending")])
    columns = ("partition", "offset", "broker_time", "key", "value")
    return Records(topic_id, *(mine[name].to_pylist() for name in columns))


def transactions(records: Records) -> Decoded:
    """Return the rows of `transactions`: every valid one, whatever became of it."""
    kept: list[int] = []
    messages: list[Transaction] = []
    for at, (value, key) in enumerate(zip(records.value, records.key, strict=True)):
        message = decode_transaction(value, key)
        if not isinstance(message, Refused):
            kept.append(at)
            messages.append(message)
    columns = _columns(messages, Transaction.__struct_fields__)
    digests = np.fromiter((digest(records.value[at] or b"") for at in kept), np.uint64, len(kept))
    return Decoded(_table(TRANSACTIONS, records, kept, columns | {"digest": digests.view(np.int64)}))


def labels(records: Records) -> Decoded:
    """Return the rows of `labels`, and why the others are refused."""
    kept: list[int] = []
    messages: list[Label] = []
    refused: dict[int, Refused] = {}
    for at, (value, key) in enumerate(zip(records.value, records.key, strict=True)):
        message = decode_label(value, key)
        if isinstance(message, Refused):
            refused[at] = message
        else:
            kept.append(at)
            messages.append(message)
    given = parse_times([message.labelled_at for message in messages])
    taken = np.array([records.broker_time[at] for at in kept], np.int64)
    future = given - taken > FUTURE_MS
    for i in np.flatnonzero(future):
        words = f"{format_time(int(given[i]))} arrived at the broker at {format_time(int(taken[i]))}"
        refused[kept[i]] = Refused("future_timestamp", "labelled_at", words)
    left = np.flatnonzero(~future).tolist()
    columns = _columns([messages[i] for i in left], Label.__struct_fields__)
    return Decoded(_table(LABELS, records, [kept[i] for i in left], columns), refused)


def predictions(records: Records) -> Decoded:
    """Return the rows of `predictions`: every record, repeats too."""
    kept, messages = _decode(records, _prediction_decoder())
    columns = _columns(messages, Prediction.__struct_fields__)
    sources, features = columns.pop("source", []), columns.pop("features", [])
    columns |= {
        "source_partition": [source.partition for source in sources],
        "source_offset": [source.offset for source in sources],
        "features": _features(features),
    }
    unstored = ("rolling_avg_7d", "amount_to_avg_ratio")  # they stand among the features
    columns = {name: values for name, values in columns.items() if name not in unstored}
    return Decoded(_table(PREDICTIONS, records, kept, columns), strange=len(records) - len(kept))


def rejections(records: Records) -> Decoded:
    """Return the rows of `rejections`: every record, repeats too."""
    kept, messages = _decode(records, msgspec.json.Decoder(Rejection).decode)
    columns = _columns(messages, Rejection.__struct_fields__)
    sources = columns.pop("source", [])
    columns |= {
        "source_topic": [source.topic for source in sources],
        "source_partition": [source.partition for source in sources],
        "source_offset": [source.offset for source in sources],
        "key": [records.key[at] for at in kept],
    }
    return Decoded(_table(REJECTIONS, records, kept, columns), strange=len(records) - len(kept))


DECODERS: dict[str, tuple[Table, Callable[[Records], Decoded]]] = {
    "transactions": (TRANSACTIONS, transactions),
    "fraud_predictions": (PREDICTIONS, predictions),
    "transaction_labels": (LABELS, labels),
    "transactions_dlq": (REJECTIONS, rejections),
}


@cache
def _prediction_decoder() -> Callable[[bytes], Any]:
    """Return a decoder of predictions whose features are a struct: a dict takes twice as long."""
    fields: list[tuple[str, Any, Any]] = [(name, float | None, None) for name in FEATURE_NAMES]
    features = msgspec.defstruct("Features", fields, gc=False)
    hints = get_type_hints(Prediction, include_extras=True) | {"features": features}
    return msgspec.json.Decoder(msgspec.defstruct("Row", list(hints.items()), gc=False)).decode


def _decode(records: Records, decode: Callable[[bytes], Any]) -> tuple[list[int], list[Any]]:
    kept, messages = [], []
    for at, value in enumerate(records.value):
        try:
            messages.append(decode(value or b""))
        except (msgspec.DecodeError, RecursionError):
            continue
        kept.append(at)
    return kept, messages


def _columns(messages: Sequence[msgspec.Struct], names: Sequence[str]) -> dict[str, Any]:
    """Return the structs' fields as columns."""
    values = zip(*map(msgspec.structs.astuple, messages), strict=True) if messages else [[] for _ in names]
    return dict(zip(names, values, strict=True))


def _features(messages: Sequence[msgspec.Struct]) -> pa.StructArray:
    kind = PREDICTIONS.schema.field("features").type
    columns = _columns(messages, FEATURE_NAMES)
    return pa.StructArray.from_arrays(
        [pa.array(columns[name], pa.float64()) for name in FEATURE_NAMES], fields=list(kind)
    )


def _table(table: Table, records: Records, kept: Sequence[int], columns: dict[str, Any]) -> pa.Table:
    """Return rows with the table's types; times come as text, or as ms where they are the broker's."""
    whole = len(kept) == len(records)
    where = {
        "topic_id": pa.array([records.topic_id] * len(kept), pa.string()),
        "partition": records.partition if whole else [records.partition[at] for at in kept],
        "offset": records.offset if whole else [records.offset[at] for at in kept],
        "broker_time": records.broker_time if whole else [records.broker_time[at] for at in kept],
    }
    return pa.table(
        {name: _column(values, table.schema.field(name).type) for name, values in {**where, **columns}.items()}
    )


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if kind == TIME:
        if len(values) and isinstance(values[0], str | None):
            values = _times(values)
        return pa.array(values, pa.timestamp("ms", tz="UTC")).cast(TIME)
    return pa.array(values, kind)


def _times(texts: Sequence[str | None]) -> pa.Array:
    """Return texts as ms; null stays null."""
    missing = np.array([text is None for text in texts], bool)
    return pa.array(parse_times([text or "2000-01-01T00:00:00Z" for text in texts]), mask=missing)
