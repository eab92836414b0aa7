"""What is read from the topics, as columns; a message's place is one number (`source_of`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fraud.codec import digest
from fraud.errors import DataError
from fraud.features import FEATURE_NAMES, FEATURE_VERSION, Matrix
from fraud.profiles import QUARTER_MS
from fraud.times import parse_times

PARTITION_BITS = 44  # below them the offset
NO_PROFILES = np.iinfo(np.int64).min  # profile_through before anything was loaded

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Messages:
    """Messages of `transactions`, partition after partition, each in offset order: columns of equal length.

    `sources` rise strictly; `broker_times` are ms since the epoch.
    """

    sources: Numbers
    broker_times: Numbers
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Predictions:
    """Published predictions, repeats among them: where the message stands, and what was said of it.

    Attributes:
        sources, through: shape (n,), int64; `through` is profile_through as a quarter-hour, or NO_PROFILES.
        digests: shape (n,), uint64, of the published bytes.
        matrix: shape (n, features), null is NaN.
    """

    sources: Numbers
    digests: npt.NDArray[np.uint64]
    through: Numbers
    matrix: Matrix


@dataclass(frozen=True)
class Rejections:
    """Published rejections of transactions, repeats among them; as `Predictions`."""

    sources: Numbers
    digests: npt.NDArray[np.uint64]
    reasons: npt.NDArray[np.object_]


class _Source(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int


class _Rejection(msgspec.Struct, gc=False):
    reason: str
    source: _Source


_number: Any = float | None
_FEATURES: Any = msgspec.defstruct("Features", [(name, _number) for name in FEATURE_NAMES], gc=False)


class _Prediction(msgspec.Struct, gc=False):
    feature_version: str
    features: _FEATURES
    profile_through: str | None
    source: _Source


_PREDICTION = msgspec.json.Decoder(_Prediction)
_REJECTION = msgspec.json.Decoder(_Rejection)


def source_of(partition: Any, offset: Any) -> Any:
    """Return the number of a message's place; numbers or arrays.

    >>> place(source_of(3, 17))
    (3, 17)
    """
    return (partition << PARTITION_BITS) | offset


def place(source: int) -> tuple[int, int]:
    """Return partition and offset; the inverse of `source_of`."""
    return source >> PARTITION_BITS, source & ((1 << PARTITION_BITS) - 1)


def predictions(values: Sequence[bytes], topic: str) -> Predictions:
    """Decode published predictions about messages of `topic`.

    Raises:
        DataError: one can't be read, lacks a feature, or was made with another version of the features.
    """
    read = [_decoded(_PREDICTION, value) for value in values]
    ours = [row for row, said in enumerate(read) if said.source.topic == topic]
    kept = [read[row] for row in ours]
    for said in kept:
        if said.feature_version != FEATURE_VERSION:
            raise DataError(
                f"the prediction for partition {said.source.partition}, offset {said.source.offset} was made with "
                f"features {said.feature_version}; this release computes {FEATURE_VERSION} and can't check it"
            )
    rows = [msgspec.structs.astuple(said.features) for said in kept]
    return Predictions(
        sources=_sources(kept),
        digests=_digests(values, ours),
        through=_quarters([said.profile_through for said in kept]),
        matrix=np.array(rows, np.float64).reshape(-1, len(FEATURE_NAMES)),  # None becomes NaN
    )


def rejections(values: Sequence[bytes], topic: str) -> Rejections:
    """Decode published rejections of messages of `topic`; raises DataError if one can't be read."""
    read = [_decoded(_REJECTION, value) for value in values]
    ours = [row for row, said in enumerate(read) if said.source.topic == topic]
    kept = [read[row] for row in ours]
    return Rejections(_sources(kept), _digests(values, ours), np.array([said.reason for said in kept], np.object_))


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all parts, one after the other."""
    parts = [predictions([], ""), *parts]
    return Predictions(
        np.concatenate([part.sources for part in parts]),
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.through for part in parts]),
        np.concatenate([part.matrix for part in parts]),
    )


def join_rejections(parts: Sequence[Rejections]) -> Rejections:
    """Return the rejections of all parts, one after the other."""
    parts = [rejections([], ""), *parts]
    return Rejections(
        np.concatenate([part.sources for part in parts]),
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.reasons for part in parts]),
    )


def _decoded(decoder: Any, value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except msgspec.DecodeError as exc:
        raise DataError(f"an answer can't be read ({exc}): {value[:200]!r}") from exc


def _sources(said: Sequence[Any]) -> Numbers:
    count = len(said)
    return np.fromiter((source_of(one.source.partition, one.source.offset) for one in said), np.int64, count)


def _digests(values: Sequence[bytes], rows: Sequence[int]) -> npt.NDArray[np.uint64]:
    return np.fromiter((digest(values[row]) for row in rows), np.uint64, len(rows))


def _quarters(times: Sequence[str | None]) -> Numbers:
    distinct = sorted({time for time in times if time is not None})
    table: dict[str | None, int] = {None: NO_PROFILES}
    table |= dict(zip(distinct, (parse_times(distinct) // QUARTER_MS).tolist(), strict=True))
    return np.fromiter((table[time] for time in times), np.int64, len(times))
