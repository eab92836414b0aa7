"""Bytes to messages: what is refused and why, in which order, and what must be taken."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import codec
from fraud.codec import Refused, decode_label, decode_transaction
from fraud.schema import MAX_BYTES, MAX_DEPTH, Label, Transaction
from tests.messages import REQUIRED, TRANSACTION, label, nested, of_size, transaction, written

KEY = b"u1"

# Each is refused: the value, the reason, the field.
BAD: dict[str, tuple[bytes | None, str, str | None]] = {
    "null value": (None, "null_value", None),
    "one byte too large": (of_size(MAX_BYTES + 1), "too_large", None),
    "5 MB": (of_size(5_000_000), "too_large", None),
    "invalid UTF-8": (transaction().replace(b"m1", b"m\xff"), "not_utf8", None),
    "invalid UTF-8 in an ignored field": (written(extra='"?"').replace(b"?", b"\xc3"), "not_utf8", None),
    "a surrogate in UTF-8": (transaction().replace(b"m1", b"\xed\xa0\x80"), "not_utf8", None),
    "an overlong slash in UTF-8": (transaction().replace(b"m1", b"\xc0\xaf"), "not_utf8", None),
    "UTF-16": (transaction().decode().encode("utf-16"), "not_utf8", None),
    "nested 33 deep": (nested(MAX_DEPTH + 1), "too_deep", None),
    "nested 30,000 deep": (nested(30_000), "too_deep", None),
    "nested 30,000 deep, never closed": (b"[" * 30_000, "too_deep", None),
    "nested 30,000 deep by objects": (b'{"a":' * 12_000, "too_deep", None),
    "nested 200,000 deep": (nested(200_000), "too_large", None),
    "empty": (b"", "not_json", None),
    "white space": (b" \n", "not_json", None),
    "not JSON": (b"hello", "not_json", None),
    "cut short": (transaction()[:-1], "not_json", None),
    "a trailing comma": (transaction()[:-1] + b",}", "not_json", None),
    "two values": (transaction() * 2, "not_json", None),
    "single quotes": (transaction().replace(b'"', b"'"), "not_json", None),
    "a comment": (transaction() + b"// x", "not_json", None),
    "a byte order mark": (b"\xef\xbb\xbf" + transaction(), "not_json", None),
    "half a surrogate pair": (written(merchant_id=r'"\ud800"'), "not_json", None),
    "the other half": (written(merchant_id=r'"\udc00"'), "not_json", None),
    "half a surrogate pair in an ignored field": (written(extra=r'"\ud800"'), "not_json", None),
    "a line break inside a string": (written(merchant_id='"m\n1"'), "not_json", None),
    "an unknown escape": (written(merchant_id=r'"\q"'), "not_json", None),
    "a malformed ignored field": (written(extra="01"), "not_json", None),
    "amount NaN": (written(amount="NaN"), "not_json", None),
    "amount Infinity": (written(amount="Infinity"), "not_json", None),
    "amount with a plus": (written(amount="+1"), "not_json", None),
    "empty object": (b"{}", "schema", "transaction_id"),
    "an array": (b"[]", "schema", None),
    "null": (b"null", "schema", None),
    "a number": (b"1", "schema", None),
    "a string": (b'"x"', "schema", None),
    "amount 0": (transaction(amount=0), "schema", "amount"),
    "amount -0.0": (transaction(amount=-0.0), "schema", "amount"),
    "amount negative": (transaction(amount=-0.01), "schema", "amount"),
    "amount that rounds to 0": (written(amount="1e-400"), "schema", "amount"),
    "amount 1e300": (transaction(amount=1e300), "schema", "amount"),
    "amount 1e400": (written(amount="1e400"), "schema", "amount"),
    "amount of 400 digits": (written(amount="1" * 400), "schema", "amount"),
    "amount of 5,000 digits": (written(amount="1" * 5_000), "schema", "amount"),
    "amount just above the limit": (transaction(amount=10_000_000.01), "schema", "amount"),
    "amount a string": (transaction(amount="12.5"), "schema", "amount"),
    "amount true": (transaction(amount=True), "schema", "amount"),
    "amount null": (transaction(amount=None), "schema", "amount"),
    "an id of 0 characters": (transaction(merchant_id=""), "schema", "merchant_id"),
    "an id of 65 characters": (transaction(merchant_id="m" * 65), "schema", "merchant_id"),
    "an id of 600 characters": (transaction(merchant_id="m" * 600), "schema", "merchant_id"),
    "an id of 65 characters beyond ASCII": (transaction(merchant_id="ü" * 65), "schema", "merchant_id"),
    "an id a number": (transaction(merchant_id=1), "schema", "merchant_id"),
    "an optional id of 0 characters": (transaction(device_id=""), "schema", "device_id"),
    "channel unknown": (transaction(channel="fax"), "schema", "channel"),
    "channel in capitals": (transaction(channel="POS"), "schema", "channel"),
    "currency in lower case": (transaction(currency="eur"), "schema", "currency"),
    "currency with a newline": (transaction(currency="EUR\n"), "schema", "currency"),
    "country of three letters": (transaction(country="DEU"), "schema", "country"),
    "category a number": (transaction(merchant_category=5411), "schema", "merchant_category"),
    "category in Arabic digits": (transaction(merchant_category="٥٤١١"), "schema", "merchant_category"),
    "category with a newline": (transaction(merchant_category="541\n"), "schema", "merchant_category"),
    "latitude beyond the pole": (transaction(latitude=90.001), "schema", "latitude"),
    "longitude beyond 180": (transaction(longitude=-180.001), "schema", "longitude"),
    "latitude 1e400": (written(latitude="1e400"), "schema", "latitude"),
    "a bad value before a good one of the same name": (
        written().replace(b'{"', b'{"amount": "x", "', 1),
        "schema",
        "amount",
    ),
}
BAD_TIMES = {
    "30 February": "2026-02-30T10:00:00Z",
    "29 February of a common year": "2026-02-29T10:00:00Z",
    "29 February 2100": "2100-02-29T10:00:00Z",
    "31 April": "2026-04-31T10:00:00Z",
    "month 0": "2026-00-10T10:00:00Z",
    "month 13": "2026-13-10T10:00:00Z",
    "day 0": "2026-01-00T10:00:00Z",
    "hour 24": "2026-01-31T24:00:00Z",
    "minute 60": "2026-01-31T23:60:00Z",
    "a leap second": "2026-12-31T23:59:60Z",
    "no zone": "2026-01-31T10:00:00",
    "another zone": "2026-01-31T10:00:00+01:00",
    "UTC by its offset": "2026-01-31T10:00:00+00:00",
    "the end of time": "9999-12-31T23:59:59-01:00",
    "1999": "1999-12-31T23:59:59Z",
    "2101": "2101-01-01T00:00:00Z",
    "a space for the T": "2026-01-31 10:00:00Z",
    "lower case": "2026-01-31t10:00:00z",
    "one digit of a second": "2026-01-31T10:00:00.1Z",
    "microseconds": "2026-01-31T10:00:00.123456Z",
    "a comma": "2026-01-31T10:00:00,123Z",
    "a trailing newline": "2026-01-31T10:00:00Z\n",
    "a trailing newline at full length": "2026-01-31T10:00:00.123Z\n",
    "Arabic digits": "٢٠٢٦-01-31T10:00:00Z",
    "a date alone": "2026-01-31",
    "empty": "",
}


def refused(raw: bytes | None, key: bytes | None = KEY) -> Refused:
    got = decode_transaction(raw, key)
    assert isinstance(got, Refused), f"taken: {got}"
    return got


@pytest.mark.parametrize(("raw", "reason", "field"), BAD.values(), ids=BAD)
def test_bad_input_has_its_reason(raw: bytes | None, reason: str, field: str | None) -> None:
    got = refused(raw)
    assert (got.reason, got.field) == (reason, field)
    assert 0 < len(got.detail) <= 200


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(name: str) -> None:
    message = {field: value for field, value in TRANSACTION.items() if field != name}
    got = refused(json.dumps(message).encode())
    assert (got.reason, got.field) == ("schema", name)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, [], {}, False], ids=str)
def test_a_required_field_of_another_type_is_named(name: str, value: Any) -> None:
    got = refused(transaction(**{name: value}))
    assert (got.reason, got.field) == ("schema", name)


@pytest.mark.parametrize("text", BAD_TIMES.values(), ids=BAD_TIMES)
def test_a_bad_time_is_refused(text: str) -> None:
    got = refused(transaction(timestamp=text))
    assert (got.reason, got.field) == ("schema", "timestamp")


@pytest.mark.parametrize(
    "text",
    [
        "2000-01-01T00:00:00Z",
        "2000-02-29T23:59:59Z",
        "2024-02-29T12:00:00.001Z",
        "2026-12-31T23:59:59.999Z",
        "2100-12-31T23:59:59.999Z",
    ],
)
def test_a_good_time_is_taken(text: str) -> None:
    assert isinstance(decode_transaction(transaction(timestamp=text), KEY), Transaction)


CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]


@pytest.mark.parametrize("code", CONTROLS, ids=lambda code: f"U+{code:04X}")
def test_an_id_holds_no_control_character(code: int) -> None:
    for text in (f"m{chr(code)}", f"{chr(code)}m", f"m{chr(code)}m"):
        escaped = transaction(merchant_id=text)
        plain = json.dumps({**TRANSACTION, "device_id": text}, ensure_ascii=False).encode()
        assert refused(escaped)[:2] == ("schema", "merchant_id")
        assert refused(plain)[:2] == ("schema", "device_id")


@pytest.mark.parametrize(
    "text",
    ["m", "m" * 64, "ü" * 64, "😀" * 64, " ", '"', "\\", "/", "\u2028", "\u00a0", "\ufeff", "[{", "}]"],
    ids=ascii,
)
def test_any_other_id_is_taken(text: str) -> None:
    for ensure_ascii in (True, False):
        raw = json.dumps({**TRANSACTION, "user_id": text}, ensure_ascii=ensure_ascii).encode()
        got = decode_transaction(raw, text.encode())
        assert isinstance(got, Transaction)
        assert got.user_id == text


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        pytest.param(of_size(MAX_BYTES), "amount", 12.5, id="64 KiB"),
        pytest.param(nested(MAX_DEPTH), "amount", 12.5, id="nested 32 deep"),
        pytest.param(written(extra='"' + "[" * 100 + '"'), "amount", 12.5, id="brackets in a string"),
        pytest.param(written(extra=r'"\"' + "{" * 100 + '"'), "amount", 12.5, id="brackets after an escaped quote"),
        pytest.param(written(extra="[" + "[]," * 200 + "[]]"), "amount", 12.5, id="many brackets side by side"),
        pytest.param(b" \n" + transaction() + b"\n", "amount", 12.5, id="white space around"),
        pytest.param(transaction(amount=10_000_000), "amount", 1e7, id="the largest amount, an integer"),
        pytest.param(written(amount="5e-324"), "amount", 5e-324, id="the least amount"),
        pytest.param(transaction(latitude=90, longitude=-180), "latitude", 90.0, id="the pole"),
        pytest.param(
            written().replace(b'{"', b'{"amount": 7, "', 1), "amount", 12.5, id="of a name given twice the last"
        ),
        pytest.param(written(extra="1e999"), "amount", 12.5, id="an ignored number beyond all limits"),
        pytest.param(written().replace(b"amount", rb"am\u006funt"), "amount", 12.5, id="a name with an escape"),
        pytest.param(transaction(future_field={"a": [1]}), "amount", 12.5, id="an unknown field"),
        pytest.param(transaction(channel=None), "channel", None, id="null in an optional field"),
    ],
)
def test_unusual_but_valid(raw: bytes, field: str, value: Any) -> None:
    got = decode_transaction(raw, KEY)
    assert isinstance(got, Transaction), got
    assert getattr(got, field) == value


def test_a_missing_optional_field_is_null() -> None:
    got = decode_transaction(json.dumps({name: TRANSACTION[name] for name in REQUIRED}).encode(), KEY)
    assert isinstance(got, Transaction)
    optional = [name for name in TRANSACTION if name not in REQUIRED]
    assert {getattr(got, name) for name in optional} == {None}


@pytest.mark.parametrize("key", [None, b"", b"u2", b"U1", b"u1 ", b"\xff"], ids=repr)
def test_a_wrong_key_is_refused(key: bytes | None) -> None:
    for raw in (transaction(), nested(3)):
        assert refused(raw, key).reason == "key_mismatch"


# A message with every fault, and what is left to find after mending the first, the second …
LADDER: list[tuple[bytes | None, bytes | None, str]] = [
    (None, None, "null_value"),
    (b"\xff" + b"[" * MAX_BYTES, None, "too_large"),
    (b"\xff" + b"[" * 100, None, "not_utf8"),
    (b"[" * 100 + b"nonsense", None, "too_deep"),
    (b'{"amount": 0,, }', None, "not_json"),
    (transaction(amount=0), None, "schema"),
    (transaction(), None, "key_mismatch"),
]


@pytest.mark.parametrize(("raw", "key", "reason"), LADDER, ids=[step[2] for step in LADDER])
def test_the_checks_have_one_order(raw: bytes | None, key: bytes | None, reason: str) -> None:
    assert refused(raw, key).reason == reason


def test_labels_are_checked_in_the_same_order() -> None:
    for raw, key, reason in [*LADDER[:5], (label(is_fraud="no"), None, "schema"), (label(), None, "key_mismatch")]:
        got = decode_label(raw, key)
        assert isinstance(got, Refused)
        assert got.reason == reason


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_no_bytes_make_the_decoder_raise(raw: bytes) -> None:
    assert isinstance(decode_transaction(raw, KEY), Refused)
    assert isinstance(decode_label(raw, KEY), Refused)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_message_never_makes_the_decoder_raise(data: st.DataObject) -> None:
    raw = bytearray(transaction())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert isinstance(decode_transaction(bytes(raw), KEY), Refused | Transaction)


def test_the_short_way_and_the_long_way_agree() -> None:
    for raw, _, _ in BAD.values():
        assert decode_transaction(raw, KEY) == codec._TRANSACTION.carefully(raw, KEY)
    assert decode_transaction(transaction(), KEY) == codec._TRANSACTION.carefully(transaction(), KEY)


def test_labels_are_decoded_by_the_same_rules() -> None:
    good = decode_label(label(), KEY)
    assert isinstance(good, Label)
    assert good.is_fraud
    for name, value in [
        ("is_fraud", 1),
        ("is_fraud", None),
        ("labelled_at", "2026-02-30T00:00:00Z"),
        ("source", "rumour"),
        ("transaction_id", "t\n"),
    ]:
        got = decode_label(label(**{name: value}), KEY)
        assert isinstance(got, Refused)
        assert got[:2] == ("schema", name)


def test_what_is_encoded_is_decoded_again() -> None:
    for raw, kind in ((transaction(), decode_transaction), (label(), decode_label)):
        message = kind(raw, KEY)
        assert not isinstance(message, Refused)
        assert kind(codec.encode(message), KEY) == message
        assert list(json.loads(codec.encode(message))) == list(type(message).__struct_fields__)


def test_columns_hold_what_the_kernel_reads() -> None:
    full = Transaction(**TRANSACTION)
    bare = Transaction(**{name: TRANSACTION[name] for name in REQUIRED})
    half = Transaction(**{**TRANSACTION, "longitude": None})
    events = codec.event_columns([full, bare, half], [1, 2, 2**64 - 1])
    assert events["time"].tolist() == [codec.parse_time(full.timestamp)] * 3
    assert events["digest"].tolist() == [1, 2, 2**64 - 1]
    assert events["country"].tolist() == [codec.country_code("DE"), 0, codec.country_code("DE")]
    assert events["channel"].tolist() == [0, -1, 0]
    assert events["mcc"].tolist() == [5411, -1, 5411]
    assert events["device"].tolist() == [codec.hash_id("d1"), 0, codec.hash_id("d1")]
    np.testing.assert_array_equal(events["lat"], [52.5, np.nan, np.nan])
    np.testing.assert_array_equal(events["lon"], [13.4, np.nan, np.nan])  # one coordinate is no position
    assert len(codec.event_columns([], [])) == 0


def test_every_country_has_a_code_of_its_own() -> None:
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    codes = {codec.country_code(a + b) for a in letters for b in letters}
    assert len(codes) == 26 * 26
    assert min(codes) > 0  # 0 is null
    assert max(codes) < 1024  # the kernel's table of countries
