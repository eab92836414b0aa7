"""A producer that goes on whatever dies: mixed transactions from a process of its own, and a past of merchants.

A process, since kafka-python forgets sockets of brokers that are away, and pytest remembers them.
"""

import json
import os
import random
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import polars as pl

from fraud import bus, codec
from fraud.backfill import Past
from fraud.settings import Settings
from tests import servers
from tests.spark_jobs.jobs import Message, message

USERS = 400
PATIENCE_MS = 240_000  # how long a message may wait for a broker
DAY_MS = 86_400_000


def mixed(rng: random.Random) -> Iterator[Message]:
    """Yield transactions without end: in a hundred about 90 plain, 5 late, 3 repeated, 2 bad ones."""
    recent: deque[Message] = deque(maxlen=3_000)
    n = 0
    while True:
        now = time.time_ns() // 1_000_000
        kind = rng.random()
        if recent and kind < 0.02:
            yield rng.choice(recent)
        elif recent and kind < 0.03:
            yield _other_amount(rng.choice(recent))
        elif kind < 0.05:
            yield _bad(n, rng, now)
        else:
            late = rng.randrange(6 * DAY_MS) if kind < 0.10 else 0
            sent = message(
                n,
                user_id=f"u{rng.randrange(USERS)}",
                merchant_id=f"m{rng.randrange(20)}",
                amount=round(rng.lognormvariate(3, 1), 2),
                timestamp=codec.format_time(now - 1_000 - late),
            )
            recent.append(sent)
            yield sent
        n += 1


def _other_amount(sent: Message) -> Message:
    return sent._replace(value=json.dumps({**json.loads(sent.value or b""), "amount": 7_777.0}).encode())


def _bad(n: int, rng: random.Random, now: int) -> Message:
    good = message(n, now_ms=now)
    return rng.choice(
        [
            good._replace(value=b"not JSON"),
            good._replace(value=b"{}"),
            good._replace(key=b"somebody-else"),
            message(n, amount=-1.0),
            message(n, timestamp=codec.format_time(now - 8 * DAY_MS)),
            message(n, timestamp=codec.format_time(now + DAY_MS)),
        ]
    )


class Load:
    """Sends `mixed` at a rate for as long as the block lasts; `sent`: how many, all of them acknowledged."""

    def __init__(self, settings: Settings, seed: int, per_second: float) -> None:
        self._command = [sys.executable, "-m", "tests.spark_jobs.load", str(seed), str(per_second)]
        self._settings = settings
        self.sent = 0

    def __enter__(self) -> "Load":
        self._process = subprocess.Popen(
            self._command,
            cwd=servers.REPOSITORY,
            env=servers.environment(self._settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=servers._die_with_pytest,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        said, _ = self._process.communicate(timeout=PATIENCE_MS / 1_000)  # closes its stdin: the sign to end
        if error is None:
            assert self._process.returncode == 0, "the producer lost a message"
            self.sent = int(said)


def main(seed: int, per_second: float) -> None:
    """Send until stdin ends; then print how many messages were sent, if all of them were acknowledged."""
    settings, messages = Settings.load(os.environ), mixed(random.Random(seed))
    producer = bus.producer(settings.kafka_bootstrap, delivery_timeout_ms=PATIENCE_MS, max_block_ms=PATIENCE_MS)
    futures: list[Any] = []
    begin = time.monotonic()
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        due = int((time.monotonic() - begin) * per_second)
        while len(futures) < due:
            each = next(messages)
            futures.append(producer.send(bus.TRANSACTIONS, key=each.key, value=each.value))
    producer.flush(PATIENCE_MS / 1_000)
    for future in futures:
        future.get(1)  # raises what went wrong with it
    producer.close()
    print(len(futures))


def merchants_past(now_ms: int) -> Past:
    """Return a past that gives every merchant feature a value: 45 days of twenty merchants, up to now."""
    now = datetime.fromtimestamp(now_ms // 1_000, UTC)
    rows = [(merchant, hour) for hour in range(0, 45 * 24, 3) for merchant in range(20)]
    transactions = pl.DataFrame(
        {
            "transaction_id": [f"past-{merchant}-{hour}" for merchant, hour in rows],
            "user_id": [f"p{merchant}" for merchant, _ in rows],
            "merchant_id": [f"m{merchant}" for merchant, _ in rows],
            "timestamp": [now - timedelta(hours=hour) for _, hour in rows],
            "amount": [10.0] * len(rows),
        },
        schema_overrides={"timestamp": pl.Datetime("ms", "UTC")},
    ).reverse()
    frauds = transactions.gather_every(7)
    labels = frauds.select(
        "transaction_id",
        "user_id",
        pl.lit(value=True).alias("is_fraud"),
        (pl.col("timestamp") + timedelta(days=2)).alias("labelled_at"),
    )
    return Past(transactions, labels, merchants_only=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
