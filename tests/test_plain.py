"""The cheap road accepts what the strict decoder accepts, whatever it has learnt, and refuses nothing itself."""

from typing import Any

import msgspec
import pytest

from fraud import plain
from fraud.codec import decode_transaction
from fraud.plain import Plain
from fraud.schema import Transaction
from tests.messages import transaction

STRICT = msgspec.json.Decoder(Transaction)
TIMES = [
    *("2026-11-25T10:00:00Z", "2026-11-25T10:00:59.999Z", "2026-11-25T10:00:60Z", "2026-11-25T10:00:61.000Z"),
    *("2026-11-25T10:00:0Z", "2026-11-25T10:00:00.1Z", "2026-11-25T10:00:00.12Z", "2026-11-25T10:00:00.1234Z"),
    *("2026-11-25T10:00:00", "2026-11-25T10:00:00z", "2026-11-25T10:00:00+00:00", "2026-11-25T10:00:00.Z", ""),
    *("2026-11-25T10:00:00ZZ", "2026-11-25T10:00: 0Z", "2026-11-25T10:01:00Z", "2026-02-30T10:00:00Z", "2026"),
]
CODES: dict[str, list[str | None]] = {
    "currency": ["EUR", "USD", "eur", "EU", "EURO", "E1R"],
    "country": ["DE", "FR", "de", "D", "DEU", None],
    "merchant_category": ["5411", "0000", "541", "54111", "54a1", None],
    "channel": ["pos", "ecom", "POS", None],
}


def expected(raw: bytes) -> Transaction | None:
    try:
        return STRICT.decode(raw)
    except msgspec.DecodeError:
        return None


def found(decoder: Plain, raw: bytes) -> Transaction | None:
    """Decode as the codec does."""
    try:
        known = decoder.decode(raw)
        if known is None:
            known = STRICT.decode(raw)
            decoder.learn(known)
    except msgspec.DecodeError:
        return None
    return known


@pytest.mark.parametrize(
    "changes",
    [
        *({"timestamp": time} for time in TIMES),
        *({field: code} for field, codes in CODES.items() for code in codes),
        {"amount": -1}, {"latitude": 91}, {"user_id": ""}, {"user_id": "x" * 65}, {"currency": None}, {"amount": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_what_was_learnt_changes_no_answer(changes: dict[str, object]) -> None:
    decoder = Plain()
    usual = transaction(timestamp="2026-11-25T10:00:00.000Z")
    assert decoder.decode(usual) is None
    assert found(decoder, usual) == decoder.decode(usual) == STRICT.decode(usual)
    values: dict[str, Any] = {"timestamp": "2026-11-25T10:00:00.000Z"}
    raw = transaction(**(values | changes))
    for _ in range(2):  # the second time it may be known
        assert found(decoder, raw) == expected(raw)


def test_a_second_like_the_first_needs_no_strict_decoder() -> None:
    decoder = Plain()
    decoder.learn(STRICT.decode(transaction(timestamp="2026-11-25T10:00:00.000Z")))
    again = decoder.decode(transaction(timestamp="2026-11-25T10:00:59Z", amount=3, transaction_id="other"))
    assert again is not None
    assert type(again) is Transaction


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MOST", 3)
    decoder = Plain()
    for minute in range(50):
        raw = transaction(timestamp=f"2026-11-25T10:{minute:02}:00Z", merchant_category=f"{minute:04}")
        assert found(decoder, raw) is not None
    assert len(decoder._minutes) <= 3
    assert len(decoder._codes) <= 3


def test_the_codec_takes_this_road(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = transaction()
    assert isinstance(decode_transaction(raw, b"u1"), Transaction)  # now it is known
    monkeypatch.setattr("fraud.codec._TRANSACTION.decoder", None)
    assert isinstance(decode_transaction(raw, b"u1"), Transaction)
