"""Refusals as they are published, and the broker's clock."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.bus import LARGEST_ANSWER, LARGEST_MESSAGE
from fraud.codec import decode_transaction
from fraud.rejections import FUTURE_MS, Refused, check_clock, reject
from fraud.schema import MAX_BYTES, MAX_KEY_BYTES, REASONS
from fraud.times import parse_time
from fraud.validation import validator
from tests.test_codec import BAD

NOW = parse_time("2026-03-01T12:00:00Z")
DAY = 86_400_000
AT = "2026-03-01T12:00:00.000Z"


def publish(refused: Refused, key: bytes | None, raw: bytes | None) -> tuple[bytes | None, bytes]:
    return reject(refused, topic="transactions", partition=1, offset=7, key=key, raw=raw, rejected_at=AT)


@pytest.mark.parametrize(
    ("late_ms", "max_age_ms", "reason"),
    [
        (-FUTURE_MS, 7 * DAY, None),
        (-FUTURE_MS - 1, 7 * DAY, "future_timestamp"),
        (-FUTURE_MS - 1, None, "future_timestamp"),
        (0, 7 * DAY, None),
        (7 * DAY, 7 * DAY, None),
        (7 * DAY + 1, 7 * DAY, "too_old"),
        (3_000 * DAY, None, None),
        (1, 0, "too_old"),
    ],
)
def test_the_clock_is_the_brokers(late_ms: int, max_age_ms: int | None, reason: str | None) -> None:
    got = check_clock(NOW - late_ms, NOW, max_age_ms)
    assert (None if got is None else got.reason) == reason
    if got is not None:
        assert got.field == "timestamp"
        assert AT in got.detail


@pytest.mark.parametrize("raw", [value[0] for value in BAD.values()], ids=BAD)
def test_every_bad_input_is_published_as_the_schema_says(raw: bytes | None) -> None:
    refused = decode_transaction(raw, b"u1")
    assert isinstance(refused, Refused)
    key, value = publish(refused, b"u1", raw)
    assert key == b"u1"
    answer = json.loads(value)
    validator("rejection").validate(answer)
    assert answer["source"] == {"topic": "transactions", "partition": 1, "offset": 7}
    if raw is None:
        assert (answer["original"], answer["length"], answer["sha256"]) == (None, None, None)
    else:
        assert base64.b64decode(answer["original"]) == raw[:MAX_BYTES]
        assert answer["length"] == len(raw)
        assert answer["sha256"] == hashlib.sha256(raw).hexdigest()
    assert publish(refused, b"u1", raw) == (key, value)


@given(
    st.sampled_from(REASONS), st.one_of(st.none(), st.text(max_size=9)), st.text(max_size=200), st.binary(max_size=9)
)
def test_any_refusal_can_be_published(reason: str, field: str | None, detail: str, raw: bytes) -> None:
    refused = Refused(reason, field, detail)  # type: ignore[arg-type]
    _, value = publish(refused, raw, raw)
    answer = json.loads(value)
    validator("rejection").validate(answer)
    assert (answer["reason"], answer["field"], answer["detail"]) == (reason, field, detail)


@pytest.mark.parametrize("length", [MAX_KEY_BYTES - 1, MAX_KEY_BYTES, MAX_KEY_BYTES + 1, 100_000])
def test_a_long_key_is_cut_and_its_length_told(length: int) -> None:
    key, value = publish(Refused("key_mismatch", None, "x"), b"k" * length, b"{}")
    assert key == b"k" * min(length, MAX_KEY_BYTES)
    assert json.loads(value)["key_length"] == length


def test_no_key_stays_none() -> None:
    key, value = publish(Refused("key_mismatch", None, "no key"), None, b"{}")
    assert key is None
    assert json.loads(value)["key_length"] is None


def test_the_answer_to_the_largest_message_fits_its_topic() -> None:
    raw = b"\x00" * LARGEST_MESSAGE
    refused = decode_transaction(raw, None)
    assert isinstance(refused, Refused)
    key, value = publish(refused, b"k" * LARGEST_MESSAGE, raw)
    assert key is not None
    assert len(key) + len(value) < LARGEST_ANSWER
