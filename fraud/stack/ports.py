"""Ports on loopback: which are free, who holds one, and the inner ports of the embedded servers."""

import json
import random
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"
# Below the range from which systems lend ports to outgoing connections, so that none is taken between
# looking and listening; and low enough for SeaweedFS, whose admin port + 10000 must be a port too.
RANGE = range(10_240, 22_000)
OFFSET = 10_000


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def is_open(port: int, timeout: float = 0.5) -> bool:
    """Tell whether somebody accepts connections on this port of loopback."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout):
            return True
    except OSError:
        return False


def holder(port: int) -> "psutil.Process | None":
    """Return the process that listens on a port; None if nobody does, or this user may not know who."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return psutil.Process(connection.pid)
    except psutil.Error:
        pass
    return None


def free_ports(count: int, avoid: Iterable[int] = ()) -> list[int]:
    """Return `count` different ports that are free now, each with port + 10000 free as well."""
    taken = set(avoid)
    found: list[int] = []
    chance = random.SystemRandom()
    while len(found) < count:
        port = chance.choice(RANGE)
        if port not in taken and is_free(port) and is_free(port + OFFSET):
            found.append(port)
            taken |= {port, port + OFFSET}
    return found


def inner_ports(record: Path, names: Sequence[str], avoid: Iterable[int] = ()) -> dict[str, int]:
    """Return a port for each name, the same at every start unless somebody took one meanwhile.

    They are nobody's business but the server's own, so no setting names them.
    """
    known: dict[str, int] = json.loads(record.read_text()) if record.exists() else {}
    missing = [name for name in names if name not in known or known[name] in set(avoid)]
    if missing:
        fresh = free_ports(len(missing), [*avoid, *known.values()])
        known.update(zip(missing, fresh, strict=True))
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(known))
    return {name: known[name] for name in names}
