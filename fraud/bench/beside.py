"""What is looked at beside a load: does the lag grow, and where does a micro-batch's time go."""

import json
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fraud import bus
from fraud.bench.rig import Rig

LAG_SECONDS = 1.0


class Beside:
    """Looks once a second, in a thread, for as long as the block lasts; afterwards reads the job's own lines."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._end = rig, threading.Event()
        self._thread = threading.Thread(target=self._look, name="beside", daemon=True)
        self._waiting: list[tuple[float, int]] = []
        self._begun = self._ended = 0

    def __enter__(self) -> "Beside":
        self._begun = time.time_ns() // 1_000_000
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._ended = time.time_ns() // 1_000_000

    def _look(self) -> None:
        while not self._end.wait(LAG_SECONDS):
            # Positions first: what arrives between the looks waits.
            decided = self._rig.decided()
            waiting = sum(self._rig.ends(bus.TRANSACTIONS).values()) - decided
            self._waiting.append((time.monotonic(), waiting))

    def figures(self) -> dict[str, float]:
        """Return lag_slope (transactions a second) and, as the job wrote them, batch_rows, batch_ms and each phase."""
        path = self._rig.settings.logs / "score-progress.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        within = (line for line in map(json.loads, lines) if self._begun <= line["at"] <= self._ended)
        return {"lag_slope": slope(self._waiting), **phases(within)}


def slope(seen: Sequence[tuple[float, int]]) -> float:
    """Return by how much a second the values grow (least squares); 0 with fewer than two.

    >>> round(slope([(0.0, 5), (1.0, 7), (2.0, 9)]), 6)
    2.0
    """
    if len(seen) < 2:
        return 0.0
    times, values = zip(*seen, strict=True)
    return round(float(np.polyfit(np.array(times) - times[0], values, 1)[0]), 1)


def phases(lines: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return the medians over the micro-batches that the lines name, each counted once.

    >>> phases([{"batch": 1, "batch_rows": 5, "batch_ms": 80, "phases_ms": {"addBatch": 60}}] * 2)
    {'batch_rows': 5.0, 'batch_ms': 80.0, 'batch_addBatch_ms': 60.0}
    """
    batches = {line["batch"]: line for line in lines if line.get("batch_ms") is not None}
    found: dict[str, list[float]] = {}
    for line in batches.values():
        known = {"batch_rows": line["batch_rows"], "batch_ms": line["batch_ms"]}
        for name, value in (known | {f"batch_{each}_ms": ms for each, ms in line["phases_ms"].items()}).items():
            found.setdefault(name, []).append(value)
    return {name: float(statistics.median(values)) for name, values in found.items()}
