"""What every store promises of merchant profiles: loads and batches of changes, each visible whole, once."""

import threading
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from fraud import profiles
from fraud.errors import FencedError
from fraud.profiles import CHANGE
from fraud.store.base import Profiles, Store
from tests.servers import wait_for
from tests.store.conftest import Backend


def changes(*rows: tuple[int, int, int, int]) -> npt.NDArray[np.void]:
    """Return changes of (quarter, effective, transactions, frauds)."""
    return np.array(list(rows), CHANGE)


def stored(part: Profiles) -> dict[str, list[tuple[int, ...]]]:
    """Return every merchant's changes as rows."""
    return {name: profiles.unpack([raw]).changes.tolist() for name, raw in part.merchants()}


def test_profiles_and_how_far_they_reach(store: Store) -> None:
    assert store.profiles.through() is None
    assert store.profiles.read(["m1"]) == ([None], None)
    assert store.profiles.load([("m1", b"one"), ("m2", b"")], 10) == 2
    assert store.profiles.load(iter([("m1", b"two")]), 11) == 1
    assert store.profiles.load([], 12) == 0
    assert store.profiles.read(["m2", "m1", "absent"]) == ([b"", b"two", None], 12)
    assert store.profiles.read([]) == ([], 12)
    assert dict(store.profiles.merchants()) == {"m1": b"two", "m2": b""}
    assert store.profiles.through() == 12
    store.profiles.load([("m3", b"x")], 0)
    assert store.profiles.through() == 0
    store.profiles.wipe()
    assert store.profiles.through() is None
    assert list(store.profiles.merchants()) == []


def test_profiles_and_through_become_visible_together(backend: Backend) -> None:
    """A reader never sees changes of one load beside the reach of another."""
    names, reads = [f"m{i}" for i in range(3_000)], 30
    writer = backend.another()
    backend.store.profiles.load([(name, b"0") for name in names], 0)
    enough = threading.Event()
    loads = [0]

    def load() -> None:
        while not enough.is_set() or loads[0] < 3:
            loads[0] += 1
            writer.profiles.load([(name, b"%d" % loads[0]) for name in names], loads[0])

    thread = threading.Thread(target=load)
    thread.start()
    seen = set()
    try:
        for _ in range(reads):
            packed, through = backend.store.profiles.read([names[0], names[1_500], names[-1]])
            assert packed == [b"%d" % (-1 if through is None else through)] * 3
            seen.add(through)
        wait_for("a load is seen", lambda: backend.store.profiles.through() not in seen)
    finally:
        enough.set()
        thread.join()
    assert backend.store.profiles.through() == loads[0]
    writer.close()


# --- batches ---


def test_a_batch_is_merged_into_what_is_stored(store: Store) -> None:
    assert store.profiles.applied() is None
    first = {"m1": changes((7, 9, 1, 0), (5, 7, 1, 0), (7, 9, 2, 0)), "m2": changes((7, 9, 1, 0))}
    store.profiles.apply(first, 7, expected=None, applied="q/0", keep_from=None)
    assert stored(store.profiles) == {"m1": [(5, 7, 1, 0), (7, 9, 3, 0)], "m2": [(7, 9, 1, 0)]}
    assert (store.profiles.through(), store.profiles.applied()) == (7, "q/0")
    second = {"m1": changes((7, 9, 1, 1), (7, 8, 0, -1), (9, 11, 1, 0)), "m3": changes((4, 11, 1, 0)), "m4": changes()}
    store.profiles.apply(second, 9, expected="q/0", applied="q/1", keep_from=None)
    assert stored(store.profiles) == {
        "m1": [(5, 7, 1, 0), (7, 8, 0, -1), (7, 9, 4, 1), (9, 11, 1, 0)],
        "m2": [(7, 9, 1, 0)],
        "m3": [(4, 11, 1, 0)],
        "m4": [],
    }
    store.profiles.apply({}, None, expected="q/1", applied="q/2", keep_from=None)
    assert (store.profiles.through(), store.profiles.applied()) == (9, "q/2")


def test_old_changes_leave_the_merchants_that_are_touched(store: Store) -> None:
    old = {name: changes((1, 3, 5, 0), (8, 10, 1, 0)) for name in ("touched", "other")}
    store.profiles.apply(old, 8, expected=None, applied="q/0", keep_from=None)
    late = {"touched": changes((7, 12, 0, 1), (8, 12, 0, 1))}
    store.profiles.apply(late, 10, expected="q/0", applied="q/1", keep_from=8)
    assert stored(store.profiles) == {
        "touched": [(8, 10, 1, 0), (8, 12, 0, 1)],
        "other": [(1, 3, 5, 0), (8, 10, 1, 0)],
    }


def test_a_batch_that_doesnt_follow_is_refused_whole(backend: Backend) -> None:
    part = backend.store.profiles
    one = {"m": changes((7, 9, 1, 0))}
    with pytest.raises(FencedError, match="hold the changes up to batch none, not q/0"):
        part.apply(one, 7, expected="q/0", applied="q/1", keep_from=None)
    part.apply(one, 7, expected=None, applied="q/0", keep_from=None)
    other = backend.another()
    for expected_now in (None, "q/1"):  # a replay, and an orphan that comes too late
        with pytest.raises(FencedError, match="hold the changes up to batch q/0, not"):
            other.profiles.apply({"m": changes((9, 11, 1, 0))}, 9, expected=expected_now, applied="q/0", keep_from=None)
    assert stored(part) == {"m": [(7, 9, 1, 0)]}
    assert (part.through(), part.applied()) == (7, "q/0")
    other.close()


def test_a_load_sets_the_marker_or_forgets_it(store: Store) -> None:
    store.profiles.load([("m", changes((7, 9, 1, 0)).tobytes())], 7, applied="q/4")
    assert store.profiles.applied() == "q/4"
    store.profiles.apply({"m": changes((7, 9, 1, 0))}, 7, expected="q/4", applied="q/5", keep_from=None)
    assert stored(store.profiles) == {"m": [(7, 9, 2, 0)]}
    store.profiles.load([("m", b"")], 8)
    assert store.profiles.applied() is None
    store.profiles.load([], 8, applied="q/6")
    store.profiles.wipe()
    assert store.profiles.applied() is None


def test_of_two_writers_of_a_batch_one_applies_it(backend: Backend) -> None:
    """Many batches of many merchants, raced by two handles: every change counts once."""
    batches, names = 12, [f"m{i}" for i in range(200)]
    handles = [backend.store, backend.another()]
    won, ready = [0, 0], threading.Barrier(2)

    def race(number: int) -> None:
        ready.wait(30)
        for batch in range(batches):
            expected = None if batch == 0 else f"q/{batch - 1}"
            given = {name: changes((7, 9, 1, 0)) for name in names}
            try:
                handles[number].profiles.apply(given, batch, expected=expected, applied=f"q/{batch}", keep_from=None)
                won[number] += 1
            except FencedError:
                wait_for("the batch is there", partial(_reached, handles[number], batch))

    threads = [threading.Thread(target=race, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(won) >= batches  # Redis answers both where both sent the same batch and one came second
    assert stored(backend.store.profiles) == {name: [(7, 9, batches, 0)] for name in names}
    handles[1].close()


def _reached(store: Store, batch: int) -> bool:
    return int((store.profiles.applied() or "q/-1").partition("/")[2]) >= batch
