"""What only LMDB has: a map that fills, files that vanish, forks, and processes killed in the middle."""

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from fraud.errors import FencedError, StoreError, StoreFullError
from fraud.settings import Settings
from fraud.store import leases, lmdb_environment, lmdb_histories, open_store
from fraud.store.base import Lease, PartitionKey, Store
from fraud.store.lmdb_keys import EPOCH, NUMBER, number_key, user_keys
from fraud.store.lmdb_parts import open_lmdb
from tests import servers
from tests.store.slices import FIRST, SECOND, answers_at, rows, slice_of, started, take

MAP_MB = 16


def _open(path: Path, map_mb: int = MAP_MB) -> Store:
    return open_lmdb(path, map_mb=map_mb, durability="process")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A small store."""
    opened = _open(tmp_path / "store")
    yield opened
    opened.close()


def _fill(store: Store, to_mb: int, from_mb: int = 0) -> None:
    store.histories.load(0, ((f"filler {i}", bytes(65_000)) for i in range(from_mb * 16, to_mb * 16)))


# --- room ---


def test_a_full_map_writes_nothing_and_a_larger_one_goes_on(store: Store, tmp_path: Path) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 2, histories={"u": b"old"}))
    _fill(store, 12)
    large = {"u": b"new"} | {f"large {i}": bytes(65_000) for i in range(100)}
    late = slice_of(lease, 2, 4, histories=large)
    with pytest.raises(StoreFullError, match=r"histories have no room left in 16 MB .* FRAUD_STORE_MAP_MB higher"):
        store.histories.commit(late)
    assert store.histories.positions() == {FIRST: 2, SECOND: 0}
    assert store.histories.read(0, ["u", "large 0"]) == [b"old", None]
    assert rows(store.histories.answers(FIRST, 0, 9)) == rows(answers_at(range(2)))
    store.histories.commit(slice_of(lease, 2, 3))  # a small one still fits
    store.close()
    larger = _open(tmp_path / "store", map_mb=64)
    larger.histories.commit(slice_of(lease, 3, 5, histories=large))
    assert larger.histories.positions()[FIRST] == 5
    assert larger.histories.read(0, ["u"]) == [b"new"]
    larger.close()


def test_a_larger_map_of_another_process_is_taken_up(store: Store, tmp_path: Path) -> None:
    lease = started(store.histories)
    code = (
        "import sys; from pathlib import Path; from tests.store.test_lmdb import _fill, _open\n"
        "store = _open(Path(sys.argv[1]), 64); _fill(store, 30); store.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=True, cwd=servers.REPOSITORY)
    assert store.histories.read(0, ["filler 400"]) == [bytes(65_000)]
    store.histories.commit(slice_of(lease, 0, 1, histories={"u": bytes(65_000)}))


def test_it_warns_once_at_80_percent(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    _fill(store, 11)
    assert not caplog.records
    _fill(store, 13, 11)
    _fill(store, 14, 13)
    (record,) = caplog.records
    assert record.getMessage().startswith("the store's histories fill 1")
    assert "of 16 MB" in record.getMessage()
    room = {part.part: part for part in store.headroom()}
    assert set(room) == {"histories", "profiles", "serving"}
    limit = room["histories"].limit
    assert limit == 16 << 20
    assert 0.8 < room["histories"].used / limit < 1


def test_what_is_overwritten_leaves_its_room(store: Store) -> None:
    lease = started(store.histories)
    for offset in range(100):  # ten times the map
        store.histories.commit(
            slice_of(lease, offset, offset + 1, histories={f"u{i}": bytes(65_000) for i in range(25)})
        )
        store.histories.set_marks({FIRST: offset + 1}, lease)
        store.histories.trim(lease, committed_before=1 << 60)
    assert store.headroom()[0].used < 4 << 20


# --- keys ---


def test_keys_of_any_size_an_id_may_have(store: Store) -> None:
    longest = "\U0001f680" * 64
    lease, key = take(store.histories), PartitionKey("t" * 64, 2**31 - 1)
    store.histories.start({key: 0}, lease)
    store.histories.commit(slice_of(lease, 0, 2, key=key, histories={longest: b"x", "": b"y"}))
    assert dict(store.histories.users(key.partition)) == {longest: b"x", "": b"y"}
    assert store.histories.positions() == {key: 2}
    store.profiles.load([(longest, b"z")], 1)
    assert store.profiles.read([longest]) == ([b"z"], 1)


def test_keys_that_dont_fit_are_refused_in_our_words(store: Store) -> None:
    lease = started(store.histories)
    with pytest.raises(StoreError, match=r"has a size that .* can't hold"):
        store.histories.commit(slice_of(lease, 0, 1, histories={"ok": b"x", "u" * 600: b"x"}))
    with pytest.raises(StoreError, match="a user id isn't valid Unicode"):
        store.histories.commit(slice_of(lease, 0, 1, histories={"\ud800": b"x"}))
    with pytest.raises(StoreError, match="a merchant id isn't valid Unicode"):
        store.profiles.read(["\ud800"])
    assert store.histories.read(0, ["ok"]) == [None]
    assert store.histories.positions()[FIRST] == 0


# --- files ---


@pytest.mark.parametrize("replaced", [False, True])
def test_a_directory_that_vanishes_is_noticed(store: Store, tmp_path: Path, replaced: bool) -> None:
    lease = started(store.histories)
    shutil.move(tmp_path / "store", tmp_path / "moved")
    if replaced:
        shutil.copytree(tmp_path / "moved", tmp_path / "store")
    for use in (lambda: store.histories.positions(), lambda: store.histories.commit(slice_of(lease, 0, 1))):
        with pytest.raises(StoreError, match=r"was removed or replaced .* stop the jobs; `fraud-detect rebuild`"):
            use()
    store.close()
    fresh = _open(tmp_path / "store")
    assert fresh.histories.positions() == ({FIRST: 0, SECOND: 0} if replaced else {})
    fresh.close()


def test_a_path_that_cant_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"can't be made a directory .* set FRAUD_STORE_URL"):
        _open(tmp_path / "file" / "store").histories.positions()


def test_a_damaged_file_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "store" / "histories").mkdir(parents=True)
    (tmp_path / "store" / "histories" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"the store in .* failed: .* `fraud-detect rebuild`"):
        _open(tmp_path / "store").histories.positions()


def test_only_the_owner_may_read(store: Store, tmp_path: Path) -> None:
    started(store.histories)
    for folder in (tmp_path / "store" / "histories", tmp_path / "store" / "histories" / "0"):
        assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "data.mdb")] == ["0o700", "0o600"]


@pytest.mark.parametrize("key", [number_key(b"p", FIRST), *user_keys(0, ["u"])])
def test_a_store_of_an_older_version_is_refused(store: Store, key: bytes) -> None:
    """One that was at work, or only loaded: neither is an empty one."""
    with store.histories._env.write() as txn:  # type: ignore[attr-defined]
        txn.put(key, NUMBER.pack(7))
    lease = take(store.histories)
    for use in (store.histories.positions, store.histories.marks, lambda: store.histories.start({FIRST: 0}, lease)):
        with pytest.raises(StoreError, match=r"written by an older version.* `fraud-detect rebuild`"):
            use()
    store.histories.wipe()  # as a rebuild does
    store.histories.start({FIRST: 0}, lease)
    assert store.histories.positions() == {FIRST: 0}


# --- partitions ---


def test_a_partition_doesnt_wait_for_another(store: Store) -> None:
    lease = started(store.histories)
    with store.histories._partition(FIRST.partition).write():  # type: ignore[attr-defined]
        for commit in (slice_of(lease, 0, 1, key=SECOND), slice_of(lease, 1, 2, key=SECOND)):
            writer = _spawn(store.histories.commit, commit)
            writer.join(30)
            assert writer.exitcode == 0
        waiting = _spawn(store.histories.commit, slice_of(lease, 0, 1))
        waiting.join(0.5)
        assert waiting.exitcode is None
    waiting.join(30)
    assert waiting.exitcode == 0
    assert store.histories.positions() == {FIRST: 1, SECOND: 2}


def test_a_start_that_is_cut_short_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = take(store.histories)

    def key_of(kind: bytes, key: PartitionKey) -> bytes:
        if (kind, key) == (b"k", SECOND):
            raise OSError("the machine's end, say")
        return number_key(kind, key)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="the machine's end"):
        patched.setattr(lmdb_histories, "number_key", key_of)
        store.histories.start({FIRST: 5, SECOND: 6}, lease)
    assert store.histories.positions() == store.histories.marks() == {}
    store.histories.start({FIRST: 7, SECOND: 8}, lease)
    assert store.histories.positions() == store.histories.marks() == {FIRST: 7, SECOND: 8}


def test_a_wipe_leaves_what_another_job_took_over(store: Store) -> None:
    lease = started(store.histories)
    for key in (FIRST, SECOND):
        store.histories.commit(slice_of(lease, 0, 1, key=key, histories={"u": b"x"}))
    with store.histories._partition(SECOND.partition).write() as txn:  # type: ignore[attr-defined]
        txn.put(EPOCH, NUMBER.pack(lease.epoch + 1))  # as if taken between the wipe's two transactions
    with pytest.raises(FencedError, match="took the store over while it was wiped"):
        store.histories.wipe()
    assert [store.histories.read(key.partition, ["u"]) for key in (FIRST, SECOND)] == [[None], [b"x"]]


def test_threads_that_open_a_store_at_once_close_it(tmp_path: Path) -> None:
    for number in range(20):
        store = _open(tmp_path / str(number))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: store.histories.read(0, ["u"]), range(8)))  # noqa: B023
        store.close()
    assert not [path for _, path in lmdb_environment._opened if path.is_relative_to(tmp_path)]


def test_a_taker_that_dies_has_fenced_the_holder_and_the_next_one_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = started(store.histories)

    def die(_held: object) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    def another() -> Lease:
        return store.histories.acquire("score", "another", host="elsewhere", pid=2, now=lease.expires_at, ttl=10_000)

    with monkeypatch.context() as patched:
        patched.setattr(leases, "pack", die)
        taker = _spawn(another)
        taker.join(30)
    assert taker.exitcode == -signal.SIGKILL
    assert store.histories.leases()["score"] == lease
    for key in (FIRST, SECOND):
        with pytest.raises(FencedError, match=f"carries epoch {lease.epoch}, the lease is at {lease.epoch + 1}"):
            store.histories.commit(slice_of(lease, 0, 1, key=key))
    assert another().epoch == lease.epoch + 1
    store.histories.commit(slice_of(another(), 0, 1))


def test_durability_is_a_setting(tmp_path: Path) -> None:
    for durability, sync in (("process", False), ("disk", True)):
        settings = Settings.load({}, store_url=f"lmdb:{tmp_path / durability}", store_durability=durability)
        store: Any = open_store(settings)
        started(store.histories)
        for environment in (store.histories._env, store.histories._partition(0)):
            assert environment._mine[1].env.flags()["sync"] is sync
        store.close()


# --- processes ---


def _spawn(target: Any, *arguments: Any) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def test_a_store_opened_before_a_fork_works_on_both_sides(store: Store) -> None:
    lease = started(store.histories)
    child = _spawn(store.histories.commit, slice_of(lease, 0, 1))
    store.histories.commit(slice_of(lease, 0, 1, key=SECOND))
    child.join(30)
    assert child.exitcode == 0
    assert store.histories.positions() == {FIRST: 1, SECOND: 1}


def test_a_killed_reader_doesnt_pin_pages(store: Store) -> None:
    lease = started(store.histories)
    reading, hold = multiprocessing.get_context("fork").Pipe()

    def read() -> None:
        with store.histories._partition(0).read() as txn:  # type: ignore[attr-defined]
            txn.get(b"p")
            hold.send(True)
            signal.pause()

    reader = _spawn(read)
    assert reading.poll(30)
    os.kill(reader.pid or 0, signal.SIGKILL)
    reader.join(30)

    def commit() -> None:
        # Pinned, the pages of 30 times 2 MB would not fit into 16 MB.
        for at in range(30):
            store.histories.commit(slice_of(lease, at, at + 1, histories={f"u{i}": bytes(65_000) for i in range(30)}))

    task = _spawn(commit)  # the next worker opens the files anew, while this process keeps them open
    task.join(60)
    assert store.histories.positions()[FIRST] == 30


def test_a_process_that_stays_frees_a_killed_readers_pages(store: Store) -> None:
    lease = started(store.histories)
    reading, hold = multiprocessing.get_context("fork").Pipe()

    def read() -> None:
        with store.histories._partition(0).read() as txn:  # type: ignore[attr-defined]
            txn.get(b"p")
            hold.send(True)
            signal.pause()

    def commit(first: int, last: int) -> None:
        for at in range(first, last):
            store.histories.commit(slice_of(lease, at, at + 1, histories={f"u{i}": bytes(65_000) for i in range(30)}))

    reader = _spawn(read)
    assert reading.poll(30)
    os.kill(reader.pid or 0, signal.SIGKILL)
    reader.join(30)
    with pytest.raises(StoreFullError):
        commit(0, 30)
    store.check_readers()
    at = store.histories.positions()[FIRST]
    commit(at, at + 30)


def test_a_writer_killed_before_its_last_put_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 2, histories={"u": b"old"}))

    class Deadly:
        """Packs numbers until the commit's last one, its position."""

        def pack(self, number: int) -> bytes:
            if number == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return NUMBER.pack(number)

    monkeypatch.setattr(lmdb_histories, "NUMBER", Deadly())
    writer = _spawn(store.histories.commit, slice_of(lease, 2, 9, histories={"u": b"new", "v": b"new"}))
    writer.join(30)
    monkeypatch.undo()
    assert writer.exitcode == -signal.SIGKILL
    assert store.histories.positions()[FIRST] == 2
    assert store.histories.read(0, ["u", "v"]) == [b"old", None]
    assert rows(store.histories.answers(FIRST, 0, 99)) == rows(answers_at(range(2)))
    store.histories.commit(slice_of(lease, 2, 9))  # the writers' lock is free again


def _commit_for_ever(store: Store, lease: Lease, sent: Any) -> None:
    for at in range(10_000):
        value = b"%d" % (at + 1)
        store.histories.commit(
            slice_of(lease, at, at + 1, histories={f"u{i}": value.zfill(20_000) for i in range(100)})
        )
        if at == 2:
            sent.send(True)


@pytest.mark.parametrize("wait", [0.0, 0.003, 0.007, 0.011])
def test_a_writer_killed_in_mid_commit_leaves_all_or_nothing(store: Store, wait: float) -> None:
    lease = started(store.histories)
    received, sent = multiprocessing.get_context("fork").Pipe()
    writer = _spawn(_commit_for_ever, store, lease, sent)
    assert received.poll(30)
    writer.join(wait)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join(30)
    # Killed between its commit and the lock table's update, the commit is seen from the next writer's turn on.
    lease = store.histories.renew(lease, now=lease.expires_at, ttl=60_000)
    position = store.histories.positions()[FIRST]
    assert position >= 3
    histories = store.histories.read(0, [f"u{i}" for i in range(100)])
    assert set(histories) == {str(position).encode().zfill(20_000)}
    assert rows(store.histories.answers(FIRST, 0, position + 1)) == rows(answers_at(range(position)))
    store.histories.commit(slice_of(lease, position, position + 1))  # the writers' lock is free again
