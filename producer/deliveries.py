"""Every message that was given to the Kafka client is followed until it is acknowledged or has failed."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fraud.schema import Reason

# The client buffers without bound; these are ours.
MAX_PENDING = 10_000
MAX_PENDING_BYTES = 32 << 20


@dataclass
class Deliveries:
    """What the client was given, oldest first, and what became of it; `besides` counts other topics' messages."""

    topic: str
    pending: deque[tuple[Any, Reason | None, int]] = field(default_factory=deque)
    pending_bytes: int = 0
    valid: int = 0
    besides: int = 0
    failed: int = 0
    failure: BaseException | None = None
    expected: dict[Reason, int] = field(default_factory=dict)
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, future: Any, expected: Reason | None, size: int) -> None:
        """Take on a message that the client was given."""
        self.pending.append((future, expected, size))
        self.pending_bytes += size

    @property
    def full(self) -> bool:
        """Tell whether to wait before the next one."""
        return len(self.pending) >= MAX_PENDING or self.pending_bytes >= MAX_PENDING_BYTES

    @property
    def acked(self) -> int:
        """The topic's messages that Kafka has, valid and bad."""
        return self.valid + sum(self.expected.values())

    def settle(self) -> None:
        """Count what is done, up to the first message that isn't."""
        while self.pending and self.pending[0][0].is_done:
            future, expected, size = self.pending.popleft()
            self.pending_bytes -= size
            if future.exception is not None:
                self.failed += 1
                self.failure = self.failure or future.exception
                continue
            where = future.value
            if where.topic != self.topic:
                self.besides += 1
                continue
            first, last = self.offsets.get(where.partition, (where.offset, where.offset))
            self.offsets[where.partition] = (min(first, where.offset), max(last, where.offset))
            if expected is None:
                self.valid += 1
            else:
                self.expected[expected] = self.expected.get(expected, 0) + 1
