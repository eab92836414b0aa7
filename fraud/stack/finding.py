"""What `doctor` says: a finding, its level, and how checks become findings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fraud.errors import FraudError

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One sentence about one topic; of a warning or a problem it says what to do."""

    topic: str
    level: Level
    message: str


def ok(topic: str, message: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(topic, "ok", message)


def warning(topic: str, message: str) -> Finding:
    """Return a finding that will become a problem."""
    return Finding(topic, "warning", message)


def problem(topic: str, message: str) -> Finding:
    """Return a finding that keeps the platform from doing its work."""
    return Finding(topic, "problem", message)


def findings(topic: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; an error of ours is a finding too, so that the other checks go on."""
    try:
        yield from check()
    except FraudError as exc:
        yield problem(topic, str(exc))
