"""What a tree of processes costs: CPU seconds and memory, from /proc."""

import contextlib
import os
import platform
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """CPU seconds since their starts and resident memory (sum of PSS, bytes) of some processes."""

    cpu_seconds: float
    pss_bytes: int


def tree(roots: Iterable[int]) -> list[psutil.Process]:
    """Return the living processes with these ids and all their descendants."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                found[process.pid] = process
    return list(found.values())


def usage(processes: Iterable[psutil.Process]) -> Usage:
    """Add up what the processes cost; one that has ended meanwhile counts nothing.

    PSS shares a page among those that map it, so forked workers aren't counted twice. CPU time includes that
    of children that ended and were waited for.
    """
    seconds, memory = 0.0, 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
            memory += process.memory_full_info().pss
    return Usage(seconds, memory)


class PeakMemory:
    """Samples the memory of a tree in a thread; `peak_mb` is the largest sum of PSS seen."""

    def __init__(self, roots: Callable[[], Iterable[int]], every: float = 1.0) -> None:
        self._roots, self._every = roots, every
        self._end = threading.Event()
        self.peak_mb = 0.0
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def close(self) -> float:
        """End sampling and return the peak in MiB."""
        self._end.set()
        self._thread.join()
        return self.peak_mb

    def _run(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, round(usage(tree(self._roots())).pss_bytes / MIB, 1))
            if self._end.wait(self._every):
                return


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory, system, Python."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def load() -> float:
    """Return the system's load average over the last minute: who else is working here."""
    return round(os.getloadavg()[0], 2)
