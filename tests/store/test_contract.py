"""What every store promises (fraud.store.base), held against memory, LMDB, a Redis server and a Redis Cluster."""

import hashlib
import multiprocessing
import socket
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from fraud.errors import FencedError, StoreError
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Answers, PartitionKey, Pointer, Store
from tests.store.conftest import NAMES, Backend
from tests.store.slices import FIRST, NOW, SECOND, TTL, answers_at, collecting, rows, slice_of, started, take

# 1-64 characters without control characters is what an id may be (contracts.md, Formats).
WEIRD_IDS = [
    "u",
    "ü" * 64,
    "\U0001f680" * 64,
    "{p0}",
    "a}{b",
    " ",
    "-1",
    "0",
    "a:b c/d\\e'f\"",
    "\u202e",
    "NaN",
    "*?[a]",
]


# --- leases ---


def test_a_lease_is_one_holders_until_it_expires(store: Store) -> None:
    lease = take(store.histories, "one")
    assert (lease.epoch, lease.expires_at) == (1, NOW + TTL)
    with pytest.raises(FencedError, match=r"held by pid 7 on elsewhere .* expires in 30 s"):
        take(store.histories, "two")
    assert store.histories.leases() == {"score": lease}
    second = take(store.histories, "two", now=NOW + TTL)
    assert second.epoch == 2
    with pytest.raises(FencedError, match="is lost, it is now with pid 7"):
        store.histories.renew(lease, now=NOW + TTL + 1, ttl=TTL)


def test_a_holder_renews_and_takes_again_in_the_same_epoch(store: Store) -> None:
    lease = take(store.histories)
    renewed = store.histories.renew(lease, now=NOW + 10_000, ttl=TTL)
    assert (renewed.epoch, renewed.expires_at) == (1, NOW + 10_000 + TTL)
    with pytest.raises(FencedError):
        take(store.histories, "two", now=NOW + TTL)  # the first end has passed, the renewed one hasn't
    assert take(store.histories, now=NOW + 1).epoch == 1


def test_a_released_lease_is_free_and_its_epoch_stays(store: Store) -> None:
    lease = take(store.histories)
    store.histories.release(lease)
    assert store.histories.leases() == {}
    with pytest.raises(FencedError, match="nobody"):
        store.histories.renew(lease, now=NOW, ttl=TTL)
    second = take(store.histories, "one")
    assert second.epoch == 2
    store.histories.release(lease)  # the first holder's: nothing of its own is left
    assert store.histories.leases() == {"score": second}


def test_a_dead_holders_lease_is_taken_at_once(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as holder:
        here = socket.gethostname()
        store.histories.acquire("score", "one", host=here, pid=holder.pid, now=NOW, ttl=TTL)
        with pytest.raises(FencedError, match=f"pid {holder.pid} on {here}"):
            take(store.histories, "two")
        holder.kill()
        holder.wait()
        assert take(store.histories, "two").epoch == 2


def test_leases_of_several_names_are_apart(store: Store) -> None:
    score, archive = take(store.histories, "one"), take(store.histories, "two", name="archive")
    assert (score.epoch, archive.epoch) == (1, 1)
    assert store.histories.leases() == {"score": score, "archive": archive}
    store.histories.release(archive)
    assert store.histories.leases() == {"score": score}
    with pytest.raises(StoreError, match="belong to the lease `score`"):
        store.histories.start({FIRST: 0}, archive)


# --- start, positions, marks ---


def test_a_start_sets_positions_and_marks_once(store: Store) -> None:
    assert (store.histories.positions(), store.histories.marks()) == ({}, {})
    lease = take(store.histories)
    store.histories.start({FIRST: 5, SECOND: 0}, lease)
    assert store.histories.positions() == store.histories.marks() == {FIRST: 5, SECOND: 0}
    for again in ({FIRST: 9}, {PartitionKey("topic-b", 0): 0}):
        with pytest.raises(FencedError, match="already has a position for partition 0 of topic topic-a"):
            store.histories.start(again, lease)
    assert store.histories.positions() == {FIRST: 5, SECOND: 0}


def test_a_lost_lease_neither_starts_nor_marks_nor_trims(store: Store) -> None:
    lost = take(store.histories, "one")
    lease = take(store.histories, "two", now=NOW + TTL)
    with pytest.raises(FencedError):
        store.histories.start({FIRST: 0}, lost)
    store.histories.start({FIRST: 0}, lease)
    store.histories.commit(slice_of(lease, 0, 3))
    with pytest.raises(FencedError):
        store.histories.set_marks({FIRST: 3}, lost)
    store.histories.set_marks({FIRST: 3}, lease)
    with pytest.raises(FencedError):
        store.histories.trim(lost, committed_before=NOW + 1)
    assert len(store.histories.answers(FIRST, 0, 3)) == 3


def test_marks_never_fall(store: Store) -> None:
    lease = started(store.histories, 5)
    store.histories.set_marks({FIRST: 9, SECOND: 7}, lease)
    store.histories.set_marks({FIRST: 8, SECOND: 10}, lease)
    assert store.histories.marks() == {FIRST: 9, SECOND: 10}
    with pytest.raises(StoreError, match="partition 3 of topic topic-a was never started"):
        store.histories.set_marks({FIRST: 20, PartitionKey("topic-a", 3): 1}, lease)
    assert store.histories.marks() == {FIRST: 9, SECOND: 10}


# --- commits ---


def test_a_commit_writes_histories_position_and_answers(store: Store) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 4, histories={"u1": b"one", "u2": b""}))
    assert store.histories.positions() == {FIRST: 4, SECOND: 0}
    assert store.histories.read(0, ["u2", "nobody", "u1", "u1"]) == [b"", None, b"one", b"one"]
    assert store.histories.read(1, ["u1"]) == [None]
    assert store.histories.read(0, []) == []
    assert rows(store.histories.answers(FIRST, 0, 4)) == rows(answers_at(range(4)))
    assert len(store.histories.answers(SECOND, 0, 4)) == 0
    store.histories.commit(slice_of(lease, 4, 5, histories={"u1": b"two"}))
    assert store.histories.read(0, ["u1", "u2"]) == [b"two", b""]
    assert store.histories.marks() == {FIRST: 0, SECOND: 0}


def test_a_commit_takes_many_users_and_answers(store: Store) -> None:
    lease, many = started(store.histories), {f"u{i}": b"%d" % i * 50 for i in range(9_000)}
    store.histories.commit(slice_of(lease, 0, 20_000, histories=many))
    assert store.histories.read(0, list(many)) == list(many.values())
    assert rows(store.histories.answers(FIRST, 19_990, 20_001)) == rows(answers_at(range(19_990, 20_000)))
    assert len(store.histories.answers(FIRST, 0, 20_000)) == 20_000


def test_an_empty_commit_moves_the_position_alone(store: Store) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 7, answers=answers_at([])))
    store.histories.commit(slice_of(lease, 7, 7))
    assert store.histories.positions()[FIRST] == 7
    assert len(store.histories.answers(FIRST, 0, 100)) == 0


@pytest.mark.parametrize(
    ("expected", "epoch", "key", "why"),
    [
        (3, 1, FIRST, "expects position 3, the store is at 2"),
        (1, 1, FIRST, "expects position 1, the store is at 2"),
        (2, 0, FIRST, "carries epoch 0, the lease is at 1"),
        (2, 2, FIRST, "carries epoch 2, the lease is at 1"),
        (2, 1, PartitionKey("topic-b", 0), "partition 0 of topic topic-b was never started"),
        (2, 1, PartitionKey("topic-a", 9), "partition 9 of topic topic-a was never started"),
    ],
)
def test_a_refused_commit_writes_nothing(store: Store, expected: int, epoch: int, key: PartitionKey, why: str) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 2, histories={"u": b"old"}))
    stale = slice_of(lease, expected, expected + 5, key=key, histories={"u": b"new", "v": b"new"})
    refused = type(stale)(**(stale.__dict__ | {"epoch": epoch}))
    with pytest.raises(FencedError, match=why):
        store.histories.commit(refused)
    assert store.histories.positions() == {FIRST: 2, SECOND: 0}
    assert store.histories.read(0, ["u", "v"]) == [b"old", None]
    assert rows(store.histories.answers(FIRST, 0, 100)) == rows(answers_at(range(2)))
    assert len(store.histories.answers(key, 2, 100)) == 0


def test_an_orphan_is_fenced_when_the_lease_goes_on(backend: Backend) -> None:
    orphan = started(backend.store.histories)
    other = backend.another()
    heir = take(other.histories, "two", now=NOW + TTL)
    with pytest.raises(FencedError, match="carries epoch 1, the lease is at 2"):
        backend.store.histories.commit(slice_of(orphan, 0, 1))
    other.histories.commit(slice_of(heir, 0, 1))
    with pytest.raises(FencedError, match="carries epoch 1, the lease is at 2"):
        backend.store.histories.commit(slice_of(orphan, 1, 2, key=SECOND))
    other.close()


@pytest.mark.parametrize("offsets", [[1, 0], [0, 0], [5], [-1]])
def test_answers_out_of_order_or_outside_are_refused(store: Store, offsets: list[int]) -> None:
    lease = started(store.histories)
    with pytest.raises(StoreError, match="out of order or outside"):
        store.histories.commit(slice_of(lease, 0, 3, answers=answers_at(offsets)))
    assert store.histories.positions()[FIRST] == 0


def test_ids_of_any_script_and_shape(store: Store) -> None:
    lease = started(store.histories)
    histories = {user: b"history of " + user.encode() for user in WEIRD_IDS}
    store.histories.commit(slice_of(lease, 0, 1, histories=histories))
    assert store.histories.read(0, WEIRD_IDS) == list(histories.values())
    assert dict(store.histories.users(0)) == histories
    store.profiles.load(histories.items(), 3)
    assert store.profiles.read([*WEIRD_IDS, "t", "m", ""]) == ([*histories.values(), None, None, None], 3)
    assert dict(store.profiles.merchants()) == histories


def _commit_all(given: Settings | Store, slices: int, epoch: int, name: bytes, wins: Any, ready: Any) -> None:
    """Race through the same slices as somebody else; a slice that is lost is left to the other."""
    store = open_store(given) if isinstance(given, Settings) else given
    won, lease = 0, store.histories.leases()["score"]
    assert lease.epoch == epoch
    ready.wait(60)
    for offset in range(slices):
        try:
            store.histories.commit(
                slice_of(lease, offset, offset + 1, histories={"u": name}, answers=answers_at([offset], name))
            )
            won += 1
        except FencedError:
            continue
    wins.append(won) if isinstance(wins, list) else wins.put(won)
    if isinstance(given, Settings):
        store.close()


def _check_race(store: Store, slices: int, wins: list[int], names: list[bytes]) -> None:
    assert sum(wins) == slices, "each slice has exactly one winner"
    found = store.histories.answers(FIRST, 0, slices)
    assert found.offsets.tolist() == list(range(slices))
    winners = [value.split()[0] for value in found.values]
    assert sorted(winners.count(name) for name in names) == sorted(wins)
    assert store.histories.read(0, ["u"]) == [winners[-1]]


def test_of_two_threads_with_one_commit_exactly_one_wins(backend: Backend) -> None:
    slices, names = 300 if backend.name == "lmdb" else 30, [b"left", b"right"]
    lease, wins, ready = started(backend.store.histories), list[int](), threading.Barrier(2)
    threads = [
        threading.Thread(target=_commit_all, args=(backend.store, slices, lease.epoch, name, wins, ready))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    _check_race(backend.store, slices, wins, names)


@pytest.mark.parametrize("backend", NAMES[1:], indirect=True)  # memory is one process's own
def test_of_two_processes_with_one_commit_exactly_one_wins(backend: Backend) -> None:
    slices, names = 50, [b"left", b"right"]
    lease, context = started(backend.store.histories), multiprocessing.get_context("spawn")
    wins, ready = context.Queue(), context.Barrier(2)
    workers = [
        context.Process(target=_commit_all, args=(backend.settings, slices, lease.epoch, name, wins, ready))
        for name in names
    ]
    for worker in workers:
        worker.start()
    won = [wins.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    _check_race(backend.store, slices, won, names)


# --- outbox ---


def test_the_outbox_is_read_from_any_offset_to_any(store: Store) -> None:
    lease = started(store.histories)
    sizes = [400_000, 0, 700_000, 3, 6_000_000, 1, 1_100_000, 20]  # chunks of 1 MiB, and answers above it
    offsets = [0, 1, 5, 6, 7, 20, 21, 29]
    whole = answers_at(offsets)
    values = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    whole = Answers(whole.offsets, whole.kinds, whole.digests, whole.keys, values)
    store.histories.commit(slice_of(lease, 0, 30, answers=whole))
    store.histories.commit(slice_of(lease, 30, 33, answers=answers_at([30, 32])))
    expected = rows(whole) + rows(answers_at([30, 32]))
    for start, end in [
        (0, 33),
        (0, 1),
        (1, 5),
        (2, 5),
        (6, 8),
        (7, 8),
        (8, 20),
        (19, 22),
        (29, 31),
        (31, 33),
        (32, 99),
    ]:
        found = rows(store.histories.answers(FIRST, start, end))
        assert found == [row for row in expected if start <= row[0] < end], (start, end)
    assert rows(store.histories.answers(FIRST, 33, 99)) == rows(store.histories.answers(FIRST, 5, 5)) == []
    empty = store.histories.answers(PartitionKey("topic-a", 10), 0, 9)
    assert [column.dtype.char for column in (empty.offsets, empty.digests, empty.kinds)] == ["l", "L", "B"]


def test_topics_whose_ids_begin_alike_keep_their_answers_apart(store: Store) -> None:
    lease, long, short = take(store.histories), PartitionKey("ab", 0), PartitionKey("a", 0)
    store.histories.start({long: 0, short: 0}, lease)
    store.histories.commit(slice_of(lease, 0, 2, key=long, answers=answers_at([0, 1], b"long")))
    store.histories.commit(slice_of(lease, 0, 2, key=short, answers=answers_at([0, 1], b"short")))
    assert store.histories.answers(long, 0, 9).values == [b"long 0", b"long 1"]
    assert store.histories.answers(short, 0, 9).values == [b"short 0", b"short 1"]


def test_trimming_drops_what_is_both_published_and_old(store: Store) -> None:
    lease = started(store.histories)
    for number, (start, end) in enumerate([(0, 4), (4, 10), (10, 12), (12, 15)]):
        store.histories.commit(slice_of(lease, start, end, at=NOW + number))
    store.histories.commit(slice_of(lease, 0, 2, key=SECOND, at=NOW))
    store.histories.set_marks({FIRST: 11}, lease)
    assert store.histories.trim(lease, committed_before=NOW) == 0
    assert store.histories.trim(lease, committed_before=NOW + 1) == 4
    assert rows(store.histories.answers(FIRST, 0, 99)) == rows(answers_at(range(4, 15)))
    assert store.histories.trim(lease, committed_before=NOW + 9) == 6  # the chunk of 10 and 11 isn't wholly below
    assert rows(store.histories.answers(FIRST, 0, 99)) == rows(answers_at(range(10, 15)))
    assert rows(store.histories.answers(FIRST, 11, 13)) == rows(answers_at([11, 12]))
    store.histories.set_marks({FIRST: 12}, lease)
    assert store.histories.trim(lease, committed_before=NOW + 9) == 2
    assert store.histories.trim(lease, committed_before=NOW + 9) == 0
    assert len(store.histories.answers(SECOND, 0, 9)) == 2
    assert store.histories.positions() == {FIRST: 15, SECOND: 2}


# --- collected without a model ---


def test_what_was_collected_is_kept_in_joined_ranges(store: Store) -> None:
    lease, none = started(store.histories), answers_at([])
    assert store.histories.collected(FIRST).shape == (0, 2)
    store.histories.commit(collecting(lease, 0, 5, [[0, 3], [4, 5]], answers=answers_at([3])))
    store.histories.commit(collecting(lease, 5, 8, [[5, 8]], answers=none))
    store.histories.commit(slice_of(lease, 8, 10))
    store.histories.commit(collecting(lease, 10, 13, [], answers=none))
    store.histories.commit(collecting(lease, 13, 2000, [[13, 14], [1200, 1300]], answers=none))
    store.histories.commit(collecting(lease, 0, 7, [[0, 7]], key=SECOND, answers=none))
    found = store.histories.collected(FIRST)
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 3], [4, 8], [13, 14], [1200, 1300]]
    assert store.histories.collected(SECOND).tolist() == [[0, 7]]
    assert store.histories.collected(PartitionKey("topic", 0)).tolist() == []
    store.histories.set_marks({FIRST: 2000}, lease)
    store.histories.trim(lease, committed_before=NOW + 1)
    assert store.histories.collected(FIRST).tolist() == found.tolist()
    store.histories.wipe()
    assert store.histories.collected(FIRST).tolist() == store.histories.collected(SECOND).tolist() == []


def test_a_refused_commit_collects_nothing(store: Store) -> None:
    lease = started(store.histories)
    store.histories.commit(collecting(lease, 0, 2, [[0, 2]], answers=answers_at([])))
    with pytest.raises(FencedError):
        store.histories.commit(collecting(lease, 1, 4, [[2, 4]], answers=answers_at([])))
    for ranges in ([[1, 3]], [[2, 5]], [[3, 4], [2, 3]], [[2, 2]], [[2, 3], [3, 4]]):
        with pytest.raises(StoreError, match=r"collects .* out of order or outside"):
            store.histories.commit(collecting(lease, 2, 4, ranges, answers=answers_at([])))
    assert store.histories.positions()[FIRST] == 2
    assert store.histories.collected(FIRST).tolist() == [[0, 2]]


# --- bulk ---


def test_histories_are_loaded_and_listed_by_partition(store: Store) -> None:
    many = {f"user {i}": b"%d" % i for i in range(2_500)}
    assert store.histories.load(0, iter(many.items())) == 2_500
    assert store.histories.load(1, [("other", b"x")]) == 1
    assert store.histories.load(2, []) == 0
    assert store.histories.load(0, [("user 7", b"later")]) == 1
    listed = list(store.histories.users(0))
    assert len(listed) == 2_500
    assert dict(listed) == many | {"user 7": b"later"}
    assert list(store.histories.users(1)) == [("other", b"x")]
    assert list(store.histories.users(2)) == list(store.histories.users(256)) == []
    assert store.histories.positions() == {}


def test_a_wipe_leaves_the_epochs_alone(store: Store) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 3, histories={"u": b"x"}))
    store.histories.load(4, [("loaded", b"x")])
    store.profiles.load([("m", b"x")], 1)
    store.histories.wipe()
    assert (store.histories.positions(), store.histories.marks()) == ({}, {})
    assert store.histories.read(0, ["u"]) == store.histories.read(4, ["loaded"]) == [None]
    assert list(store.histories.users(0)) == []
    assert len(store.histories.answers(FIRST, 0, 9)) == 0
    assert store.histories.leases() == {"score": lease}
    with pytest.raises(FencedError, match="never started"):
        store.histories.commit(slice_of(lease, 3, 4))
    store.histories.start({FIRST: 1}, lease)
    assert store.histories.positions() == store.histories.marks() == {FIRST: 1}
    assert len(store.histories.answers(FIRST, 0, 9)) == 0
    assert store.profiles.through() == 1
    store.histories.wipe()
    assert take(store.histories, "two", now=NOW + TTL).epoch == 2


# --- serving ---


def _pointer(sequence: int, bundle: bytes, version: str = "1") -> Pointer:
    return Pointer(sequence, hashlib.sha256(bundle).hexdigest(), "fraud-detector", version, NOW)


def test_the_pointer_flips_in_sequence(store: Store) -> None:
    assert store.serving.pointer() is None
    first, second = _pointer(1, b"a"), _pointer(2, b"b", "2")
    store.serving.publish(b"a", first, expected_sequence=0)
    assert store.serving.pointer() == first
    for expected in (0, 2):
        with pytest.raises(FencedError, match="another promotion came first"):
            store.serving.publish(b"b", second, expected_sequence=expected)
    with pytest.raises(StoreError, match="must grow: 1 follows 1"):
        store.serving.publish(b"b", _pointer(1, b"b"), expected_sequence=1)
    with pytest.raises(StoreError, match="the bytes are"):
        store.serving.publish(b"other", second, expected_sequence=1)
    assert store.serving.pointer() == first
    with pytest.raises(StoreError, match="isn't in the online store"):
        store.serving.bundle(second.sha256)
    store.serving.publish(b"b", second, expected_sequence=1)
    assert store.serving.pointer() == second


def test_the_last_two_bundles_stay(store: Store) -> None:
    a, b, c = b"a" * 3_000_000, b"b", b"c"
    for sequence, bundle in enumerate([a, b, a, a, b, c], 1):
        store.serving.publish(bundle, _pointer(sequence, bundle), expected_sequence=sequence - 1)
        pointer = store.serving.pointer()
        assert pointer is not None and store.serving.bundle(pointer.sha256) == bundle
        if sequence == 4:  # promoted again: the one before stays, for a rollback
            assert store.serving.bundle(_pointer(0, b).sha256) == b
    assert store.serving.bundle(_pointer(0, b).sha256) == b
    with pytest.raises(StoreError, match="isn't in the online store"):
        store.serving.bundle(_pointer(0, a).sha256)


def test_a_damaged_bundle_is_refused(backend: Backend) -> None:
    pointer = _pointer(1, b"good")
    backend.store.serving.publish(b"good", pointer, expected_sequence=0)
    backend.damage(pointer.sha256)
    with pytest.raises(StoreError, match="damaged in the online store: promote the model again"):
        backend.store.serving.bundle(pointer.sha256)
    backend.store.serving.publish(b"good", _pointer(2, b"good"), expected_sequence=1)
    assert backend.store.serving.bundle(pointer.sha256) == b"good"


# --- the store as a whole ---


def test_another_handle_sees_everything_and_closing_is_repeatable(backend: Backend) -> None:
    lease = started(backend.store.histories)
    backend.store.histories.commit(slice_of(lease, 0, 2, histories={"u": b"x"}))
    backend.store.profiles.load([("m", b"y")], 4)
    other = backend.another()
    assert other.histories.positions() == {FIRST: 2, SECOND: 0}
    assert other.histories.read(0, ["u"]) == [b"x"]
    assert other.profiles.read(["m"]) == ([b"y"], 4)
    other.close()
    other.close()
    assert backend.store.histories.read(0, ["u"]) == [b"x"]
    room = backend.store.headroom()
    assert room and all(part.used >= 0 and (part.limit is None or part.limit > part.used) for part in room)
