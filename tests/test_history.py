"""A history's bytes: packed, laid side by side, refused where they are damaged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import history
from fraud.errors import StoreError
from fraud.history import ENTRY, EVENT, HEADER, NEVER

histories = st.lists(
    st.one_of(st.none(), st.tuples(st.integers(NEVER, 2**62), st.binary(max_size=ENTRY.itemsize * 4))), max_size=5
)


def whole(raw: bytes) -> np.ndarray:
    """Return random bytes as whole entries."""
    return np.frombuffer(raw[: len(raw) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)


@given(histories)
def test_what_is_packed_is_unpacked(given_histories: list[tuple[int, bytes] | None]) -> None:
    packed = [None if each is None else history.pack(each[0], whole(each[1])) for each in given_histories]
    unpacked = history.unpack(packed)
    assert len(unpacked.bounds) == len(packed) + 1
    for i, each in enumerate(given_histories):
        mine = unpacked.entries[unpacked.bounds[i] : unpacked.bounds[i + 1]]
        assert mine.tobytes() == (b"" if each is None else whole(each[1]).tobytes())
        assert unpacked.newest[i] == (NEVER if each is None else each[0])


@given(histories)
def test_all_at_once_are_packed_as_one_by_one(given_histories: list[tuple[int, bytes] | None]) -> None:
    packed = [history.pack(each[0], whole(each[1])) for each in given_histories if each is not None]
    laid = history.unpack(packed)
    assert history.pack_all(laid.newest, laid.entries, laid.bounds[:-1], laid.bounds[1:]) == packed
    gaps = np.repeat(laid.entries, 2)[::2]  # not contiguous
    assert history.pack_all(laid.newest, gaps, laid.bounds[:-1], laid.bounds[1:]) == packed


@pytest.mark.parametrize("length", [0, 1, HEADER - 1, HEADER + 1, HEADER + ENTRY.itemsize - 1, 2 * ENTRY.itemsize])
def test_damaged_bytes_are_refused_with_the_way_out(length: int) -> None:
    good = history.pack(0, np.zeros(2, ENTRY))
    with pytest.raises(StoreError, match="fraud-detect rebuild"):
        history.unpack([good, b"\0" * length, None])


def test_nobody_has_no_histories() -> None:
    empty = history.unpack([])
    assert (len(empty.entries), empty.bounds.tolist(), len(empty.newest)) == (0, [0], 0)
    assert history.unpack([None]).bounds.tolist() == [0, 0]


def test_the_layout_is_the_contracts() -> None:
    """Another layout makes every stored history unreadable: change it only with a new version of the store."""
    names = ("time", "amount", "merchant", "device", "lat", "lon", "txn", "digest", "country")
    assert ENTRY.names == names
    assert EVENT.names == (*names, "channel", "mcc")
    assert (ENTRY.itemsize, HEADER) == (66, 8)
    assert (history.MAX_ENTRIES, history.MAX_AGE_MS) == (512, 37 * 86_400_000)
