"""What only Redis has: servers that aren't fit, lost replies, starts cut short, shards that go back in time."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud.errors import ConfigError, FencedError, ServiceError, StoreError, StoreFullError
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Store
from fraud.store.redis_client import Client
from fraud.store.redis_control import Control
from fraud.store.redis_keys import LEASES, PENDING
from tests import redis_server, servers
from tests.store.slices import FIRST, NOW, SECOND, TTL, answers_at, rows, slice_of, started, take
from tests.store.test_contract import _pointer

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A server that these tests may set up, fill and kill."""
    with redis_server.running(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def admin(server: servers.Server) -> Iterator[Any]:
    """The emptied server, past the store; its settings are put back."""
    with redis_server.client(_port(server)) as client:
        client.flushall()
        yield client
        for name, value in {**redis_server.FIT, "maxmemory": "0"}.items():
            client.config_set(name, value)


@pytest.fixture
def store(server: servers.Server, admin: Any) -> Iterator[Store]:
    """The store on that server."""
    opened = _open(server.program.address)
    yield opened
    opened.close()


def _port(server: servers.Server) -> int:
    return int(server.program.address.rpartition(":")[2])


def _open(url: str, durability: str = "disk") -> Store:
    return open_store(Settings.load({}, store_url=url, store_durability=durability))


# --- what is refused when it is opened ---


@pytest.mark.parametrize(
    ("name", "value", "durability", "why"),
    [
        ("maxmemory-policy", "allkeys-lru", "process", "has maxmemory-policy allkeys-lru: it would forget"),
        ("appendfsync", "everysec", "disk", "has appendfsync everysec, but FRAUD_STORE_DURABILITY is disk"),
        ("appendonly", "no", "disk", "has appendonly no, but FRAUD_STORE_DURABILITY is disk"),
    ],
)
def test_a_server_that_would_lose_data_is_refused(
    server: servers.Server, admin: Any, name: str, value: str, durability: str, why: str
) -> None:
    admin.config_set(name, value)
    with pytest.raises(ConfigError, match=why):
        _open(server.program.address, durability)


def test_a_server_without_append_only_file_is_warned_of(
    server: servers.Server, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    admin.config_set("appendfsync", "everysec")
    _open(server.program.address, "process").close()
    assert not caplog.records
    admin.config_set("appendonly", "no")
    _open(server.program.address, "process").close()
    assert "has no append-only file" in caplog.text


def test_a_user_who_may_not_read_settings_opens_by_what_info_tells(server: servers.Server, admin: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", "~fraud:*", "+@all", "-config")
    url = server.program.address.replace("//", "//app:secret@")
    store = _open(url, "process")
    store.histories.commit(slice_of(started(store.histories), 0, 2))
    assert "secret" not in store.url
    store.close()
    with pytest.raises(ConfigError, match="has appendfsync unknown"):
        _open(url, "disk")
    with pytest.raises(ServiceError, match="refuses this user") as refused:
        _open(server.program.address.replace("//", "//app:wrong@"))
    assert "wrong@" not in str(refused.value)
    admin.execute_command("ACL", "SETUSER", "app", "~other:*", "resetkeys")
    with pytest.raises(ServiceError, match=r"refuses this user .* keys \(fraud:\*\)"):
        _open(url, "process").histories.positions()


@pytest.mark.parametrize("url", ["redis://host:port/0", "redis://127.0.0.1:1/x", "redis://[x"])
def test_an_url_that_cant_be_read_is_refused(url: str) -> None:
    with pytest.raises((ConfigError, ServiceError), match="FRAUD_STORE_URL"):
        _open(url)


def test_a_cluster_has_database_0_only(redis_cluster: servers.Server) -> None:
    _open(f"{redis_cluster.program.address}/0", "process").close()
    with pytest.raises(ConfigError, match="no database 1; a cluster has 0 only"):
        _open(f"{redis_cluster.program.address}/1")


# --- full, away, killed ---


def test_a_full_server_writes_nothing_and_goes_on_when_it_has_room(store: Store, admin: Any) -> None:
    lease = started(store.histories)
    store.histories.commit(slice_of(lease, 0, 2, histories={"u": b"old"}))
    admin.config_set("maxmemory", "1mb")
    late = slice_of(lease, 2, 4, histories={"u": b"new", "v": b"new"})
    with pytest.raises(StoreFullError, match=r"no memory left; nothing was written\. Raise its maxmemory"):
        store.histories.commit(late)
    with pytest.raises(StoreFullError):
        store.profiles.load([("m", b"x")], 1)
    with pytest.raises(StoreFullError):
        store.serving.publish(b"a", _pointer(1, b"a"), expected_sequence=0)
    assert store.histories.positions()[FIRST] == 2
    assert store.histories.read(0, ["u", "v"]) == [b"old", None]
    assert rows(store.histories.answers(FIRST, 0, 9)) == rows(answers_at(range(2)))
    assert (store.profiles.through(), store.serving.pointer()) == (None, None)
    (room,) = store.headroom()
    assert room.limit == 1 << 20
    admin.config_set("maxmemory", "0")
    store.histories.commit(late)
    assert store.histories.positions()[FIRST] == 4


def test_a_killed_server_keeps_every_commit_and_is_found_again(tmp_path: Path) -> None:
    with redis_server.running(tmp_path) as server:
        store = _open(server.program.address)
        lease = started(store.histories)
        store.histories.commit(slice_of(lease, 0, 3, histories={"u": b"x"}))
        server.kill()
        for use in (lambda: store.histories.commit(slice_of(lease, 3, 4)), lambda: store.profiles.read(["m"])):
            with pytest.raises(ServiceError, match=r"redis://127.0.0.1:\d+ doesn't answer"):
                use()
        with pytest.raises(ServiceError, match="start it, or correct FRAUD_STORE_URL"):
            _open(server.program.address)
        server.start()
        assert store.histories.positions()[FIRST] == 3
        store.histories.commit(slice_of(lease, 3, 4))
        assert rows(store.histories.answers(FIRST, 0, 9)) == rows(answers_at(range(4)))
        store.close()


def test_another_type_of_key_in_the_way_is_an_error_of_the_store(store: Store, admin: Any) -> None:
    admin.set("fraud:{merchants}", "x")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.profiles.read(["m"])


def test_a_server_that_forgot_the_scripts_gets_them_again(store: Store, admin: Any) -> None:
    lease = started(store.histories)
    admin.script_flush()
    store.histories.commit(slice_of(lease, 0, 1))
    assert store.histories.positions()[FIRST] == 1


def test_a_store_opened_before_a_fork_works_on_both_sides(store: Store) -> None:
    lease = started(store.histories)
    child = multiprocessing.get_context("fork").Process(target=store.histories.commit, args=(slice_of(lease, 0, 1),))
    child.start()
    store.histories.commit(slice_of(lease, 0, 1, key=SECOND))
    child.join(30)
    assert child.exitcode == 0
    assert store.histories.positions() == {FIRST: 1, SECOND: 1}


# --- what is sent twice, cut short or undone ---


def test_a_lost_reply_does_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends a command again when its reply is lost; here every script runs twice."""
    once = Client.script

    def twice(self: Client, *arguments: Any) -> Any:
        once(self, *arguments)
        return once(self, *arguments)

    monkeypatch.setattr(Client, "script", twice)
    lease = take(store.histories)
    assert store.histories.renew(lease, now=NOW + 1, ttl=TTL).epoch == 1
    store.histories.start({FIRST: 0, SECOND: 0}, lease)
    assert store.histories.positions() == {FIRST: 0, SECOND: 0}
    with pytest.raises(FencedError, match="expects position 0, the store is at 2: the slice was committed"):
        store.histories.commit(slice_of(lease, 0, 2))
    assert rows(store.histories.answers(FIRST, 0, 2)) == rows(answers_at(range(2)))
    store.histories.set_marks({FIRST: 2}, lease)
    assert store.histories.trim(lease, committed_before=NOW + 1) == 2
    store.serving.publish(b"a", _pointer(1, b"a"), expected_sequence=0)
    assert store.serving.pointer() == _pointer(1, b"a")
    store.histories.release(lease)
    assert store.histories.leases() == {}


def test_a_start_cut_short_is_finished_by_the_next_holder(
    store: Store, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, whole = take(store.histories), Control._open

    def cut(self: Control, partition: int, *arguments: Any) -> list[int]:
        if partition == SECOND.partition:
            raise ServiceError("away")
        return whole(self, partition, *arguments)

    monkeypatch.setattr(Control, "_open", cut)
    with pytest.raises(ServiceError):
        store.histories.start({FIRST: 5, SECOND: 6}, lease)
    assert store.histories.positions() == {FIRST: 5}
    monkeypatch.undo()
    heir = take(store.histories, "two", now=NOW + TTL)
    assert store.histories.positions() == store.histories.marks() == {FIRST: 5, SECOND: 6}
    assert admin.get(PENDING) is None
    store.histories.commit(slice_of(heir, 6, 7, key=SECOND))
    with pytest.raises(FencedError, match="already has a position"):
        store.histories.start({FIRST: 0}, heir)


def test_a_wipe_forgets_a_start_cut_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = take(store.histories)

    def away(*_: object) -> None:
        raise ServiceError("away")

    monkeypatch.setattr(Control, "_open", away)
    with pytest.raises(ServiceError):
        store.histories.start({FIRST: 5}, lease)
    monkeypatch.undo()
    store.histories.wipe()
    assert take(store.histories).epoch == 1
    assert store.histories.positions() == {}
    store.histories.start({FIRST: 1}, lease)
    assert store.histories.positions() == {FIRST: 1}


def test_an_epoch_is_never_given_out_twice_after_a_failover(store: Store, admin: Any) -> None:
    """The shard of the leases goes back to before the lease was taken, those of the partitions don't."""
    orphan = started(store.histories)
    admin.delete(LEASES)
    heir = take(store.histories, "two")
    assert (orphan.epoch, heir.epoch) == (1, 2)
    assert store.histories.leases()["score"] == heir
    with pytest.raises(FencedError, match="carries epoch 1, the lease is at 2"):
        store.histories.commit(slice_of(orphan, 0, 1))
    store.histories.commit(slice_of(heir, 0, 1))


def test_a_partition_that_lost_its_epoch_stops_the_writer(store: Store, admin: Any) -> None:
    """A partition's shard goes back to before the lease was taken: loud, never a second writer unnoticed."""
    started(store.histories)
    heir = take(store.histories, "two", now=NOW + TTL)
    admin.hset("fraud:{p0}:state", mapping={"epoch": 1, "holder": "one"})
    uses: list[Callable[[], object]] = [
        lambda: store.histories.commit(slice_of(heir, 0, 1)),
        lambda: store.histories.set_marks({FIRST: 3}, heir),
    ]
    for use in uses:
        with pytest.raises(FencedError, match="carries epoch 2, the lease is at 1"):
            use()
    again = take(store.histories, "two", now=NOW + TTL)
    store.histories.commit(slice_of(again, 0, 1))


def test_the_server_of_a_test_dies_with_pytest(tmp_path: Path) -> None:
    def start() -> None:
        server = servers.Server(redis_server.program(tmp_path / "data"), tmp_path / "log")
        server.start()
        assert server.process is not None
        (tmp_path / "pid").write_text(str(server.process.pid))
        os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(target=start)
    child.start()
    child.join(60)
    pid = int((tmp_path / "pid").read_text())
    stat = Path("/proc") / str(pid) / "stat"
    servers.wait_for("the server is gone", lambda: not stat.exists() or ") Z " in stat.read_text(), 10)
