"""The kernel against the plain reference, and the laws that every caller relies on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import features, history, profiles
from fraud.features import FEATURE_NAMES, MERCHANT_COLUMNS
from fraud.times import parse_time
from tests import reference
from tests.reference import DAY, HOUR, QUARTER, Event

NOW = 1_767_268_800_000  # 2026-01-01T12:00:00Z
places = st.sampled_from([(math.nan, math.nan), (52.5, 13.4), (48.1, 11.6), (-33.9, 151.2), (52.5001, 13.4)])


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """A user's events in arrival order: bunched, late by up to 45 days, repeated, at equal times."""
    step = st.one_of(
        st.integers(0, 5 * 60_000),
        st.integers(0, 3 * DAY),
        st.integers(-45 * DAY, 0),
        st.sampled_from([0, HOUR, DAY, 7 * DAY, 30 * DAY, 37 * DAY, -7 * DAY]),
    )
    time, events = NOW, []
    for _ in range(draw(st.integers(1, 40))):
        time += draw(step)
        lat, lon = draw(places)
        events.append(
            Event(
                time=time,
                amount=draw(st.sampled_from([1.0, 0.1, 12.5, 99.99, 1e7, 5e-324])),
                merchant=draw(st.integers(1, 4)),
                txn=draw(st.integers(1, 60)),
                digest=draw(st.integers(0, 2)),
                device=draw(st.integers(0, 2)),
                country=draw(st.sampled_from([0, 165, 858])),
                lat=lat,
                lon=lon,
                channel=draw(st.integers(-1, 3)),
                mcc=draw(st.sampled_from([-1, 0, 5411])),
            )
        )
    return events


def columns(events: list[Event]) -> history.Events:
    out = np.zeros(len(events), history.EVENT)
    for name in history.EVENT.names or ():
        out[name] = [getattr(event, name) for event in events]
    return out


def fold_in_pieces(events: history.Events, cuts: list[int]) -> tuple[np.ndarray, np.ndarray, bytes | None]:
    """Fold one user's events slice by slice, the history packed and stored in between."""
    packed: bytes | None = None
    matrices, statuses = [], []
    for start, stop in zip([0, *cuts], [*cuts, len(events)], strict=True):
        folded = features.fold(events[start:stop], np.array([0, stop - start]), history.unpack([packed]))
        matrices.append(folded.matrix)
        statuses.append(folded.status)
        if (folded.status == 0).any():
            packed = history.pack(int(folded.newest[0]), folded.entries[folded.start[0] : folded.stop[0]])
    return np.concatenate(matrices), np.concatenate(statuses), packed


@settings(deadline=None, max_examples=150)
@given(streams())
def test_equals_the_reference(events: list[Event]) -> None:
    matrix, status, _ = fold_in_pieces(columns(events), [])
    user = reference.User()
    for row, event in enumerate(events):
        expected_status, expected = user.add(event)
        assert status[row] == expected_status
        if expected_status == 0:
            for column, name in enumerate(FEATURE_NAMES[: MERCHANT_COLUMNS.start]):
                want = max(-1e30, min(1e30, expected[name])) if not math.isnan(expected[name]) else math.nan
                assert matrix[row, column] == pytest.approx(want, rel=1e-9, abs=1e-9, nan_ok=True), name
    assert not np.isinf(matrix).any()


@settings(deadline=None, max_examples=80)
@given(streams(), st.data())
def test_pieces_equal_the_whole(events: list[Event], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    whole, whole_status, end = fold_in_pieces(columns(events), [])
    pieces, status, same_end = fold_in_pieces(columns(events), cuts)
    np.testing.assert_array_equal(status, whole_status)
    np.testing.assert_array_equal(pieces, whole)  # bit for bit: the same arithmetic
    assert end == same_end


def test_a_history_keeps_the_last_512_arrivals_and_the_newest_time() -> None:
    newest_first = Event(time=NOW + DAY, amount=5.0, merchant=9, txn=10_000)
    rest = [Event(time=NOW + i, amount=1.0 + i, merchant=1, txn=i + 1) for i in range(600)]
    _, _, packed = fold_in_pieces(columns([newest_first, *rest]), [100, 101, 400])
    kept = history.unpack([packed])
    assert len(kept.entries) == 512
    assert kept.newest[0] == NOW + DAY  # its entry is gone, the time stays
    assert kept.entries["amount"][-1] == 600.0
    user = reference.User()
    for event in [newest_first, *rest]:
        user.add(event)
    assert kept.entries["amount"].tolist() == [event.amount for event in user.history]


def test_equal_amounts_have_no_zscore() -> None:
    events = [Event(time=NOW + i, amount=0.1, merchant=1, txn=i + 1) for i in range(4)]
    matrix, _, _ = fold_in_pieces(columns(events), [])
    assert np.isnan(matrix[:, FEATURE_NAMES.index("amount_zscore")]).all()


def test_first_transaction_has_missing_values_not_zeros() -> None:
    matrix, _, _ = fold_in_pieces(columns([Event(time=NOW, amount=3.0, merchant=1, txn=1)]), [])
    row = dict(zip(FEATURE_NAMES, matrix[0], strict=True))
    for name in (
        "rolling_avg_7d",
        "amount_to_avg_ratio",
        "minutes_since_last_txn",
        "country_change_flag",
        "channel",
    ):
        assert math.isnan(row[name]), name
    for name in ("user_txn_count_30d", "user_amount_sum_24h", "unique_merchants_24h"):
        assert row[name] == 0, name


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(-4000, 10), st.integers(-700, 700), st.integers(-2, 5), st.integers(-1, 2)),
        max_size=40,
    ),
    st.integers(0, QUARTER - 1),
)
def test_merchant_features_equal_the_reference(raw: list[tuple[int, int, int, int]], offset: int) -> None:
    q = NOW // QUARTER
    changes = sorted((q + own, q + effective, n, f) for own, effective, n, f in raw)
    packed = np.array(changes, profiles.CHANGE) if changes else np.empty(0, profiles.CHANGE)
    matrix = np.zeros((1, len(FEATURE_NAMES)))
    time = q * QUARTER + offset
    features.add_merchant_features(matrix, np.array([time]), np.array([1]), profiles.unpack([None, packed.tobytes()]))
    expected = reference.merchant_features(time, changes)
    for name, value in zip(FEATURE_NAMES[MERCHANT_COLUMNS], matrix[0, MERCHANT_COLUMNS], strict=True):
        assert value == pytest.approx(expected[name], nan_ok=True), name


def test_a_profile_that_holds_the_future_answers_the_same() -> None:
    q = NOW // QUARTER
    past = [(q - 700, q - 698, 3, 0), (q - 700, q - 20, 0, 1)]
    future = [(q - 700, q + 1, 0, 1), (q - 674, q + 1, 9, 9), (q, q + 2, 5, 5)]
    rows = []
    for changes in (past, sorted(past + future)):
        matrix = np.zeros((1, len(FEATURE_NAMES)))
        packed = np.array(changes, profiles.CHANGE).tobytes()
        features.add_merchant_features(matrix, np.array([NOW]), np.array([0]), profiles.unpack([packed]))
        rows.append(matrix[0, MERCHANT_COLUMNS])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows[0][0] == 3
    assert rows[0][3] == pytest.approx(1 / 3)


# The table of the contract, row by row, at the edges where a window or a tie decides.
FIRST = Event(time=NOW, amount=10.0, merchant=1, txn=1, device=1, country=165, lat=52.5, lon=13.4)


def last_row(*events: Event) -> dict[str, float]:
    """Return the features of the last event."""
    matrix, status, _ = fold_in_pieces(columns(list(events)), [])
    assert status[-1] == 0
    return dict(zip(FEATURE_NAMES, matrix[-1].tolist(), strict=True))


@pytest.mark.parametrize(
    ("feature", "window"),
    [
        ("user_txn_count_1h", HOUR),
        ("user_txn_count_24h", DAY),
        ("user_txn_count_7d", 7 * DAY),
        ("user_txn_count_30d", 30 * DAY),
        ("unique_countries_24h", DAY),
        ("unique_merchants_24h", DAY),
    ],
)
def test_a_window_is_open_at_its_far_end(feature: str, window: int) -> None:
    for age, expected in ((0, 1), (window - 1, 1), (window, 0)):
        assert last_row(FIRST, replace(FIRST, txn=2, time=NOW + age))[feature] == expected, age


def test_an_event_after_t_is_in_no_window() -> None:
    row = last_row(FIRST, replace(FIRST, txn=2, time=NOW - 1, merchant=1))
    assert row["user_txn_count_30d"] == 0
    assert row["user_merchant_first_time"] == 1.0
    assert math.isnan(row["minutes_since_last_txn"])


def test_two_places_at_one_millisecond_have_a_distance_and_no_speed() -> None:
    row = last_row(FIRST, replace(FIRST, txn=2, lat=48.1, lon=11.6))
    assert row["minutes_since_last_txn"] == 0.0
    assert row["km_since_last_txn"] == pytest.approx(505, abs=5)
    assert math.isnan(row["speed_kmh"])


@pytest.mark.parametrize("unknown", ["here", "there"])
def test_an_unknown_position_gives_neither_distance_nor_speed(unknown: str) -> None:
    before, now = FIRST, replace(FIRST, txn=2, time=NOW + HOUR)
    if unknown == "there":
        before = replace(before, lat=math.nan, lon=math.nan)
    else:
        now = replace(now, lat=math.nan, lon=math.nan)
    row = last_row(before, now)
    assert row["minutes_since_last_txn"] == 60.0
    assert math.isnan(row["km_since_last_txn"])
    assert math.isnan(row["speed_kmh"])


def test_the_last_of_equal_times_is_the_last_to_arrive() -> None:
    other = replace(FIRST, txn=2, country=858, device=2, lat=48.1, lon=11.6)
    row = last_row(FIRST, other, replace(other, txn=3, time=NOW + HOUR))
    assert (row["country_change_flag"], row["device_change_flag"], row["km_since_last_txn"]) == (0.0, 0.0, 0.0)
    row = last_row(other, FIRST, replace(other, txn=3, time=NOW + HOUR))
    assert (row["country_change_flag"], row["device_change_flag"]) == (1.0, 1.0)
    assert row["speed_kmh"] == row["km_since_last_txn"] > 400


def test_a_change_is_against_the_last_that_was_known() -> None:
    unknown = replace(FIRST, txn=2, time=NOW + 1, country=0, device=0)
    row = last_row(FIRST, unknown, replace(FIRST, txn=3, time=NOW + 2, country=858, device=1))
    assert (row["country_change_flag"], row["device_change_flag"]) == (1.0, 0.0)
    row = last_row(FIRST, unknown)
    assert math.isnan(row["country_change_flag"])
    assert math.isnan(row["device_change_flag"])
    assert row["unique_countries_24h"] == 1


def test_a_history_forgets_after_37_days_of_the_newest_time_seen() -> None:
    """An entry of exactly 37 days stays and is recognised as a repeat; a millisecond more, and it is new."""
    for age, status_of_repeat in ((37 * DAY, 1), (37 * DAY + 1, 0)):
        newest = Event(time=NOW + age, amount=1.0, merchant=2, txn=2)
        _, status, _ = fold_in_pieces(columns([FIRST, newest, FIRST]), [])
        assert status[-1] == status_of_repeat, age


def test_what_arrives_too_late_to_stay_has_features_and_leaves_no_entry() -> None:
    late = replace(FIRST, txn=3, time=NOW - 37 * DAY - 1)
    matrix, status, packed = fold_in_pieces(columns([FIRST, late, late]), [])
    assert status.tolist() == [0, 0, 0]  # never kept, so never a repeat
    assert matrix[1, FEATURE_NAMES.index("amount")] == 10.0
    assert len(history.unpack([packed]).entries) == 1


def test_the_513th_arrival_pushes_the_first_out() -> None:
    events = [Event(time=NOW + i, amount=1.0, merchant=1, txn=i + 1) for i in range(513)]
    row = last_row(*events)
    assert row["user_txn_count_30d"] == 512
    _, status, _ = fold_in_pieces(columns([*events, events[0], events[1]]), [])
    assert status[-2:].tolist() == [0, 0]  # the first was forgotten; taking it again pushed the second out
    _, status, _ = fold_in_pieces(columns([*events, events[1]]), [])
    assert status[-1] == 1


@pytest.mark.parametrize(
    ("time", "hour", "day", "weekend", "night"),
    [
        ("2026-01-05T00:00:00.000Z", 0, 0, 0, 1),  # a Monday
        ("2026-01-09T05:59:59.999Z", 5, 4, 0, 1),
        ("2026-01-09T06:00:00.000Z", 6, 4, 0, 0),
        ("2026-01-10T23:59:59.999Z", 23, 5, 1, 0),
        ("2026-01-11T12:00:00.000Z", 12, 6, 1, 0),
    ],
)
def test_the_calendar_is_utc(time: str, hour: int, day: int, weekend: int, night: int) -> None:
    row = last_row(replace(FIRST, time=parse_time(time)))
    assert (row["hour_of_day"], row["day_of_week"]) == (hour, day)
    assert (row["is_weekend"], row["is_night"]) == (weekend, night)
