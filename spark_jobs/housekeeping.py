"""What the driver does beside the query: marks, trimming, a look at the topic, a line of progress."""

import json
import logging
import logging.handlers
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud import bus
from fraud.errors import FraudError, ServiceError, StateError
from fraud.store.base import Histories, Lease, PartitionKey
from spark_jobs import checkpoint, start

EVERY_SECONDS = 2.0
LOOKS = 3  # every third round asks Kafka about the topic: its answer costs a connection
AGAIN_SECONDS = 1.0  # from a look that misses the topic to the one that confirms it
KEEP_MS = 600_000  # the outbox keeps ten minutes whatever the mark says: room for an operator's mistake
PROGRESS_BYTES = 1 << 20


@dataclass(frozen=True)
class House:
    """What housekeeping works on; the callables are the running query's."""

    histories: Histories
    lease: Callable[[], Lease]
    topic: start.Topic
    bootstrap: str
    checkpoint: Path
    progress: Path  # score-progress.jsonl
    last_batch: Callable[[], dict[str, Any] | None]  # Spark's last progress, as JSON
    clock: Callable[[], int]  # ms since the epoch


class Housekeeping:
    """A thread; `failed` is called once, with the error, when the query must not go on."""

    def __init__(self, house: House, failed: Callable[[FraudError], None]) -> None:
        self._house, self._failed = house, failed
        self._end = threading.Event()
        self._before: tuple[int, int] | None = None
        self._lines = progress_log(house.progress)
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Do it a last time, so that a restart has less to repeat, and end the thread."""
        self._end.set()
        self._thread.join(2 * EVERY_SECONDS)
        for handler in self._lines.handlers:
            handler.close()

    def _run(self) -> None:
        rounds = 0
        while True:
            last = self._end.wait(EVERY_SECONDS)
            try:
                mark(self._house)
                self._tell()
                if last:
                    return
                rounds += 1
                if rounds % LOOKS == 0:
                    look(self._house)
            except ServiceError:
                # Kafka or the store is away: Spark retries, and ends the query itself where that doesn't help.
                if last:
                    return
            except FraudError as exc:
                self._failed(exc)
                return

    def _tell(self) -> None:
        """Write one line: where the stream is and how fast; at most one every two seconds."""
        now = self._house.clock()
        positions = self._house.histories.positions()
        decided = sum(at for key, at in positions.items() if key.topic_id == self._house.topic.id)
        batch = self._house.last_batch() or {}
        line: dict[str, Any] = {"at": now, "position": decided, "batch": batch.get("batchId")}
        if self._before is not None:
            then, there = self._before
            line["rows"] = decided - there
            line["rows_per_s"] = round((decided - there) / max(now - then, 1) * 1000, 1)
        line["batch_rows"] = batch.get("numInputRows")
        phases = dict(batch.get("durationMs") or {})
        line["batch_ms"] = phases.pop("triggerExecution", None)
        line["phases_ms"] = phases
        self._before = now, decided
        self._lines.info(json.dumps(line, separators=(",", ":")))


def mark(house: House) -> None:
    """Raise the marks to what the checkpoint says was published, and trim the outbox below them.

    Raises:
        StateError: Spark reads partitions that weren't there at the start: it adds new ones by itself.
    """
    published = checkpoint.published(house.checkpoint, house.topic.name)
    if not published:
        return
    if not published.keys() <= house.topic.end.keys():
        start.watch(house.topic, house.topic.id, len(published))
    marks = {PartitionKey(house.topic.id, partition): offset for partition, offset in published.items()}
    house.histories.set_marks(marks, house.lease())
    house.histories.trim(house.lease(), committed_before=house.clock() - KEEP_MS)


def look(house: House) -> None:
    """Raise StateError if the topic was deleted, recreated or expanded under the running query.

    It is called deleted after two looks in a row: a broker that starts doesn't know its topics at once.
    """
    now = _described(house)
    if now is None:
        time.sleep(AGAIN_SECONDS)
        now = _described(house)
    if now is None:
        start.watch(house.topic, None, 0)
    else:
        start.watch(house.topic, now.id, now.partitions)


def _described(house: House) -> bus.TopicState | None:
    try:
        return bus.describe(house.bootstrap, house.topic.name)
    except StateError:
        return None


def progress_log(path: Path) -> logging.Logger:
    """Return a logger of bare lines: two files of a megabyte, the older with `.1`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = logging.Logger(f"progress {path}", logging.INFO)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=PROGRESS_BYTES, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    lines.addHandler(handler)
    return lines
