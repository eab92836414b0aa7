"""The stores under test: memory, LMDB in a fresh directory, an emptied Redis server and a one-node cluster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Store
from fraud.store.memory import MemoryServing
from fraud.store.redis_keys import BUNDLES
from tests import redis_server, servers


@dataclass(frozen=True)
class Backend:
    """One store and how to reach it from elsewhere."""

    name: str
    settings: Settings
    store: Store
    damage: Callable[[str], None]  # spoils a bundle behind the store's back

    def another(self) -> Store:
        """Return a second handle, as another process would have; memory has one only."""
        return self.store if self.name == "memory" else open_store(self.settings)


@pytest.fixture(scope="session")
def redis_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """The session's Redis server, set up as the platform asks."""
    with redis_server.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """The session's one-node cluster: a command over two hash slots fails there as on a large one.

    It doesn't wait for the disk: the tests' time goes there, and the server beside it does.
    """
    with redis_server.running(tmp_path_factory.mktemp("cluster"), cluster=True, appendfsync="everysec") as server:
        yield server


SERVERS = {"redis": "redis_store", "cluster": "redis_cluster"}
DURABILITY = {"redis": "disk", "cluster": "process"}
NAMES = ["memory", "lmdb", *(pytest.param(name, marks=pytest.mark.server) for name in SERVERS)]


def open_backend(name: str, request: pytest.FixtureRequest, folder: Path) -> Backend:
    """Return an empty store of this kind."""
    if name == "memory":
        settings = Settings.load({}, store_url="memory:")
        store = open_store(settings)

        def damage(sha256: str) -> None:
            assert isinstance(store.serving, MemoryServing)
            store.serving._bundles[sha256] = b"rotten"

    elif name == "lmdb":
        settings = Settings.load({}, store_url=f"lmdb:{folder / 'store'}", store_map_mb=64)
        store = open_store(settings)

        def damage(sha256: str) -> None:
            with store.serving._env.write() as txn:  # type: ignore[attr-defined]
                txn.put(b"b" + sha256.encode(), b"rotten")

    else:
        server: servers.Server = request.getfixturevalue(SERVERS[name])
        raw = redis_server.client(int(server.program.address.rpartition(":")[2]))
        raw.flushall()
        raw.close()
        settings = Settings.load({}, store_url=server.program.address, store_durability=DURABILITY[name])
        store = open_store(settings)

        def damage(sha256: str) -> None:
            store.serving._client.run("HSET", BUNDLES, sha256, b"rotten")  # type: ignore[attr-defined]

    return Backend(name, settings, store, damage)


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Every store in turn, empty."""
    opened = open_backend(request.param, request, tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    """The store alone."""
    return backend.store
