"""A past in the lake is the past in the store: the same rows, the same sums, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from fraud.backfill import Archive, Past, load
from fraud.backfill import archived as module
from fraud.backfill.archived import append_past
from fraud.builder import bulk_changes, pack_histories, pack_profiles
from fraud.errors import DataError, FencedError, StateError
from fraud.lake import Lake, read
from fraud.lake.tables import LABELS, NO_BATCH, PROFILE_CHANGES, TRANSACTIONS
from fraud.profiles import QUARTER_MS
from fraud.store.base import Store
from fraud.store.lmdb_parts import open_lmdb
from fraud.store.memory import open_memory
from fraud.store.unfinished import unfinished
from producer.tables import write_tables
from tests.lake.rows import lake_in
from tests.servers import REPOSITORY
from tests.streaming import NOW, PARTITIONS, day, simulation
from tests.test_backfill import run

QUERY = "backfill/0123"


def clock() -> int:
    return NOW


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_in(tmp_path)


def load_both(store: Store, lake: Lake, *, wipe: bool = False, checkpoints: tuple[Path, ...] = ()) -> None:
    past = Past(simulation().transactions, simulation().labels, until=day(10))
    load(
        past,
        store,
        partitions=PARTITIONS,
        clock=clock,
        wipe=wipe,
        checkpoints=checkpoints,
        archive=Archive(lake, QUERY),
    )


def contents(store: Store) -> tuple[dict[str, bytes], dict[str, bytes]]:
    users = {user: raw for number in range(PARTITIONS) for user, raw in store.histories.users(number)}
    return users, dict(store.profiles.merchants())


def check_is_whole(store: Store, lake: Lake) -> None:
    """The lake gives back the store's histories and profiles, and nothing of what comes after `until`."""
    until = pl.col("timestamp").dt.epoch("ms") < day(10)
    rows = read.transactions(read.accepted(lake, lake.cut())).collect()
    assert rows.select("transaction_id").equals(simulation().transactions.filter(until).select("transaction_id"))
    assert pack_histories(rows) == contents(store)[0]
    assert dict(pack_profiles(read.changes(lake.scan(PROFILE_CHANGES)))) == contents(store)[1]
    assert store.profiles.through() == int(rows["timestamp"].dt.epoch("ms").max()) // QUARTER_MS  # type: ignore[arg-type]
    labels = lake.scan(LABELS).collect()
    early = simulation().labels.filter(pl.col("labelled_at").dt.epoch("ms") <= day(10))
    assert 0 < len(labels) == len(early) < len(simulation().labels)
    assert unfinished(store) is None


def test_the_lake_holds_what_the_store_was_made_of(lake: Lake) -> None:
    store = open_memory()
    load_both(store, lake)
    check_is_whole(store, lake)
    where = lake.scan(TRANSACTIONS).select("topic_id", "partition", "query", "batch").unique().collect()
    assert where.rows() == [("backfill", 0, QUERY, NO_BATCH)]
    assert lake.ends(TRANSACTIONS) == {}


def test_changes_one_by_one_sum_up_to_the_builders(lake: Lake) -> None:
    """With repeats, and labels that are taken back, name another shop, come twice, or know no transaction."""
    past = simulation()
    transactions = pl.concat([past.transactions, past.transactions[5:9]])
    back = past.labels.filter("is_fraud")[:20].with_columns(
        pl.lit(False).alias("is_fraud"),
        pl.lit("another shop").alias("merchant_id"),
        pl.col("labelled_at") + pl.duration(days=1),
    )
    unknown = past.labels[:3].with_columns(pl.lit("nobody's").alias("transaction_id"))
    labels = pl.concat([past.labels, back, past.labels[:5], unknown])
    append_past(lake, transactions, labels, query=QUERY)
    assert read.changes(lake.scan(PROFILE_CHANGES)).equals(bulk_changes(transactions, labels))
    assert lake.scan(TRANSACTIONS).collect().height == len(transactions)
    assert read.accepted(lake, lake.cut()).collect().height == len(past.transactions)


def test_a_past_goes_in_by_chunks_and_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 700)
    said: list[str] = []
    append_past(lake, simulation().transactions, simulation().labels, query=QUERY, say=said.append)
    assert len(said) == sum(
        -(-lake.scan(table).collect().height // 700) for table in (TRANSACTIONS, LABELS, PROFILE_CHANGES)
    )
    before = lake.cut()
    append_past(lake, simulation().transactions, simulation().labels, query=QUERY)
    assert lake.cut() == before


def test_a_lake_that_holds_something_is_refused(lake: Lake) -> None:
    append_past(lake, simulation().transactions[:3], None, query="backfill/other")
    before = lake.cut()
    store = open_memory()
    with pytest.raises(StateError, match="holds transactions, profile_changes already; --wipe"):
        load_both(store, lake)
    assert (lake.cut(), store.profiles.through(), unfinished(store)) == (before, None, None)


def test_a_running_archive_job_is_named_and_left_alone(lake: Lake) -> None:
    store = open_memory()
    store.histories.acquire("archive", "job", host="elsewhere", pid=4711, now=NOW, ttl=10_000)
    with pytest.raises(FencedError, match="pid 4711 on elsewhere"):
        load_both(store, lake)
    assert lake.cut() == {}
    assert set(store.histories.leases()) == {"archive"}


def test_merchants_alone_leave_the_lake_alone(lake: Lake) -> None:
    past = Past(simulation().transactions, simulation().labels, merchants_only=True)
    loaded = load(past, open_memory(), partitions=1, clock=clock, archive=Archive(lake, QUERY))
    assert loaded.archived == 0
    assert lake.cut() == {}


def test_a_broken_load_is_made_whole_by_a_wipe(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, append, checkpoint = open_memory(), Lake.append, tmp_path / "checkpoints" / "archive"
    checkpoint.mkdir(parents=True)

    def breaks(self: Lake, table: object, *args: object, **kwargs: object) -> bool:
        if table is PROFILE_CHANGES:
            raise DataError("S3 went away")
        return append(self, table, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(Lake, "append", breaks)
        with pytest.raises(DataError, match="went away"):
            load_both(store, lake)
    assert lake.cut().keys() == {"transactions", "labels"}
    assert store.profiles.through() is None
    with pytest.raises(StateError, match="didn't finish"):
        load_both(store, lake)
    load_both(store, lake, wipe=True, checkpoints=(checkpoint,))
    assert not checkpoint.exists()
    check_is_whole(store, lake)


def test_a_killed_load_is_made_whole_by_a_wipe(lake: Lake, tmp_path: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from fraud.backfill import archived
        from fraud.lake import Lake
        from fraud.store.lmdb_parts import open_lmdb
        from tests.lake.rows import lake_in
        from tests.test_backfill_lake import load_both

        archived.ROWS = 500
        commits, append = [], Lake.append

        def killed(self, *args, **kwargs):
            commits.append(append(self, *args, **kwargs))
            if len(commits) == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        Lake.append = killed
        folder = Path({str(tmp_path)!r})
        load_both(open_lmdb(folder / "store", map_mb=64, durability="process"), lake_in(folder))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=REPOSITORY, timeout=60, env={**os.environ}
    )
    assert ended.returncode == -signal.SIGKILL
    assert lake.cut() == {"transactions": 3}
    store = open_lmdb(tmp_path / "store", map_mb=64, durability="process")
    with pytest.raises(StateError, match="didn't finish"):
        load_both(store, lake)
    load_both(store, lake, wipe=True)
    check_is_whole(store, lake)
    store.close()


def test_the_command_archives_and_wipes(tmp_path: Path) -> None:
    write_tables(simulation(), tmp_path / "past")
    lake, home = lake_in(tmp_path), tmp_path / "home"
    arguments = (str(tmp_path / "past"), "--until", "2024-02-11", "--json")
    done = run(home, *arguments, lake_uri=lake.place.uri)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["archived"] == lake.scan(TRANSACTIONS).collect().height > 1_000
    assert "rows in profile_changes" in done.stderr
    again = run(home, *arguments, lake_uri=lake.place.uri)
    assert (again.returncode, "--wipe" in again.stderr) == (1, True)
    checkpoint = home / "data" / "checkpoints" / "archive"
    checkpoint.mkdir(parents=True)
    wiped = run(home, *arguments, "--wipe", "--yes", lake_uri=lake.place.uri)
    assert wiped.returncode == 0, wiped.stderr
    assert not checkpoint.exists()
    assert lake.cut() == {"transactions": 1, "labels": 1, "profile_changes": 1}


def test_the_command_says_that_the_lake_is_away_and_loads_the_store(tmp_path: Path) -> None:
    """Before `up` there is no S3."""
    write_tables(simulation(), tmp_path / "past")
    done = run(tmp_path / "home", str(tmp_path / "past"), "--json")
    assert done.returncode == 0, done.stderr
    assert "the lake s3://lake isn't reached" in done.stderr
    said = json.loads(done.stdout)
    assert (said["archived"], said["users"] > 0) == (0, True)
