"""Messages as they shouldn't be: one kind for each mistake that the contract answers, drawn from a seed.

Each is made from the transaction sent just before, and knows why it should be rejected.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from fraud.codec import encode, format_time
from fraud.errors import ConfigError
from fraud.rejections import FUTURE_MS
from fraud.schema import MAX_BYTES, MAX_DEPTH, Reason, Transaction

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_FIVE_MB = 5_000_000


class Bad(NamedTuple):
    """A bad message; `expected` and `field` are what its rejection should say."""

    key: bytes | None
    value: bytes | None
    expected: Reason
    field: str | None
    kind: str


class Moment(NamedTuple):
    """What the clock's kinds need: the present, ms since the epoch, and the age limit (None: no limit)."""

    now_ms: int
    max_age_ms: int | None


class Kind(NamedTuple):
    """A mistake: its answer, how often it is drawn against others, and how it is made."""

    name: str
    expected: Reason
    field: str | None
    make: Callable[[Transaction, Moment], bytes | None]
    weight: float = 1.0
    key: Callable[[bytes], bytes | None] = lambda user: user


def _with(**changes: Any) -> Callable[[Transaction, Moment], bytes]:
    """Write the transaction with other values."""
    return lambda good, _: msgspec.json.encode({**msgspec.to_builtins(good), **changes})


def _without(field: str) -> Callable[[Transaction, Moment], bytes]:
    def make(good: Transaction, _: Moment) -> bytes:
        return msgspec.json.encode({k: v for k, v in msgspec.to_builtins(good).items() if k != field})

    return make


def _written(field: str, text: bytes) -> Callable[[Transaction, Moment], bytes]:
    """Write the transaction with `text` in a field's place: what no encoder would write."""

    def make(good: Transaction, _: Moment) -> bytes:
        fields = msgspec.to_builtins(good).items()
        parts = [b'"%s":%s' % (k.encode(), text if k == field else msgspec.json.encode(v)) for k, v in fields]
        return b"{%s}" % b",".join(parts)

    return make


def _noted(note: bytes) -> Callable[[Transaction, Moment], bytes]:
    """Write the transaction with an extra field, which alone would be ignored."""
    return lambda good, _: encode(good)[:-1] + b',"note":' + note + b"}"


def _at(time_ms: Callable[[Moment], int]) -> Callable[[Transaction, Moment], bytes]:
    return lambda good, moment: encode(msgspec.structs.replace(good, timestamp=format_time(time_ms(moment))))


def _other_amount(good: Transaction, _: Moment) -> bytes:
    return encode(msgspec.structs.replace(good, amount=good.amount * 2 if good.amount < 1_000_000 else good.amount / 2))


def _without_zone(good: Transaction, _: Moment) -> bytes:
    return encode(msgspec.structs.replace(good, timestamp=good.timestamp.removesuffix("Z")))


def _february_30(good: Transaction, _: Moment) -> bytes:
    return encode(msgspec.structs.replace(good, timestamp=f"{good.timestamp[:4]}-02-30T12:00:00.000Z"))


KINDS = (
    Kind("null_value", "null_value", None, lambda *_: None),
    Kind("over_64_kib", "too_large", None, _noted(b'"%s"' % (b"x" * MAX_BYTES))),
    Kind("five_megabytes", "too_large", None, _noted(b'"%s"' % (b"x" * _FIVE_MB)), weight=0.05),
    Kind("invalid_utf8", "not_utf8", None, _noted(b'"\xff"')),
    Kind("too_deep", "too_deep", None, _noted(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)),
    Kind("30000_deep", "too_deep", None, _noted(b"[" * 30_000 + b"]" * 30_000)),
    Kind("cut_off", "not_json", None, lambda good, _: encode(good)[:-1]),
    Kind("empty_value", "not_json", None, lambda *_: b""),
    Kind("amount_nan", "not_json", None, _written("amount", b"NaN")),
    Kind("empty_object", "schema", "transaction_id", lambda *_: b"{}"),
    Kind("no_amount", "schema", "amount", _without("amount")),
    Kind("no_timestamp", "schema", "timestamp", _without("timestamp")),
    Kind("amount_zero", "schema", "amount", _with(amount=0)),
    Kind("amount_negative", "schema", "amount", _with(amount=-12.5)),
    Kind("amount_huge", "schema", "amount", _with(amount=1e300)),
    Kind("amount_text", "schema", "amount", _with(amount="12.50")),
    Kind("user_number", "schema", "user_id", _with(user_id=12345)),
    Kind("id_empty", "schema", "merchant_id", _with(merchant_id="")),
    Kind("id_of_65", "schema", "merchant_id", _with(merchant_id="m" * 65)),
    Kind("id_of_two_lines", "schema", "merchant_id", _with(merchant_id="m1\n")),
    Kind("time_without_zone", "schema", "timestamp", _without_zone),
    Kind("february_30", "schema", "timestamp", _february_30),
    Kind("wrong_key", "key_mismatch", None, lambda good, _: encode(good), key=lambda user: user + b"x"),
    Kind("no_key", "key_mismatch", None, lambda good, _: encode(good), key=lambda _: None),
    Kind("future", "future_timestamp", "timestamp", _at(lambda at: at.now_ms + FUTURE_MS + _HOUR_MS)),
    Kind("too_old", "too_old", "timestamp", _at(lambda at: at.now_ms - (at.max_age_ms or 0) - _HOUR_MS)),
    Kind("repeat", "duplicate", "transaction_id", lambda good, _: encode(good)),
    Kind("repeat_other_amount", "conflicting_duplicate", "transaction_id", _other_amount),
)


def make(kind: Kind, good: Transaction, moment: Moment) -> Bad:
    """Make a bad message of `kind` from the good one that was sent just before."""
    return Bad(kind.key(good.user_id.encode()), kind.make(good, moment), kind.expected, kind.field, kind.name)


def mix(
    good: Iterable[Transaction],
    share: float,
    *,
    seed: int,
    clock: Callable[[], int],
    max_age_days: float | None,
) -> Iterator[Transaction | Bad]:
    """Pass `good` on with bad messages between, `share` of all that comes out.

    Args:
        share: in [0, 1); 0.001 is one in a thousand.
        clock: the present, ms since the epoch.
        max_age_days: the score job's limit; where it has none (None) no message is too old.

    Raises:
        ConfigError: the share isn't in [0, 1).
    """
    if not 0 <= share < 1:
        raise ConfigError(f"a share of {share:g} bad messages; give one in [0, 1), for example 0.001")
    max_age_ms = None if max_age_days is None else round(max_age_days * _DAY_MS)
    kinds = [kind for kind in KINDS if kind.expected != "too_old" or max_age_ms is not None]
    rng = np.random.default_rng([seed, *b"bad"])
    edges = np.cumsum([kind.weight for kind in kinds])

    def stream() -> Iterator[Transaction | Bad]:
        for transaction in good:
            yield transaction
            while share > 0 and rng.random() < share:
                drawn = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
                yield make(kinds[drawn], transaction, Moment(clock(), max_age_ms))

    return stream()
