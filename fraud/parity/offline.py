"""What the stream must have said: the same messages through the offline builder, whole histories at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud import bus, codec
from fraud.backfill import Past
from fraud.builder import build_features, bulk_changes
from fraud.codec import Refused
from fraud.features import ACCEPTED, FEATURE_NAMES, Matrix
from fraud.parity.columns import PARTITION_BITS, Messages, Numbers
from fraud.schema import Transaction
from fraud.times import parse_times
from fraud.verdicts import repeat_of

_TEXTS = ("transaction_id", "merchant_id", "merchant_category", "channel", "country", "device_id")
_FLOATS = ("amount", "latitude", "longitude")


@dataclass(frozen=True)
class Offline:
    """The offline answer to every message, in their order.

    Attributes:
        sources: shape (n,), int64, rising.
        reasons: shape (n,), object: why it is refused, None where it is accepted.
        times: shape (n,), int64: the transaction's time, ms since the epoch; 0 where it can't be read.
        matrix: shape (n, features); all NaN where it is refused.
    """

    sources: Numbers
    reasons: npt.NDArray[np.object_]
    times: Numbers
    matrix: Matrix

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        return np.array([reason is None for reason in self.reasons], bool)


def must_say(
    messages: Messages,
    past: Past | None,
    changes: pl.DataFrame | None = None,
    *,
    partitions: int,
    max_age_ms: int | None,
    skipped: Numbers,
) -> Offline:
    """Answer every message offline.

    Args:
        past: what the online store was loaded with beforehand.
        changes: of merchant profiles, as `fraud.builder` reads them; None: those of the past alone.
        partitions: of the topic, to place the past's users.
        max_age_ms: as in `fraud.decision.Terms`.
        skipped: places of messages that failed inside the job (`internal_error`): they left no trace.
    """
    n = len(messages)
    reasons = np.full(n, None, np.object_)
    transactions: list[Transaction] = []
    rows: list[int] = []
    for row, (value, key) in enumerate(zip(messages.values, messages.keys, strict=True)):
        read = codec.decode_transaction(value, key)
        if isinstance(read, Refused):
            reasons[row] = read.reason
        else:
            rows.append(row)
            transactions.append(read)
    times = np.zeros(n, np.int64)
    times[rows] = parse_times([one.timestamp for one in transactions])
    _check_clock(times, messages.broker_times, rows, max_age_ms, reasons)
    failed = np.isin(messages.sources, skipped)
    kept = [i for i, row in enumerate(rows) if reasons[row] is None and not failed[row]]
    at = np.array([rows[i] for i in kept], np.int64)
    matrix = np.full((n, len(FEATURE_NAMES)), np.nan)
    if len(kept):
        stream = [transactions[i] for i in kept]
        table = _table(stream, times[at], messages.sources[at], [messages.values[row] or b"" for row in at])
        built, status = _built(table, past, changes, partitions)
        matrix[at] = built
        for i in np.flatnonzero(status != ACCEPTED):
            reasons[at[i]] = repeat_of(int(status[i]), stream[i]).reason
    return Offline(messages.sources, reasons, times, matrix)


def _check_clock(
    times: Numbers, broker_times: Numbers, rows: Sequence[int], max_age_ms: int | None, reasons: npt.NDArray[np.object_]
) -> None:
    """Note in `reasons` which rows the broker's clock refuses."""
    for row in rows:
        refused = codec.check_clock(int(times[row]), int(broker_times[row]), max_age_ms)
        if refused is not None:
            reasons[row] = refused.reason


def _built(
    stream: pl.DataFrame, past: Past | None, changes: pl.DataFrame | None, partitions: int
) -> tuple[Matrix, npt.NDArray[np.int8]]:
    """Return the stream's rows of past and stream together."""
    if past is None:
        built = build_features(stream, changes)
        return built.matrix, built.status
    before = _placed(past.arrived(), partitions)
    before = before.filter(pl.col("user_id").is_in(stream["user_id"].unique().implode()))
    together = pl.concat([before, stream], how="diagonal_relaxed").with_columns(pl.col("digest").fill_null(0))
    built = build_features(together, bulk_changes(past.transactions, past.labels) if changes is None else changes)
    return built.matrix[len(before) :], built.status[len(before) :]


def _placed(arrived: pl.DataFrame, partitions: int) -> pl.DataFrame:
    """Put the partition before the user: histories belong to both (a producer may partition otherwise)."""
    users = arrived["user_id"].unique()
    names = [_user(bus.partition_of(user, partitions), user) for user in users.to_list()]
    return arrived.with_columns(
        pl.col("user_id").replace_strict(users, pl.Series(names, dtype=pl.String), return_dtype=pl.String)
    )


def _user(partition: int, user: str) -> str:
    return f"{partition}/{user}"


def _table(
    transactions: Sequence[Transaction], times: Numbers, sources: Numbers, values: Sequence[bytes]
) -> pl.DataFrame:
    """Return the messages as the builder reads them, in arrival order per partition."""
    owners = (sources >> PARTITION_BITS).tolist()
    columns = {
        "user_id": pl.Series([_user(p, t.user_id) for p, t in zip(owners, transactions, strict=True)], dtype=pl.String),
        "timestamp": pl.Series(times).cast(pl.Datetime("ms", "UTC")),
        "digest": pl.Series([codec.digest(value) for value in values], dtype=pl.UInt64),
    }
    for kind, names in ((pl.String, _TEXTS), (pl.Float64, _FLOATS)):
        for name in names:
            columns[name] = pl.Series([getattr(one, name) for one in transactions], dtype=kind)
    return pl.DataFrame(columns)
