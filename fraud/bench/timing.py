"""How long a call takes: warmed up, repeated, several calls in turns so that a busy moment meets them all."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from timeit import Timer
from typing import Any

LEAST_SECONDS = 0.05  # of one repetition; shorter calls are made several times in it

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, a value per repetition."""

    seconds: tuple[float, ...]

    @property
    def least(self) -> float:
        """The fastest repetition: what the call costs where nothing disturbs it."""
        return min(self.seconds)

    def figures(self, scale: float) -> dict[str, Any]:
        """Return median and range, each times `scale` (1e6 / rows: µs per row), in four digits.

        >>> Timing((0.25, 0.5, 1.0)).figures(1e3)
        {'median': 500.0, 'range': [250.0, 1000.0]}
        """
        values = [digits(each * scale) for each in self.seconds]
        return {"median": digits(statistics.median(values)), "range": [min(values), max(values)]}


def digits(value: float) -> float:
    """Return a figure with the four digits that mean something.

    >>> digits(123.456789)
    123.5
    """
    return float(f"{value:.4g}")


def measure(
    calls: Mapping[str, Call],
    repeats: int,
    *,
    seconds: float = LEAST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each call `repeats` times, in turns, after one call that isn't counted.

    Args:
        seconds: about how long a repetition lasts at least.
        clock: `time.thread_time` leaves out the time that other processes took.

    Garbage is collected meanwhile, as it is in the job.
    """
    timers, counts = {}, {}
    for name, call in calls.items():
        call()  # compiles, fills caches
        timers[name] = Timer(call, setup=gc.enable, timer=clock)
        once = timers[name].timeit(1)
        counts[name] = max(1, math.ceil(seconds / max(once, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, timer in timers.items():
            found[name].append(timer.timeit(counts[name]) / counts[name])
    return {name: Timing(tuple(values)) for name, values in found.items()}


def ratio(one: Timing, other: Timing) -> float:
    """Return how much longer `one` takes than `other`, both at their fastest.

    >>> ratio(Timing((3.0, 2.0)), Timing((4.0, 9.0)))
    0.5
    """
    return digits(one.least / other.least)
