"""A past is loaded whole or not at all, and says the same as streaming it would."""

import hashlib
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import fraud.cli.main  # noqa: F401  # first: the command modules import it, and it them
from fraud import codec
from fraud.backfill import Past, load
from fraud.backfill.record import File, Loaded, Origin, Record, check_files, fingerprint, read, write
from fraud.builder import bulk_changes, pack_profiles
from fraud.cli.backfill import origin_of
from fraud.errors import ConfigError, DataError, FencedError, StateError, StoreError
from fraud.profiles import QUARTER_MS
from fraud.settings import Settings
from fraud.store.base import PartitionKey, Pointer, Store
from fraud.store.lmdb_parts import open_lmdb
from fraud.store.memory import open_memory
from fraud.store.unfinished import unfinished
from fraud.times import parse_time
from producer.tables import write_tables
from spark_jobs.score import Order, prepare
from tests import streaming
from tests.servers import REPOSITORY, Server, environment, settings
from tests.streaming import NOW, PARTITIONS, day, simulation


def clock() -> int:
    return NOW


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_memory() if request.param == "memory" else open_lmdb(tmp_path, map_mb=64, durability="process")
    yield opened
    opened.close()


def whole(**changes: Any) -> Past:
    return Past(simulation().transactions, simulation().labels, **changes)


def histories(store: Store) -> dict[tuple[int, str], bytes]:
    return {(number, user): raw for number in range(PARTITIONS) for user, raw in store.histories.users(number)}


def profiles(store: Store) -> dict[str, bytes]:
    return dict(store.profiles.merchants())


def test_histories_equal_those_of_a_stream_byte_for_byte(store: Store) -> None:
    rows = streaming.transactions(simulation().transactions)
    digests = [codec.digest(value or b"") for _, value in streaming.encoded(rows)]
    table = simulation().transactions.with_columns(pl.Series("digest", digests, dtype=pl.UInt64))
    loaded = load(Past(table, simulation().labels), store, partitions=PARTITIONS, clock=clock)
    streamed = open_memory()
    streaming.score(streamed, streaming.slices(streaming.by_partition(streaming.encoded(rows))))
    assert histories(store) == histories(streamed)
    assert loaded.users == len(histories(store)) == table["user_id"].n_unique()
    assert loaded.rows == len(rows)


def test_profiles_hold_every_change_and_reach_to_the_last_quarter(store: Store) -> None:
    loaded = load(whole(), store, partitions=PARTITIONS, clock=clock)
    assert profiles(store) == dict(pack_profiles(bulk_changes(simulation().transactions, simulation().labels)))
    newest = int(simulation().transactions["timestamp"].dt.epoch("ms").max())  # type: ignore[arg-type]
    assert store.profiles.through() == newest // QUARTER_MS
    assert parse_time(loaded.profile_through) == newest // QUARTER_MS * QUARTER_MS
    assert unfinished(store) is None
    assert store.histories.leases() == {}


def test_until_ends_histories_but_not_profiles() -> None:
    until, all_of_it, before = open_memory(), open_memory(), open_memory()
    cut = simulation().transactions.filter(pl.col("timestamp").dt.epoch("ms") < day(10))
    loaded = load(whole(until=day(10)), until, partitions=PARTITIONS, clock=clock)
    load(whole(), all_of_it, partitions=PARTITIONS, clock=clock)
    load(Past(cut, None), before, partitions=PARTITIONS, clock=clock)
    assert histories(until) == histories(before) != histories(all_of_it)
    assert profiles(until) == profiles(all_of_it)
    assert until.profiles.through() == all_of_it.profiles.through()
    assert loaded.rows == len(cut)


def test_merchants_only_leaves_histories_and_positions_alone(store: Store) -> None:
    rows = streaming.transactions(simulation().transactions[:200])
    streaming.score(store, streaming.slices(streaming.by_partition(streaming.encoded(rows))))
    before, positions = histories(store), store.histories.positions()
    loaded = load(whole(merchants_only=True), store, partitions=1, clock=clock)
    assert (histories(store), store.histories.positions()) == (before, positions)
    assert (loaded.users, loaded.rows) == (0, 0)
    assert loaded.merchants == len(profiles(store)) > 30


def test_a_past_is_refused_where_one_is(store: Store) -> None:
    load(whole(), store, partitions=PARTITIONS, clock=clock)
    before = histories(store)
    with pytest.raises(StateError, match=r"profiles up to 2024-02-2.*--wipe"):
        load(whole(until=day(3)), store, partitions=PARTITIONS, clock=clock)
    with pytest.raises(StateError, match="--wipe"):
        load(whole(merchants_only=True), store, partitions=1, clock=clock)
    assert histories(store) == before
    assert unfinished(store) is None


def test_a_past_is_refused_behind_a_stream(store: Store) -> None:
    rows = streaming.transactions(simulation().transactions[:50])
    streaming.score(store, streaming.slices(streaming.by_partition(streaming.encoded(rows))))
    with pytest.raises(StateError, match="score job has written histories"):
        load(whole(), store, partitions=PARTITIONS, clock=clock)


def test_what_is_no_past_is_refused() -> None:
    store = open_memory()
    with pytest.raises(DataError, match="beyond now"):
        load(whole(), store, partitions=PARTITIONS, clock=lambda: day(5))
    with pytest.raises(DataError, match="no transaction to load"):
        load(Past(simulation().transactions.clear(), None), store, partitions=PARTITIONS, clock=clock)
    with pytest.raises(DataError, match="lies before 2024-01-2"):
        load(whole(until=day(-9)), store, partitions=PARTITIONS, clock=clock)
    assert store.profiles.through() is None
    assert store.histories.leases() == {}


def test_a_running_score_job_is_named_and_left_alone(store: Store) -> None:
    lease = store.histories.acquire("score", "job", host="elsewhere", pid=4711, now=NOW, ttl=10_000)
    with pytest.raises(FencedError, match="pid 4711 on elsewhere"):
        load(whole(), store, partitions=PARTITIONS, clock=clock, wipe=True)
    store.histories.renew(lease, now=NOW, ttl=10_000)
    assert histories(store) == {}
    assert unfinished(store) is None


def test_the_lease_is_prolonged_while_it_loads(store: Store) -> None:
    ticks = iter(range(NOW, NOW + 10**9, 5_000))  # five seconds pass with every look
    load(whole(), store, partitions=PARTITIONS, clock=lambda: next(ticks))
    assert next(ticks) - NOW > 120_000  # twice as long as it was taken for
    assert store.histories.leases() == {}


def test_a_lost_lease_ends_the_load_before_it_looks_whole() -> None:
    store = open_memory()
    ticks = iter([*range(NOW, NOW + 40), *range(NOW + 600_000, NOW + 700_000)])

    def stolen() -> int:
        now: int = next(ticks)
        if now == NOW + 600_000:
            store.histories.acquire("score", "thief", host="there", pid=9, now=now, ttl=10_000)
        return now

    with pytest.raises(FencedError, match="pid 9 on there"):
        load(whole(), store, partitions=PARTITIONS, clock=stolen)
    assert store.profiles.through() is None
    assert unfinished(store) is not None


def test_a_broken_load_is_recognised_and_wiped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    load_whole = store.histories.load

    def load_some(partition: int, rows: Iterable[tuple[str, bytes]]) -> int:
        load_whole(partition, list(rows)[:5])
        raise StoreError("away")

    with monkeypatch.context() as broken:
        broken.setattr(store.histories, "load", load_some)
        with pytest.raises(StoreError, match="away"):
            load(whole(), store, partitions=PARTITIONS, clock=clock)
    assert len(histories(store)) == 5
    assert store.profiles.through() is None
    assert "--wipe" in (unfinished(store) or "")
    with pytest.raises(StateError, match="didn't finish"):
        load(whole(), store, partitions=PARTITIONS, clock=clock)
    lease = store.histories.acquire("score", "job", host="here", pid=1, now=NOW, ttl=1_000)
    with pytest.raises(StateError, match="didn't finish"):
        prepare(Order(Settings.load({})), store, lease)
    store.histories.release(lease)
    load(whole(until=day(4)), store, partitions=PARTITIONS, clock=clock, wipe=True)
    clean = open_memory()
    load(whole(until=day(4)), clean, partitions=PARTITIONS, clock=clock)
    assert (histories(store), profiles(store)) == (histories(clean), profiles(clean))
    assert unfinished(store) is None


def test_a_killed_load_is_recognised(tmp_path: Path) -> None:
    program = f"""
        import itertools, os, signal
        from pathlib import Path
        from fraud.backfill import load
        from fraud.store.lmdb_parts import open_lmdb
        from tests.streaming import NOW
        from tests.test_backfill import whole

        looks = itertools.count()

        def clock():
            if next(looks) == 55:  # asked before every row: in the middle of the users
                os.kill(os.getpid(), signal.SIGKILL)
            return NOW

        load(whole(), open_lmdb(Path({str(tmp_path)!r}), map_mb=64, durability="process"), partitions=2, clock=clock)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=REPOSITORY, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    store = open_lmdb(tmp_path, map_mb=64, durability="process")
    assert 0 < len(histories(store)) < simulation().transactions["user_id"].n_unique()
    with pytest.raises(StateError, match="didn't finish"):
        load(whole(), store, partitions=PARTITIONS, clock=clock)
    load(whole(), store, partitions=PARTITIONS, clock=clock, wipe=True)
    assert unfinished(store) is None
    store.close()


def test_a_wipe_removes_what_the_stream_left_but_not_the_model(store: Store, tmp_path: Path) -> None:
    rows = streaming.transactions(simulation().transactions[:50])
    streaming.score(store, streaming.slices(streaming.by_partition(streaming.encoded(rows))))
    bundle = b"bundle"
    sha = hashlib.sha256(bundle).hexdigest()
    store.serving.publish(bundle, Pointer(1, sha, "fraud-detector", "1", NOW), expected_sequence=0)
    checkpoint = tmp_path / "checkpoints" / "score"
    (checkpoint / "offsets").mkdir(parents=True)
    said: list[Loaded | None] = []
    loaded = load(
        whole(), store, partitions=PARTITIONS, clock=clock, wipe=True, checkpoints=[checkpoint], keep=said.append
    )
    assert said == [None, loaded]
    assert not checkpoint.exists()
    assert store.histories.positions() == store.histories.marks() == {}
    assert len(store.histories.answers(PartitionKey(streaming.TOPIC_ID, 0), 0, 100)) == 0
    assert store.serving.bundle(sha) == bundle


def test_a_record_finds_its_past_and_refuses_another(tmp_path: Path) -> None:
    file, path = tmp_path / "transactions.parquet", tmp_path / "data" / "backfill.json"
    file.write_bytes(b"rows")
    assert read(path) is None
    loaded = Loaded(1, 2, 3, 4, "2026-02-01T00:00:00.000Z", 0.5)
    record = Record(Origin(str(tmp_path), until="2026-02-01T00:00:00.000Z"), (fingerprint(file),), loaded, "now")
    write(path, record)
    assert read(path) == record
    check_files(record)
    file.write_bytes(b"other")
    with pytest.raises(DataError, match="isn't the file that was backfilled"):
        check_files(record)
    path.write_text("{")
    with pytest.raises(DataError, match="can't be read"):
        read(path)
    write(path, None)
    assert read(path) is None
    assert isinstance(record.files[0], File)


def run(home: Path, *arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "fraud-detect"), "backfill", *arguments],
        env=environment(settings(home, **changes)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_loads_merchants_without_kafka_and_keeps_a_record(tmp_path: Path) -> None:
    write_tables(simulation(), tmp_path / "past")
    past = str(tmp_path / "past")
    done = run(tmp_path / "home", "--merchants-only", past, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["users"] == 0
    record = read(tmp_path / "home" / "data" / "backfill.json")
    assert record is not None
    assert record.origin.merchants_only
    check_files(record)
    again = run(tmp_path / "home", "--merchants-only", past)
    assert again.returncode == 1
    assert "--wipe" in again.stderr


def test_the_command_wipes_unasked_only_with_yes(tmp_path: Path) -> None:
    write_tables(simulation(), tmp_path / "past")
    done = run(tmp_path / "home", str(tmp_path / "past"), "--merchants-only", "--wipe")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not (tmp_path / "home" / "data").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "simulated", "until": "2024-02-10", "merchants_only": True}, "--until ends histories"),
        ({"kind": "csv"}, "write simulated or handbook"),
        ({"kind": "simulated", "labels_after": "7d"}, "--labels-after is for"),
        ({"kind": "handbook", "labels_after": "soon"}, "not a duration"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        origin_of(Path("past"), **options)


@pytest.mark.server
def test_the_command_places_users_as_the_topic_does(kafka: Server, stack_settings: Settings, tmp_path: Path) -> None:
    write_tables(simulation(), tmp_path / "past")
    home = tmp_path / "home"
    done = run(
        home,
        str(tmp_path / "past"),
        "--no-lake",
        "--until",
        "2024-02-10",
        "--json",
        kafka_bootstrap=stack_settings.kafka_bootstrap,
    )
    assert done.returncode == 0, done.stderr
    store = open_lmdb(home / "data" / "store", map_mb=64, durability="process")
    expected = open_memory()
    load(whole(until=day(9)), expected, partitions=stack_settings.topic_partitions, clock=clock)
    assert histories(store) == histories(expected)
    assert store.profiles.through() == expected.profiles.through()
    store.close()
