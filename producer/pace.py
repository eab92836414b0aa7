"""When the next message is due: at a steady rate, or as far apart as it happened."""

import time
from collections.abc import Callable
from typing import Protocol

from fraud.errors import ConfigError

TICK_S = 0.01  # a steady pace sends what is due about a hundred times a second
MAX_DEBT_S = 0.1  # after a pause at most this much is caught up with: never a burst


class Pace(Protocol):
    """Tells how long to wait."""

    def wait(self, event_ms: int) -> float:
        """Return the seconds until the message may go; 0 takes its turn."""
        ...


class Unpaced:
    """Everything at once."""

    def wait(self, event_ms: int) -> float:  # noqa: ARG002
        """Return 0."""
        return 0.0


class Steady:
    """So many a second, on a schedule that doesn't drift."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not rate > 0:
            raise ConfigError(f"a rate of {rate:g} messages a second sends nothing; give more than 0")
        self.rate, self.clock = rate, clock
        self.begin = clock()
        self.sent = 0

    def wait(self, event_ms: int) -> float:  # noqa: ARG002
        """Return the seconds until the next turn, whatever the message's time."""
        now = self.clock()
        due = self.begin + self.sent / self.rate
        if due > now:
            return max(due - now, TICK_S)
        self.begin += max(0.0, now - due - MAX_DEBT_S)
        self.sent += 1
        return 0.0


class Speed:
    """As far apart as the events were, `speed` times faster; a late event goes at once."""

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not speed > 0:
            raise ConfigError(f"a speed of {speed:g} never comes to the second event; give more than 0")
        self.speed, self.clock = speed, clock
        self.begin = clock()
        self.first: int | None = None

    def wait(self, event_ms: int) -> float:
        """Return the seconds until the time of the event has come."""
        now = self.clock()
        if self.first is None:
            self.first, self.begin = event_ms, now
        due = self.begin + (event_ms - self.first) / 1000 / self.speed
        return max(0.0, due - now)


def chosen(rate: float | None, speed: float | None) -> Pace:
    """Return the pace of `rate` messages a second, or of `speed` times the events' own; neither: at once.

    Raises:
        ConfigError: both are given, or one that isn't above 0.
    """
    if rate is not None and speed is not None:
        raise ConfigError(f"a rate ({rate:g}) and a speed ({speed:g}) exclude each other; give one")
    if rate is not None:
        return Steady(rate)
    return Unpaced() if speed is None else Speed(speed)
