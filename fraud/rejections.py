"""Refusals and how they are published: a message is rejected, never dropped and never fatal."""

import base64
import hashlib
from typing import NamedTuple

import msgspec

from fraud.schema import MAX_BYTES, MAX_KEY_BYTES, Reason, Rejection, Source
from fraud.times import format_time

FUTURE_MS = 600_000  # ahead of the broker's clock: more would distort the user's history

_ENCODER = msgspec.json.Encoder()


class Refused(NamedTuple):
    """Why a message is refused."""

    reason: Reason
    field: str | None
    detail: str


def check_clock(event_ms: int, broker_ms: int, max_age_ms: int | None) -> Refused | None:
    """Compare a transaction's time with its broker's, both ms since the epoch; None where it may pass.

    Args:
        max_age_ms: the age above which it would read an empty past; None: any age passes (replays).

    >>> check_clock(600_000, 0, None) is None
    True
    >>> check_clock(600_001, 0, None).reason
    'future_timestamp'
    """
    if event_ms - broker_ms > FUTURE_MS:
        reason: Reason = "future_timestamp"
    elif max_age_ms is not None and broker_ms - event_ms > max_age_ms:
        reason = "too_old"
    else:
        return None
    return Refused(reason, "timestamp", f"{format_time(event_ms)} arrived at the broker at {format_time(broker_ms)}")


def reject(
    refused: Refused,
    *,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    raw: bytes | None,
    rejected_at: str,
) -> tuple[bytes | None, bytes]:
    """Return key and value of the rejection of the message `raw`, found at topic, partition and offset.

    The value keeps the first 64 KiB of the original; a key of more than 1,024 bytes is cut.
    """
    rejection = Rejection(
        reason=refused.reason,
        field=refused.field,
        detail=refused.detail,
        source=Source(topic, partition, offset),
        original=None if raw is None else base64.b64encode(raw[:MAX_BYTES]).decode("ascii"),
        length=None if raw is None else len(raw),
        sha256=None if raw is None else hashlib.sha256(raw).hexdigest(),
        key_length=None if key is None else len(key),
        rejected_at=rejected_at,
    )
    return None if key is None else key[:MAX_KEY_BYTES], _ENCODER.encode(rejection)
