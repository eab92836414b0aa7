"""The timer: what it counts, and what it doesn't."""

import gc
import itertools
import time
from collections.abc import Callable

import pytest

from fraud.bench.timing import Timing, measure, ratio


def ticking(step: float) -> Callable[[], float]:
    """Return a clock that goes on by `step` each time it is read."""
    ticks = itertools.count()
    return lambda: next(ticks) * step


def test_calls_are_made_in_turns_after_a_first_that_is_not_counted() -> None:
    made: list[str] = []
    calls = {name: (lambda name=name: made.append(name)) for name in ("a", "b")}
    timings = measure(calls, 3, seconds=1.0, clock=ticking(1.0))
    assert made == ["a", "a", "b", "b", *("a", "b") * 3]
    assert timings == {"a": Timing((1.0, 1.0, 1.0)), "b": Timing((1.0, 1.0, 1.0))}


def test_short_calls_are_repeated_until_there_is_something_to_time() -> None:
    made: list[int] = []
    measure({"call": lambda: made.append(1)}, 2, seconds=5.0, clock=ticking(0.5))
    assert len(made) == 1 + 1 + 2 * 10


def test_a_call_that_takes_longer_costs_more() -> None:
    timings = measure({"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.02)}, 3, seconds=0.02)
    assert ratio(timings["long"], timings["short"]) > 3
    assert timings["long"].least >= 0.02


def test_garbage_is_collected_as_in_the_job() -> None:
    seen: list[bool] = []
    measure({"call": lambda: seen.append(gc.isenabled())}, 1, seconds=1e-6)
    assert all(seen)


def test_a_clock_of_processor_time_leaves_out_what_others_take() -> None:
    timing = measure({"asleep": lambda: time.sleep(0.05)}, 1, seconds=1e-6, clock=time.thread_time)["asleep"]
    assert timing.least < 0.04


def test_figures_are_median_and_range() -> None:
    assert Timing((3e-6, 1e-6, 2e-6)).figures(1e9) == {"median": 2000.0, "range": [1000.0, 3000.0]}
    with pytest.raises(ValueError, match="empty"):
        _ = Timing(()).least
