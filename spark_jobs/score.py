"""The score job: `transactions` in, predictions and rejections out, each source offset decided once.

Delivery: decided exactly once (the online store's commit), published at least once, a repeat being the same
bytes. The driver holds the lease `score`, decides where to start, runs one query and keeps house beside it;
everything about a row happens in the tasks (spark_jobs/task.py). Before there is a model the query collects:
histories are kept, nothing is decided.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fraud import bus
from fraud.errors import FraudError, ServiceError, StateError
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Lease, Store
from fraud.store.unfinished import unfinished
from fraud.watcher import Watching
from spark_jobs import checkpoint, failure, lease, session, start, task
from spark_jobs.housekeeping import House, Housekeeping, look
from spark_jobs.stop import Stop

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

QUERY = "score"
DAY_MS = 86_400_000
POLL_SECONDS = 0.2
LOOK_SECONDS = 15.0  # MLflow's client takes long to import; after this the wait is worth a word
NO_MODEL = (
    "no model is in Production yet, so histories are kept and nothing is decided. Make one with "
    "`fraud-detect train`, then `fraud-detect promote`"
)

Say = Callable[[str], None]


def clock() -> int:
    """Return now, in ms since the epoch; the job is an entry point."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Order:
    """What a run of the job is asked for.

    Attributes:
        choice: where a first start begins; None: earliest.
        watch: starts the model watcher on the store; None: nobody watches.
        fault: see fraud.decision.Terms; tests only.
    """

    settings: Settings
    choice: start.From | None = None
    watch: Callable[[Store], Watching] | None = None
    fault: Callable[[str, Sequence[str]], None] | None = None


def run(order: Order, stop: Stop, say: Say) -> None:
    """Score until `stop` is set or the query fails.

    Raises:
        StateError, GapError: a start is refused, or the topic changed under the query: don't restart.
        FencedError: another score job holds the lease.
        ServiceError: Kafka or Spark failed: a restart goes on where it ended.
    """
    settings = order.settings
    with ExitStack() as stack:
        store = open_store(settings)
        stack.callback(store.close)
        held = lease.acquire(store.histories, clock=clock)
        renewal = lease.Renewal(store.histories, held, clock, stop.because)
        stack.callback(renewal.close)
        topic, begin = prepare(order, store, held)
        watching = None if order.watch is None else order.watch(store)
        if watching is not None:
            stack.callback(watching.close)
        spark = session.Session(settings)
        stack.callback(spark.close)
        say(f"Spark UI: {spark.ui}")
        if watching is not None:
            _wait_for_look(watching, store, stop, say)
        if not stop.event.is_set():
            query = start_query(spark, order, topic, begin, held)
            stack.callback(_stop_query, query)
            house = House(
                store.histories,
                lambda: renewal.lease,
                topic,
                settings.kafka_bootstrap,
                settings.checkpoint,
                settings.logs / "score-progress.jsonl",
                lambda: _last_batch(query),
                clock,
            )
            stack.callback(Housekeeping(house, stop.because).close)
            stop.ready()
            where = f"{topic.name} ({len(topic.end)} partitions), profile {settings.score_profile}"
            if store.serving.pointer() is None:
                say(f"collecting {where}: {NO_MODEL}")
                _watch_query(query, house, stop, until=lambda: store.serving.pointer() is not None)
            if not stop.event.is_set():
                say(f"scoring {where}")
                _watch_query(query, house, stop)
    if stop.error is not None:
        raise stop.error


def prepare(order: Order, store: Store, held: Lease) -> tuple[start.Topic, start.Start]:
    """Decide where to start and store first positions; raises as `spark_jobs.start.decide`.

    A store with a part of a past, which a broken backfill left, is refused with a StateError too.
    """
    settings = order.settings
    broken = unfinished(store)
    if broken is not None:
        raise StateError(broken)
    found = bus.describe(settings.kafka_bootstrap, bus.TRANSACTIONS)
    topic = start.Topic(
        found.name,
        found.id,
        bus.begin_offsets(settings.kafka_bootstrap, found.name),
        bus.end_offsets(settings.kafka_bootstrap, found.name),
    )
    resume = None
    if checkpoint.is_used(settings.checkpoint):
        resume = checkpoint.published(settings.checkpoint, topic.name)
    remembered = start.Remembered(store.histories.positions(), store.histories.marks(), resume)
    begin = start.decide(topic, remembered, order.choice)
    if begin.first is not None:
        store.histories.start(begin.first, held)
    return topic, begin


def start_query(
    spark: session.Session, order: Order, topic: start.Topic, begin: start.Start, held: Lease
) -> "StreamingQuery":
    """Start the one query: Kafka, the Python boundary, Kafka."""
    settings = order.settings
    config = task_config(order, topic, held)
    rows = (
        spark.spark.readStream.format("kafka")
        .options(**session.source_options(settings, topic.name, begin.offsets))
        .load()
        .selectExpr("key", "value", "partition", "offset", "unix_millis(timestamp) AS broker_time")
        .select(*task.INPUT)
    )
    writer = (
        rows.mapInArrow(task.answer(config), task.OUTPUT)
        .select("topic", "key", "value")
        .writeStream.queryName(QUERY)
        .format("kafka")
        .options(**session.sink_options(settings))
    )
    interval = session.profile(settings).trigger
    if interval is not None:
        writer = writer.trigger(processingTime=interval)
    return writer.start()


def task_config(order: Order, topic: start.Topic, held: Lease) -> task.TaskConfig:
    """Return what the tasks need, and nothing secret beyond it: it is pickled and sent to them."""
    settings = order.settings
    needed = {"kafka_bootstrap", "store_url", "store_map_mb", "store_durability"}
    shared = Settings.load({}, home=settings.home.absolute(), **{name: getattr(settings, name) for name in needed})
    days = settings.max_age_days
    return task.TaskConfig(
        settings=shared,
        topic=topic.name,
        topic_id=topic.id,
        predictions=bus.PREDICTIONS,
        rejections=bus.DLQ,
        epoch=held.epoch,
        max_age_ms=None if days is None else round(days * DAY_MS),
        **({} if order.fault is None else {"fault": order.fault}),
    )


def _wait_for_look(watching: Watching, store: Store, stop: Stop, say: Say) -> None:
    """Return when the store has a model, or the registry says that none is in Production, or the job shall end.

    A store that was made anew has no model although there is one: what came before it would never be decided.
    """
    began = time.monotonic()
    said = False
    while store.serving.pointer() is None and not watching.looked.is_set() and not stop.event.wait(POLL_SECONDS):
        if not said and time.monotonic() - began > LOOK_SECONDS:
            say("the store has no model, and MLflow hasn't told yet whether one is in Production: waiting for it")
            said = True


def _watch_query(query: "StreamingQuery", house: House, stop: Stop, until: Callable[[], bool] = lambda: False) -> None:
    """Return when the query shall end, or `until` holds; a query that ended by itself did so with an error."""
    from py4j.protocol import Py4JError

    while not stop.event.wait(POLL_SECONDS) and not _holds(until):
        try:
            if not query.isActive:
                stop.because(_why(query, house))
        except (Py4JError, OSError) as exc:
            stop.because(ServiceError(f"Spark's JVM doesn't answer any more ({exc}); a restart goes on"))


def _holds(condition: Callable[[], bool]) -> bool:
    """Tell whether it holds; with the store away nobody knows, and the tasks say so themselves."""
    try:
        return condition()
    except ServiceError:
        return False


def _why(query: "StreamingQuery", house: House) -> FraudError:
    """Return why the query ended; where offsets or positions didn't fit, the topic says what became of it."""
    error = query.exception()
    found = failure.why("the query was stopped by somebody else" if error is None else str(error))
    try:
        look(house)
    except StateError as exc:
        return exc
    except ServiceError:
        return found
    return found


def _stop_query(query: "StreamingQuery") -> None:
    """Stop the query; what stopping raises (the JVM may be gone) is not why the job ends."""
    with suppress(Exception):
        query.stop()


def _last_batch(query: "StreamingQuery") -> dict[str, Any] | None:
    """Return Spark's progress of the last micro-batch, None before the first or without a JVM."""
    from py4j.protocol import Py4JError

    try:
        progress = query.lastProgress
    except (Py4JError, OSError):
        return None
    return None if progress is None else dict(json.loads(progress.json))
