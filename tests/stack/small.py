"""A small stack for tests of the supervisor: two servers of a few lines, one with a child in its own session."""

import sys
from pathlib import Path

from fraud.settings import Settings
from fraud.stack.ports import is_open
from fraud.stack.program import Program

SERVER = """
import socket, subprocess, sys, time
if "child" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("listening", flush=True)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(600)
"""


def server(name: str, port: int, setting: str, *, child: bool = False, needs: tuple[str, ...] = ()) -> Program:
    """Describe a server that listens on a port and does nothing else."""
    return Program(
        name=name,
        command=[sys.executable, "-c", SERVER, str(port), *(["child"] if child else [])],
        address=f"127.0.0.1:{port}",
        ready=lambda: is_open(port),
        ports=[(port, setting)],
        needs=needs,
        stop_seconds=5,
    )


def two(settings: Settings, sockets: Path) -> list[Program]:
    """Describe `upper`, which needs `lower` and leaves a child in a session of its own."""
    upper = server("upper", settings.port("mlflow_uri"), "FRAUD_MLFLOW_URI", child=True, needs=("lower",))
    return [upper, server("lower", settings.port("kafka_bootstrap"), "FRAUD_KAFKA_BOOTSTRAP")]


def broken(settings: Settings, sockets: Path) -> list[Program]:
    """Describe `two` and a program that ends at once, with a word about why."""
    command = [sys.executable, "-c", "import sys; sys.exit('no such flag')"]
    failing = Program("failing", command, "nowhere", ready=lambda: False, needs=["upper"])
    return [*two(settings, sockets), failing]


def never_ready(settings: Settings, sockets: Path) -> list[Program]:
    """Describe `two` and a program that is never ready."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return [*two(settings, sockets), Program("silent", command, "nowhere", ready=lambda: False, needs=["upper"])]
