"""Bytes from Kafka to checked messages and columns, and back to bytes.

A decoder returns the message or why it is refused; it never raises on bad input. The checks follow one
order (`fraud.schema.REASONS`): value, size, UTF-8, depth, JSON, fields, key. Refusals, clock checks and
predictions have files of their own and are offered here too.
"""

import re
from collections.abc import Sequence
from itertools import product
from string import ascii_uppercase
from typing import Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from fraud.history import EVENT, Events
from fraud.jsontext import depth, grammar_error
from fraud.plain import Plain
from fraud.predictions import encode_predictions
from fraud.rejections import Refused, check_clock, reject
from fraud.schema import (
    CHANNELS,
    ID_PATTERN,
    MAX_BYTES,
    MAX_DEPTH,
    Label,
    Message,
    Transaction,
    id_fields,
    json_schema,
)
from fraud.times import format_time, parse_time, parse_times

__all__ = [
    "Refused",
    "check_clock",
    "country_code",
    "decode_label",
    "decode_transaction",
    "digest",
    "encode",
    "encode_predictions",
    "event_columns",
    "format_time",
    "hash_id",
    "parse_time",
    "reject",
]

# Bytes whose absence, in ASCII, leaves nothing for the slow checks: no control character can get into a
# string without an escape or being DEL, and without a second bracket nothing is nested.
_ESCAPE, _DEL, _ARRAY = 0x5C, 0x7F, 0x5B

_ID: Final = re.compile(ID_PATTERN)
_PATH: Final = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `([^`]*)`$")
_MAX_DETAIL = 200

_CHANNEL: Final[dict[str | None, int]] = {None: -1, **{name: i for i, name in enumerate(CHANNELS)}}
_ENCODER: Final = msgspec.json.Encoder()
_Kind = TypeVar("_Kind", Transaction, Label)


class _Decoder(Generic[_Kind]):
    """The checks for one kind of message."""

    def __init__(self, kind: type[_Kind], name: str) -> None:
        self.decoder: msgspec.json.Decoder[_Kind] = msgspec.json.Decoder(kind)
        self.ids = id_fields(kind)
        self.rules: dict[str, str] = {
            field: rule["description"] for field, rule in json_schema(name)["properties"].items()
        }

    def __call__(self, raw: bytes | None, key: bytes | None) -> _Kind | Refused:
        """Decode a plain message at little cost, anything else with every check."""
        if (
            raw is not None
            and len(raw) <= MAX_BYTES
            and raw.isascii()
            and _ESCAPE not in raw
            and _DEL not in raw
            and _ARRAY not in raw
            and raw.find(b"{", 1) < 0
        ):
            try:
                message = self.simply(raw)
            except msgspec.DecodeError:
                return self.carefully(raw, key)
            return message if key == message.user_id.encode() else _wrong_key(key)
        return self.carefully(raw, key)

    def simply(self, raw: bytes) -> _Kind:
        """Decode what has passed the scan above; raises msgspec.DecodeError."""
        return self.decoder.decode(raw)

    def carefully(self, raw: bytes | None, key: bytes | None) -> _Kind | Refused:
        """Decode with every check, in the contract's order."""
        if raw is None:
            return Refused("null_value", None, "the message has no value")
        if len(raw) > MAX_BYTES:
            return Refused("too_large", None, f"{len(raw)} bytes; at most {MAX_BYTES} are taken")
        try:
            raw.decode()
        except UnicodeDecodeError as exc:
            return Refused("not_utf8", None, f"{exc.reason} (byte {exc.start})")
        if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and (deep := depth(raw)) > MAX_DEPTH:
            return Refused("too_deep", None, f"nested {deep} deep; at most {MAX_DEPTH} is taken")
        try:
            message = self.decoder.decode(raw)
        except msgspec.DecodeError as exc:
            malformed = grammar_error(raw)
            return self.breach(str(exc)) if malformed is None else Refused("not_json", None, malformed)
        for field in self.ids:
            value = getattr(message, field)
            if value is not None and _ID.search(value) is None:
                return Refused("schema", field, "control characters are refused")
        return message if key == message.user_id.encode() else _wrong_key(key)

    def breach(self, message: str) -> Refused:
        """Read field and detail from msgspec's message; the path stands at its end."""
        found = _PATH.match(message)
        text, path = (found[1], found[2]) if found else (message, None)
        missing = _MISSING.match(text)
        if missing:
            path = f"{path}.{missing[1]}" if path else missing[1]
        elif "matching regex" in text and path in self.rules:
            text = f"refused by its rule: {self.rules[path]}"
        return Refused("schema", path or None, text[:_MAX_DETAIL])


def _wrong_key(key: bytes | None) -> Refused:
    return Refused("key_mismatch", None, "no key" if key is None else "the key isn't user_id in UTF-8")


class _Transactions(_Decoder[Transaction]):
    """Transactions: the hot path's messages."""

    def __init__(self) -> None:
        super().__init__(Transaction, "transaction")
        self._plain = Plain()

    def simply(self, raw: bytes) -> Transaction:
        """Decode by what is known; else strictly, and know it."""
        message = self._plain.decode(raw)
        if message is None:
            message = self.decoder.decode(raw)
            self._plain.learn(message)
        return message


_TRANSACTION: Final = _Transactions()
_LABEL: Final = _Decoder(Label, "label")


def decode_transaction(raw: bytes | None, key: bytes | None) -> Transaction | Refused:
    """Return the transaction in a message from `transactions`, or why it is refused.

    The clock and repeats are checked later (`check_clock`, `fraud.scoring`).
    """
    return _TRANSACTION(raw, key)


def decode_label(raw: bytes | None, key: bytes | None) -> Label | Refused:
    """Return the label in a message from `transaction_labels`, or why it is refused."""
    return _LABEL(raw, key)


def encode(message: Message) -> bytes:
    """Return a message's JSON, its fields in the table's order, a missing number as null."""
    return _ENCODER.encode(message)


def digest(raw: bytes) -> int:
    """Return the 64-bit digest (xxh3) that tells a repeat from a conflict; not for cryptography."""
    return int(xxhash.xxh3_64_intdigest(raw))


def hash_id(text: str) -> int:
    """Return an identifier's 64-bit hash (xxh3 of its UTF-8); never 0, which stands for null."""
    return int(xxhash.xxh3_64_intdigest(text)) or 1


def country_code(text: str | None) -> int:
    """Return a country as a number: two letters in base 32, 0 for null.

    >>> country_code("DE")
    133
    """
    return 0 if text is None else (ord(text[0]) - 64) * 32 + ord(text[1]) - 64


# Looked up, since a call or a conversion costs more than the column that it is for.
_COUNTRY: Final[dict[str | None, int]] = {
    None: 0, **{code: country_code(code) for code in map("".join, product(ascii_uppercase, repeat=2))}
}  # fmt: skip
_CATEGORY: Final[dict[str | None, int]] = {None: -1, **{f"{code:04}": code for code in range(10_000)}}


def event_columns(transactions: Sequence[Transaction], digests: Sequence[int] | npt.NDArray[np.uint64]) -> Events:
    """Return decoded transactions as the feature kernel's rows, shape (n,), dtype `fraud.history.EVENT`.

    A position counts only where both coordinates are given.
    """
    events = np.empty(len(transactions), dtype=EVENT)
    events["time"] = parse_times([t.timestamp for t in transactions])
    events["amount"] = [t.amount for t in transactions]
    events["merchant"] = _hashes([t.merchant_id for t in transactions])
    events["device"] = _hashes([t.device_id for t in transactions])
    events["txn"] = _hashes([t.transaction_id for t in transactions])
    events["digest"] = np.array(digests, dtype=np.uint64)
    events["country"] = [_COUNTRY[t.country] for t in transactions]
    events["channel"] = [_CHANNEL[t.channel] for t in transactions]
    events["mcc"] = [_CATEGORY[t.merchant_category] for t in transactions]
    # None becomes NaN.
    lat = np.array([t.latitude for t in transactions], dtype=np.float64)
    lon = np.array([t.longitude for t in transactions], dtype=np.float64)
    unknown = np.isnan(lat) | np.isnan(lon)
    lat[unknown] = np.nan
    lon[unknown] = np.nan
    events["lat"] = lat
    events["lon"] = lon
    return events


def _hashes(texts: Sequence[str | None]) -> npt.NDArray[np.uint64]:
    hashed = xxhash.xxh3_64_intdigest  # `hash_id`, without a call for each
    return np.array([0 if text is None else hashed(text) or 1 for text in texts], dtype=np.uint64)
