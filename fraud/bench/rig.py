"""What a benchmark of the stream stands on: a broker of its own, a loaded store with a model, and jobs."""

import contextlib
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
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import psutil

from fraud import backfill
from fraud.bench import topics
from fraud.bench.processes import tree
from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.stack import kafka, processes
from fraud.stack.ports import free_ports
from fraud.stack.supervisor import Stack, running
from fraud.store import open_store
from fraud.store.base import Pointer

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from fraud.bench.load import Message
    from fraud.model import Bundle

OWNER = "bench"
STOP_SECONDS = 30
PAST_DAYS = 30
PER_DAY = 2.0  # transactions of a user; after 30 days a history holds 60 entries in the median
USERS_PER_MERCHANT = 7
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A running program that scores: our job, or a peer."""

    name: str
    process: "subprocess.Popen[bytes]"
    started: float  # time.monotonic()
    log: Path

    @property
    def pid(self) -> int:
        """The driver's."""
        return self.process.pid

    def kill(self, *, only_driver: bool = False) -> list[psutil.Process]:
        """kill -9 the driver with its children (JVM, Python workers), or alone; return all of them.

        The driver goes first, so that it starts nothing in their place.
        """
        found = tree([self.pid])
        for process in found[:1] if only_driver else found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        return found

    def check(self) -> None:
        """Raise ServiceError if it has ended."""
        if self.process.poll() is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServiceError(f"{self.name} ended ({self.process.returncode}): {' '.join(last)} (see {self.log})")


@dataclass(frozen=True)
class Rig:
    """A broker with the platform's topics, and what every run begins with.

    Attributes:
        past: what the store begins with.
        rows: transactions that are streamed, in arrival order.
    """

    settings: Settings
    bundle: "Bundle"
    past: backfill.Past
    rows: pl.DataFrame
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
        """Yield `count` prepared messages.

        Raises:
            ServiceError: the simulation has fewer.
        """
        from fraud.codec import encode
        from producer.replay import transactions

        if count > len(self.rows):
            raise ServiceError(f"{count:,} messages are needed, the simulation has {len(self.rows):,}")
        for transaction in transactions(self.rows.head(count)):
            yield transaction.user_id.encode(), encode(transaction)

    def reset(self) -> None:
        """Empty topics, checkpoint and store; load the past and the model."""
        topics.recreate(self.settings)
        for path in (self.settings.checkpoint, self.settings.data / "store"):
            shutil.rmtree(path, ignore_errors=True)
        store = open_store(self.settings)
        try:
            backfill.load(self.past, store, partitions=self.settings.topic_partitions, clock=_now_ms)
            raw = self.bundle.to_bytes()
            pointer = Pointer(1, hashlib.sha256(raw).hexdigest(), "fraud-detector", "1", _now_ms())
            store.serving.publish(raw, pointer, expected_sequence=0)
        finally:
            store.close()

    def job(self, profile: str) -> AbstractContextManager[Job]:
        """Run a score job for as long as the block lasts."""
        command = [sys.executable, "-m", "fraud.cli", "score", "--no-watch", "--profile", profile]
        return self.program("the score job", command, f"score-{profile}")

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
def prepared(settings: Settings, messages: int, users: int, say: Say) -> Iterator[Rig]:
    """Start a broker in `settings`' home, bench/, and simulate a past, a model and `messages` to come.

    The rows lie in the past by the broker's clock, so the job runs without its age limit. What was measured
    is left in bench/logs; data are removed at the end.
    """
    from fraud.training import labelled_rows, train
    from producer.simulate import Config, generate

    home = (settings.home / "bench").absolute()
    settings.make_home()
    home.mkdir(exist_ok=True)
    own = settings.model_copy(
        update={
            "home": home,
            "kafka_bootstrap": f"127.0.0.1:{free_ports(1)[0]}",
            "store_url": "lmdb:",
            "spark_ui_port": 0,
            "max_age_days": None,
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
    until = FIRST_DAY + timedelta(days=PAST_DAYS)
    past = made.transactions.filter(pl.col("timestamp") < until)
    say("training the model that scores")
    bundle = train(labelled_rows(past, made.labels, until)).bundle
    rows = made.transactions.filter(pl.col("timestamp") >= until)
    stack = Stack(own, OWNER, lambda its, _: [kafka.program(its)])
    shutil.rmtree(own.data, ignore_errors=True)
    try:
        with running(stack, say):
            until_ms = round(until.timestamp() * 1000)
            rig = Rig(own, bundle, backfill.Past(made.transactions, made.labels, until=until_ms), rows)
            try:
                yield rig
            finally:
                rig.close()
    finally:
        shutil.rmtree(own.data, ignore_errors=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
