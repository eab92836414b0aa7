"""Messages for the codec's tests: valid ones, and text that `json` itself would never write."""

import json
from typing import Any

TRANSACTION: dict[str, Any] = {
    "transaction_id": "t1",
    "user_id": "u1",
    "merchant_id": "m1",
    "timestamp": "2026-01-31T10:00:00Z",
    "amount": 12.5,
    "currency": "EUR",
    "merchant_category": "5411",
    "channel": "pos",
    "country": "DE",
    "device_id": "d1",
    "latitude": 52.5,
    "longitude": 13.4,
}
LABEL: dict[str, Any] = {
    "transaction_id": "t1",
    "user_id": "u1",
    "merchant_id": "m1",
    "timestamp": "2026-01-31T10:00:00Z",
    "is_fraud": True,
    "labelled_at": "2026-02-07T10:00:00.123Z",
    "source": "chargeback",
}
REQUIRED = ("transaction_id", "user_id", "merchant_id", "timestamp", "amount", "currency")


def transaction(**changes: Any) -> bytes:
    """Return a valid transaction's bytes with some fields changed."""
    return json.dumps({**TRANSACTION, **changes}).encode()


def label(**changes: Any) -> bytes:
    """Return a valid label's bytes with some fields changed."""
    return json.dumps({**LABEL, **changes}).encode()


def written(**fields: str) -> bytes:
    """Return a valid transaction's bytes with some fields given as they stand in the text."""
    texts = {name: json.dumps(value) for name, value in TRANSACTION.items()} | fields
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in texts.items()) + "}").encode()


def nested(depth: int) -> bytes:
    """Return a valid transaction with an ignored field, so many brackets open at once."""
    return written(extra="[" * (depth - 1) + "]" * (depth - 1))


def of_size(size: int) -> bytes:
    """Return a valid transaction of exactly so many bytes."""
    return written(extra=f'"{"x" * (size - len(written(extra=chr(34) * 2)))}"')
