"""Timestamps as texts and as milliseconds."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.times import format_time, parse_time, parse_times

FIRST = 946_684_800_000  # 2000-01-01T00:00:00.000Z
LAST = 4_133_980_799_999  # 2100-12-31T23:59:59.999Z


@given(st.integers(FIRST, LAST))
def test_a_formatted_time_is_parsed_back_by_both_parsers(ms: int) -> None:
    text = format_time(ms)
    assert len(text) == 24
    assert parse_time(text) == ms
    assert parse_times([text]).tolist() == [ms]
    seconds = text[:19] + "Z"
    assert parse_time(seconds) == ms - ms % 1000
    assert parse_times([text, seconds, text]).tolist() == [ms, ms - ms % 1000, ms]


@given(st.integers(FIRST // 86_400_000 - 800, LAST // 86_400_000 + 800), st.sampled_from(["00:00:00", "23:59:59.999"]))
def test_the_pattern_knows_the_calendar(day: int, clock: str) -> None:
    date = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date()
    text = f"{date.isoformat()}T{clock}Z"
    if 2000 <= date.year <= 2100:
        assert parse_time(text) // 86_400_000 == day
    else:
        with pytest.raises(ValueError, match="2000 to 2100"):
            parse_time(text)


def test_every_day_number_of_every_month_is_taken_only_where_it_exists() -> None:
    for year in (2000, 2023, 2024, 2100):
        for month in range(14):
            for day in range(33):
                text = f"{year}-{month:02}-{day:02}T00:00:00Z"
                try:
                    expected: int | None = round(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)
                except ValueError:
                    expected = None
                try:
                    found: int | None = parse_time(text)
                except ValueError:
                    found = None
                assert found == expected, text


@pytest.mark.parametrize(
    "text", ["", "now", "2026-01-31", "2026-01-31T10:00:00Z\n", "9999-12-31T23:59:59-01:00", "x" * 10_000]
)
def test_the_refusal_names_the_text_and_stays_short(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time like") as caught:
        parse_time(text)
    assert repr(text[:40]) in str(caught.value)
    assert len(str(caught.value)) < 150


def test_no_texts_give_no_times() -> None:
    assert parse_times([]).tolist() == []
