"""The archive job: the four topics into the lake, exactly once, and what they change into the merchants' profiles.

Delivery: each record once in its table, each accepted transaction and each change of a verdict once in the profiles;
rejections of labels at least once, a repeat being the same bytes. The driver holds the lease `archive`, decides where
to start, and does the work of every micro-batch itself (`spark_jobs.archive_batch`): no Python worker is needed.
"""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud import bus
from fraud.errors import ServiceError, StateError
from fraud.kafka_clients import translated
from fraud.lake import Lake, open_lake
from fraud.lake.tables import TABLES
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.unfinished import unfinished
from spark_jobs import archive_ends, checkpoint, failure, lease, session
from spark_jobs.archive_batch import Archivist
from spark_jobs.archive_ends import Ends, Reached
from spark_jobs.archive_query import RETRY_SECONDS, TOPICS, Batches
from spark_jobs.stop import Stop

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

QUERY = "archive"
HEAP = "600m"  # a batch passes through the JVM, nothing stays in it
POLL_SECONDS = 0.2

Say = Callable[[str], None]


def clock() -> int:
    """Return now, in ms since the epoch; the job is an entry point."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Order:
    """What a run of the job is asked for; `fault` see spark_jobs.archive_batch.Archivist, tests only."""

    settings: Settings
    fault: Callable[[str], None] = field(default=lambda _step: None)

    @property
    def checkpoint(self) -> Path:
        """Return the query's checkpoint: its state is the lake's, this only says how far it read."""
        return self.settings.data / "checkpoints" / QUERY


def run(order: Order, stop: Stop, say: Say) -> None:
    """Archive until `stop` is set or the query fails.

    Raises:
        StateError: store, lake, checkpoint and topics don't continue each other: don't restart.
        FencedError: another archive job, a backfill or a rebuild holds the lease.
        ServiceError: Kafka, S3 or Spark failed: a restart goes on where it ended.
    """
    settings = order.settings
    with ExitStack() as stack:
        store = open_store(settings)
        stack.callback(store.close)
        held = lease.acquire(store.histories, clock=clock, name=QUERY)
        renewal = lease.Renewal(store.histories, held, clock, stop.because)
        stack.callback(renewal.close)
        broken = unfinished(store)
        if broken is not None:
            raise StateError(broken)
        lake = open_lake(settings)
        ids, starting = prepare(order, lake)
        producer = bus.producer(settings.kafka_bootstrap, client_id="fraud-archive", linger_ms=0)
        stack.callback(producer.close)
        archivist = Archivist(settings, lake, store, ids, _publisher(producer, settings.kafka_bootstrap), order.fault)
        spark = session.Session(settings, options(settings))
        stack.callback(spark.close)
        say(f"Spark UI: {spark.ui}")
        batches = Batches(order.checkpoint, archivist, stop, clock)
        query = start_query(spark, order, starting, batches.take)
        stack.callback(_stop_query, query)
        stack.callback(batches.wait)
        say(f"archiving {', '.join(TOPICS)} to {lake.place.uri}")
        stop.ready()
        _watch_query(query, stop)
    if stop.error is not None:
        raise stop.error


def options(settings: Settings) -> dict[str, str]:
    """Return what differs from the score job's Spark."""
    scratch = settings.data.absolute() / "scratch" / QUERY
    return {
        "spark.app.name": "fraud-archive",
        "spark.driver.memory": HEAP,
        # The driver collects what its offsets bound; Spark's own limit of 1 GB would end the query instead.
        "spark.driver.maxResultSize": "0",
        "spark.ui.port": str(settings.archive_ui_port),
        "spark.local.dir": str(scratch / "local"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
    }


def prepare(order: Order, lake: Lake) -> tuple[dict[str, str], Ends]:
    """Return topic → id, and where a query without a checkpoint begins: after what the lake's tables hold.

    Raises:
        StateError: checkpoint, lake and topics don't belong together.
    """
    bootstrap = order.settings.kafka_bootstrap
    ids = {topic: bus.topic_id(bootstrap, topic) for topic in TOPICS}
    reached = archive_ends.read(lake)
    over = f"Move {order.checkpoint} away, and the job begins after what the lake's tables hold"
    if checkpoint.is_used(order.checkpoint):
        if reached is None:
            raise StateError(
                f"the archive job has a checkpoint, but the lake {lake.place.uri} knows nothing of it. {over}"
            )
        for topic, known in ids.items():
            if reached.ids.get(topic) != known:
                raise StateError(
                    f"the topic {topic} was recreated: its id is {known}, not {reached.ids.get(topic)}. {over}"
                )
        return ids, {}
    starting: Ends = {}
    for table in TABLES:
        if table.topic is not None:
            kept = lake.ends(table)
            begin, end = bus.begin_offsets(bootstrap, table.topic), bus.end_offsets(bootstrap, table.topic)
            starting[table.topic] = {
                part: min(max(first, kept.get((ids[table.topic], part), 0)), end[part]) for part, first in begin.items()
            }
    through, queries = (None, []) if reached is None else (reached.profile_through, reached.queries)
    archive_ends.write(lake, Reached("", -1, clock(), ids, starting, through, queries))
    return ids, starting


def start_query(
    spark: session.Session, order: Order, starting: Ends, take: Callable[["DataFrame", int], None]
) -> "StreamingQuery":
    """Start the one query; its checkpoint is the ordinary one, which foreachBatch needs."""
    settings = order.settings
    source = {
        **session.source_options(settings, bus.TRANSACTIONS, {}),
        "subscribe": ",".join(TOPICS),
        "maxOffsetsPerTrigger": str(settings.archive_max_offsets),
        "startingOffsets": json.dumps({t: {str(p): at for p, at in parts.items()} for t, parts in starting.items()})
        if starting
        else "earliest",  # the checkpoint knows better
    }
    rows = spark.spark.readStream.format("kafka").options(**source).load()
    writer = (
        rows.selectExpr("topic", "partition", "offset", "unix_millis(timestamp) AS broker_time", "key", "value")
        .writeStream.queryName(QUERY)
        .option("checkpointLocation", str(order.checkpoint.absolute()))
        .foreachBatch(take)
    )
    if settings.archive_seconds:
        writer = writer.trigger(processingTime=f"{round(settings.archive_seconds * 1000)} milliseconds")
    return writer.start()


def _publisher(producer: Any, bootstrap: str) -> Callable[[list[tuple[bytes | None, bytes]]], None]:
    """Return what sends rejections and waits until the broker has them."""

    def publish(rejections: list[tuple[bytes | None, bytes]]) -> None:
        with translated(bootstrap):
            sent = [producer.send(bus.DLQ, key=key, value=value) for key, value in rejections]
            producer.flush()
            for future in sent:
                future.get(RETRY_SECONDS)

    return publish


def _watch_query(query: "StreamingQuery", stop: Stop) -> None:
    """Return when the query shall end; a query that ended by itself did so with an error."""
    from py4j.protocol import Py4JError

    while not stop.event.wait(POLL_SECONDS):
        try:
            if not query.isActive:
                error = query.exception()
                stop.because(failure.why("the query was stopped by somebody else" if error is None else str(error)))
        except (Py4JError, OSError) as exc:
            stop.because(ServiceError(f"Spark's JVM doesn't answer any more ({exc}); a restart goes on"))


def _stop_query(query: "StreamingQuery") -> None:
    """Stop the query; what stopping raises (the JVM may be gone) is not why the job ends."""
    with suppress(Exception):
        query.stop()
