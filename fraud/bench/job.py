"""A program under test, in a process of its own."""

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from fraud.bench.processes import tree
from fraud.errors import ServiceError


@dataclass(frozen=True)
class Job:
    """A running program that scores: our job, or a peer."""

    name: str
    process: "subprocess.Popen[bytes]"
    started: float  # time.monotonic()
    log: Path

    @property
    def pid(self) -> int:
        """The driver's."""
        return self.process.pid

    def kill(self, *, only_driver: bool = False) -> list[psutil.Process]:
        """kill -9 the driver with its children (JVM, Python workers), or alone; return all of them.

        The driver goes first, so that it starts nothing in their place.
        """
        found = tree([self.pid])
        for process in found[:1] if only_driver else found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        return found

    def check(self) -> None:
        """Raise ServiceError if it has ended."""
        if self.process.poll() is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServiceError(f"{self.name} ended ({self.process.returncode}): {' '.join(last)} (see {self.log})")
