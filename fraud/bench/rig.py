"""What a benchmark of the stream stands on: a broker of its own, a loaded store with a model, and jobs."""

import hashlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fraud import backfill, history
from fraud.bench import topics
from fraud.bench.job import Job
from fraud.bench.population import PLAIN, Population
from fraud.errors import ServiceError
from fraud.lake import open_lake
from fraud.s3 import LAKE_BUCKET
from fraud.settings import Settings
from fraud.stack import classes, jobs, kafka, processes, seaweed
from fraud.stack.ports import free_ports
from fraud.stack.program import Program
from fraud.stack.supervisor import Stack, running
from fraud.store import open_store
from fraud.store.base import Pointer
from fraud.store.leases import ARCHIVE

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from fraud.bench.load import Message
    from fraud.model import Bundle

OWNER = "bench"
STOP_SECONDS = 30
AT_WORK_SECONDS = 120
POLL_SECONDS = 0.2
PAST_DAYS = 30
PER_DAY = 2.0  # transactions of a user; after 30 days a history holds 60 entries in the median
USERS_PER_MERCHANT = 7
MAP_MB = 64 << 10  # room for a million users; the file takes what it holds
LAKE = f"s3://{LAKE_BUCKET}"
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rig:
    """A broker with the platform's topics, and what every run begins with.

    Attributes:
        past: what the store begins with.
        rows: transactions that are streamed, in arrival order.
        population: who sends them.
        archived: whether there is a lake, which begins with the past; the archive job may run then.
    """

    settings: Settings
    bundle: "Bundle"
    past: backfill.Past
    rows: pl.DataFrame
    population: Population = PLAIN
    archived: bool = False
    _watermarks: "list[Consumer]" = field(default_factory=list)

    @property
    def bootstrap(self) -> str:
        """The broker."""
        return self.settings.kafka_bootstrap

    def ends(self, topic: str) -> dict[int, int]:
        """Return a topic's end offsets; one client is kept, since opening one costs as much as the job does."""
        from confluent_kafka import Consumer, TopicPartition

        if not self._watermarks:
            self._watermarks.append(Consumer({"bootstrap.servers": self.bootstrap, "group.id": "fraud-bench"}))
        partitions = range(self.settings.topic_partitions)
        asked = {p: self._watermarks[0].get_watermark_offsets(TopicPartition(topic, p), timeout=20) for p in partitions}
        if None in asked.values():
            raise ServiceError(f"Kafka at {self.bootstrap} doesn't say where {topic} ends")
        return {p: int(found[1]) for p, found in asked.items() if found is not None}

    def close(self) -> None:
        """Close the client before its broker goes."""
        while self._watermarks:
            self._watermarks.pop().close()

    def decided(self) -> int:
        """Return how many transactions the store has decided."""
        store = open_store(self.settings)
        try:
            return sum(store.histories.positions().values())
        finally:
            store.close()

    def messages(self, count: int) -> "Iterator[Message]":
        """Return `count` messages, made one by one.

        Raises:
            ServiceError: the simulation has fewer.
        """
        if count > len(self.rows):
            raise ServiceError(f"{count:,} messages are needed, the simulation has {len(self.rows):,}")
        return self.population.messages(self.rows.head(count))

    def reset(self) -> None:
        """Empty topics, checkpoints, store and lake; load the past and the model."""
        topics.recreate(self.settings)
        for path in (self.settings.checkpoint.parent, self.settings.data / "store"):
            shutil.rmtree(path, ignore_errors=True)
        archive = backfill.Archive(open_lake(self.settings), OWNER) if self.archived else None
        store = open_store(self.settings)
        try:
            backfill.load(
                self.past,
                store,
                partitions=self.settings.topic_partitions,
                clock=_now_ms,
                wipe=True,
                archive=archive,
            )
            self.population.grow(store.histories, self.settings.topic_partitions)
            raw = self.bundle.to_bytes()
            pointer = Pointer(1, hashlib.sha256(raw).hexdigest(), "fraud-detector", "1", _now_ms())
            store.serving.publish(raw, pointer, expected_sequence=0)
        finally:
            store.close()

    def median_entries(self) -> int:
        """Return the median of the lengths that the stored histories have."""
        store = open_store(self.settings)
        try:
            packed = (raw for p in range(self.settings.topic_partitions) for _, raw in store.histories.users(p))
            return int(np.median([len(history.unpack([raw]).entries) for raw in packed]))
        finally:
            store.close()

    def job(self, profile: str) -> AbstractContextManager[Job]:
        """Run a score job for as long as the block lasts."""
        command = [sys.executable, "-m", "fraud.cli", "score", "--no-watch", "--profile", profile]
        return self.program("the score job", command, f"score-{profile}")

    @contextmanager
    def archive(self) -> Iterator[Job | None]:
        """Run the archive job, if there is a lake, for as long as the block lasts; begin when it is at work.

        Raises:
            ServiceError: it ends, or isn't at work within two minutes.
        """
        if not self.archived:
            yield None
            return
        with self.program("the archive job", [sys.executable, "-m", "fraud.cli", "archive"], "archive") as job:
            port = self.settings.archive_ui_port
            while not jobs.is_at_work(self.settings, ARCHIVE, port, _now_ms()):
                job.check()
                if time.monotonic() - job.started > AT_WORK_SECONDS:
                    raise ServiceError(f"{job.name} isn't at work after {AT_WORK_SECONDS} s; see {job.log}")
                time.sleep(POLL_SECONDS)
            yield job

    @contextmanager
    def program(self, name: str, command: Sequence[str], log_name: str, folder: Path | None = None) -> Iterator[Job]:
        """Run a program with this rig's settings, in `folder`, for as long as the block lasts."""
        log = self.settings.logs / f"{log_name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        mark = processes.Mark(OWNER, self.settings.home.absolute())
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                # The mark lets the next run's stack end it, should this one be killed.
                env={**os.environ, **self.settings.environment(), processes.VARIABLE: str(mark)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Job(name, process, time.monotonic(), log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def prepared(settings: Settings, messages: int, users: int, say: Say, *, archived: bool = False) -> Iterator[Rig]:
    """Start a broker in `settings`' home, bench/, and simulate a past, a model and `messages` to come.

    With `archived` an S3 server for the lake stands beside the broker.

    The rows lie in the past by the broker's clock, so the job runs without its age limit. What was measured
    is left in bench/logs; data are removed at the end.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before XGBoost is imported, as `train` does

    from fraud.training import labelled_rows, train
    from producer.simulate import Config, generate

    home = (settings.home / "bench").absolute()
    settings.make_home()
    home.mkdir(exist_ok=True)
    ports = free_ports(3)
    own = settings.model_copy(
        update={
            "home": home,
            "kafka_bootstrap": f"127.0.0.1:{ports[0]}",
            "s3_endpoint": f"http://127.0.0.1:{ports[1]}",
            "lake_uri": LAKE,
            "archive_ui_port": ports[2],
            "store_url": "lmdb:",
            "spark_ui_port": 0,
            "max_age_days": None,
            "store_map_mb": max(settings.store_map_mb, MAP_MB),
        }
    )
    if not own.cache.exists():
        settings.cache.mkdir(parents=True, exist_ok=True)
        own.cache.symlink_to(settings.cache.absolute())
    days = PAST_DAYS + math.ceil(messages / (users * PER_DAY) * 1.05)
    say(f"simulating {users:,} users over {days} days")
    made = generate(
        Config(
            start=FIRST_DAY, days=days, users=users, merchants=max(200, users // USERS_PER_MERCHANT), per_day=PER_DAY
        )
    )
    classes.ensure(own, say)  # as `up` does
    until = FIRST_DAY + timedelta(days=PAST_DAYS)
    past = made.transactions.filter(pl.col("timestamp") < until)
    say("training the model that scores")
    bundle = train(labelled_rows(past, made.labels, until)).bundle
    rows = made.transactions.filter(pl.col("timestamp") >= until)
    stack = Stack(own, OWNER, partial(_servers, archived=archived))
    shutil.rmtree(own.data, ignore_errors=True)
    try:
        with running(stack, say):
            until_ms = round(until.timestamp() * 1000)
            known = backfill.Past(made.transactions, made.labels, until=until_ms)
            rig = Rig(own, bundle, known, rows, archived=archived)
            try:
                yield rig
            finally:
                rig.close()
    finally:
        shutil.rmtree(own.data, ignore_errors=True)


def _servers(settings: Settings, sockets: Path, *, archived: bool) -> list[Program]:
    return [kafka.program(settings), *([seaweed.program(settings, sockets)] if archived else [])]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
