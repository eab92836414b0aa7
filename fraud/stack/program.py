"""What the supervisor needs to know about a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Program:
    """One supervised server: how to start it, where it listens, when it is ready.

    Attributes:
        ports: (port, the setting that names it) of each port that must be free before it starts.
        needs: the programs that must be ready before it starts, and end after it.
        prepare: what must be done once before its first start; it may take seconds.
        notice: what `prepare` will do this time that takes longer, for the person who waits.
        ready: answers whether it serves; must not raise for a server that is merely away.
        after: makes what belongs into it (topics, buckets); returns what a person should know.
        start_seconds: how long it must live to count as started; below that it is tried four times.
        ready_seconds: how long a person should wait for it to serve.
    """

    name: str
    command: Sequence[str]
    address: str
    ready: Callable[[], bool]
    ports: Sequence[tuple[int, str]] = ()
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    notice: str = ""
    after: Callable[[], Sequence[str]] = tuple
    ui: str | None = None
    start_seconds: int = 1
    ready_seconds: float = 180.0
    stop_seconds: int = 20
    stop_signal: str = "TERM"
