"""A merchant's profile as bytes, quarters, and when a read is stale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import profiles
from fraud.errors import StoreError
from fraud.features.kernel import DELAY_QUARTERS
from fraud.parity.columns import NO_PROFILES
from fraud.profiles import CHANGE, GRACE_QUARTERS, QUARTER_MS, are_stale, quarter_of


@given(st.lists(st.one_of(st.none(), st.binary(max_size=CHANGE.itemsize * 4)), max_size=5))
def test_what_is_packed_is_unpacked(given_bytes: list[bytes | None]) -> None:
    packed = [None if raw is None else raw[: len(raw) // CHANGE.itemsize * CHANGE.itemsize] for raw in given_bytes]
    unpacked = profiles.unpack(packed)
    for i, raw in enumerate(packed):
        assert unpacked.changes[unpacked.bounds[i] : unpacked.bounds[i + 1]].tobytes() == (raw or b"")


@pytest.mark.parametrize("length", [1, CHANGE.itemsize - 1, CHANGE.itemsize + 1])
def test_damaged_bytes_are_refused_with_the_way_out(length: int) -> None:
    with pytest.raises(StoreError, match="fraud-detect rebuild"):
        profiles.unpack([np.zeros(1, CHANGE).tobytes(), b"\0" * length])


@pytest.mark.parametrize(
    ("time_ms", "quarter"), [(0, 0), (QUARTER_MS - 1, 0), (QUARTER_MS, 1), (1_769_853_600_000, 1_966_504)]
)
def test_a_quarter_begins_with_its_first_millisecond(time_ms: int, quarter: int) -> None:
    assert quarter_of(time_ms) == quarter


@pytest.mark.parametrize("behind", range(4))
def test_a_read_is_exact_with_the_quarter_before_archived(behind: int) -> None:
    times = 100 * QUARTER_MS + np.array([0, QUARTER_MS - 1])
    assert are_stale(times, np.full(2, 100 - behind)).tolist() == [behind > 1] * 2
    assert not are_stale(times, np.full(2, 200)).any()
    assert are_stale(times, np.full(2, NO_PROFILES)).all()


def test_the_delays_are_the_contracts() -> None:
    assert DELAY_QUARTERS == 674
    assert GRACE_QUARTERS == 2
    assert CHANGE.itemsize == 16
