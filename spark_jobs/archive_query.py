"""The archive query's micro-batches: taken one at a time, again while a server is away, a line told of each."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tenacity

from fraud import bus
from fraud.errors import ServiceError, StateError
from spark_jobs import archive_ends, checkpoint
from spark_jobs.archive_batch import Archivist, Done
from spark_jobs.archive_ends import Ends, Reached
from spark_jobs.archive_state import Batch
from spark_jobs.housekeeping import progress_log
from spark_jobs.stop import Stop

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

TOPICS = (bus.TRANSACTIONS, bus.LABELS, bus.PREDICTIONS, bus.DLQ)
END_SECONDS = 10.0  # for the batch in flight, when the job is told to end
RETRY_SECONDS = 120.0  # with S3 or Kafka away; then the job ends, and is started again


class Batches:
    """Takes the query's micro-batches, one at a time, and says how far they are."""

    def __init__(self, path: Path, archivist: Archivist, stop: Stop, clock: Callable[[], int]) -> None:
        self._checkpoint, self._archivist, self._stop, self._clock = path, archivist, stop, clock
        self._lines = progress_log(archivist.settings.logs / "archive-progress.jsonl")
        self._at_work = threading.Lock()
        self._known: list[str] = []

    def take(self, rows: "DataFrame", number: int) -> None:
        """Archive a batch; while S3 or Kafka is away, try again."""
        with self._at_work:
            if self._stop.event.is_set():
                raise ServiceError("the job is ending")
            began = time.monotonic()
            at = Batch(_query_id(self._checkpoint), number)
            ends = _planned(self._checkpoint, number)
            table = rows.toArrow()
            read = time.monotonic() - began
            retry = tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(ServiceError),
                wait=tenacity.wait_exponential(0.5, max=10),
                stop=tenacity.stop_any(
                    tenacity.stop_after_delay(RETRY_SECONDS), tenacity.stop_when_event_set(self._stop.event)
                ),
                sleep=tenacity.sleep_using_event(self._stop.event),
                reraise=True,
            )
            queries = retry(self._queries, at)
            done = retry(self._archivist.take, at, table, ends[bus.TRANSACTIONS])
            ids = dict(self._archivist.topic_ids)
            reached = Reached(at.query, number, self._clock(), ids, ends, done.through, queries)
            retry(archive_ends.write, self._archivist.lake, reached)
            self._tell(reached, done, {"read": round(read, 3)}, time.monotonic() - began)
            self._archivist.fault("batch")

    def _queries(self, at: Batch) -> list[str]:
        """Return every query that ever wrote, this one the last; a new one is remembered before it writes."""
        if at.query not in self._known:
            lake = self._archivist.lake
            reached = archive_ends.read(lake)
            if reached is None:
                raise StateError(f"the lake {lake.place.uri} was emptied under the running archive job")
            self._known = [*(each for each in reached.queries if each != at.query), at.query]
            if reached.queries != self._known:
                archive_ends.write(lake, replace(reached, queries=self._known))
        return self._known

    def wait(self) -> None:
        """Let the batch in flight end, for a while."""
        self._at_work.acquire(timeout=END_SECONDS)

    def _tell(self, reached: Reached, done: Done, read: dict[str, float], seconds: float) -> None:
        line = {
            "at": reached.at,
            "batch": reached.batch,
            "ends": reached.ends,
            "profile_through": reached.profile_through,
            "rows": done.rows,
            "refused": done.refused,
            "strange": done.strange,
            "parked": done.parked,
            "seconds": round(seconds, 3),
            "parts": read | done.seconds,
        }
        self._lines.info(json.dumps(line, separators=(",", ":")))


def _query_id(path: Path) -> str:
    """Return the id that Spark gave the checkpoint's query."""
    return str(json.loads((path / "metadata").read_text())["id"])


def _planned(path: Path, number: int) -> Ends:
    """Return where a batch ends, topic → partition → next offset, as Spark's log has it."""
    log = path / "offsets" / str(number)
    text = log.read_text()
    return {topic: checkpoint.parse_offsets(text, topic, str(log)) for topic in TOPICS}
