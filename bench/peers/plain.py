"""A plain confluent-kafka consumer around the same kernel: the ceiling, and no system anybody should run.

Histories live in a dictionary and die with the process; a restart would go on from the committed offsets
without what it had seen. There is no lease, no outbox, no checkpoint but the offsets, committed every second
once all predictions are acknowledged. What it leaves out is what the others pay for.

Each process takes its partitions by number, without a group's rebalancing, since no state could follow.
"""

import signal
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from types import FrameType

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from bench.peers.program import Options, options, run
from fraud import bus
from fraud.decision import Decision, Model, Slice, Terms
from fraud.errors import ServiceError, StateError
from fraud.forest import take_over
from fraud.model import Bundle, Scorer
from fraud.store import Store, open_store
from fraud.store.base import Answers, Kind, PartitionKey
from fraud.store.memory import open_memory

CHECKPOINT_SECONDS = 1.0
AT_ONCE = 10_000  # messages
WAIT_SECONDS = 0.05  # for that many
FLUSH_SECONDS = 30.0


_TOPICS = {Kind.PREDICTION: bus.PREDICTIONS, Kind.REJECTION: bus.DLQ}


def work(told: Options, number: int) -> None:
    """Score the partitions number, number + processes, … until SIGTERM."""
    partitions = range(number, told.settings.topic_partitions, told.processes)
    store, model = loaded(told, partitions)
    consumer = Consumer(
        {"bootstrap.servers": told.settings.kafka_bootstrap, "group.id": told.group, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(bus.TRANSACTIONS, partition, 0) for partition in partitions])
    sender = _Sender(told.settings.kafka_bootstrap)
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    ends: dict[int, int] = {}
    due = time.monotonic() + CHECKPOINT_SECONDS
    while not stopping:
        for part in _slices(consumer.consume(AT_ONCE, timeout=WAIT_SECONDS)):
            sender.send(decided(part, store, model))
            ends[part.key.partition] = int(part.offsets[-1]) + 1
        if time.monotonic() >= due:
            _checkpoint(consumer, sender, ends)
            due = time.monotonic() + CHECKPOINT_SECONDS
    _checkpoint(consumer, sender, ends)
    consumer.close()


def loaded(told: Options, partitions: range) -> tuple[Store, Model]:
    """Return a store in memory with the past of these partitions and all profiles, and the model."""
    kept, memory = open_store(told.settings), open_memory()
    try:
        for partition in partitions:
            memory.histories.load(partition, kept.histories.users(partition))
        through, pointer = kept.profiles.through(), kept.serving.pointer()
        if through is not None:
            memory.profiles.load(kept.profiles.merchants(), through)
        if pointer is None:
            raise StateError("the store serves no model")
        bundle = Bundle.from_bytes(kept.serving.bundle(pointer.sha256))
    finally:
        kept.close()
    return memory, Model(Scorer(bundle, take_over), pointer)


def decided(part: Slice, store: Store, model: Model) -> Answers:
    """Decide a slice and keep what it changed, in this process's memory."""
    decision = Decision(part, store, model, Terms(epoch=0, max_age_ms=None), time.time_ns() // 1_000_000)
    answers = decision.decide()
    store.histories.load(part.key.partition, decision.changed.items())
    return answers


def _checkpoint(consumer: Consumer, sender: "_Sender", ends: dict[int, int]) -> None:
    """Wait for every acknowledgement, then commit the offsets and forget them."""
    sender.flush()
    if ends:
        offsets = [TopicPartition(bus.TRANSACTIONS, partition, end) for partition, end in ends.items()]
        consumer.commit(offsets=offsets, asynchronous=False)
        ends.clear()


def _slices(messages: list[Message]) -> Iterator[Slice]:
    """Yield messages as slices, each a partition's in offset order."""
    for message in messages:
        if message.error() is not None:
            raise ServiceError(f"reading {bus.TRANSACTIONS}: {message.error()}")
    for partition, rows in groupby(sorted(messages, key=_partition), _partition):
        part = list(rows)
        yield Slice(
            PartitionKey("", partition),
            bus.TRANSACTIONS,
            np.array([message.offset() for message in part], np.int64),
            [message.key() for message in part],
            [message.value() for message in part],
            np.array([message.timestamp()[1] for message in part], np.int64),
        )


def _partition(message: Message) -> int:
    partition = message.partition()
    return -1 if partition is None else partition


class _Sender:
    """Publishes answers; `flush` returns once all of them are acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
                "message.max.bytes": bus.LARGEST_MESSAGE,
            }
        )
        self.failures: list[str] = []

    def send(self, answers: Answers) -> None:
        produce, poll = self.producer.produce, self.producer.poll
        for kind, key, value in zip(answers.kinds.tolist(), answers.keys, answers.values, strict=True):
            while True:
                try:
                    produce(_TOPICS[kind], value, key, on_delivery=self._acknowledged)
                except BufferError:
                    poll(0.05)
                else:
                    break
        poll(0)

    def flush(self) -> None:
        left = self.producer.flush(FLUSH_SECONDS)
        if left or self.failures:
            failed = left + len(self.failures)
            raise ServiceError(f"Kafka didn't acknowledge {failed} answers: {(self.failures or ['time out'])[0]}")

    def _acknowledged(self, error: object, _message: object) -> None:
        if error is not None:
            self.failures.append(str(error))


def main() -> int:
    """Run the processes until SIGTERM."""
    told = options("Score `transactions` with a plain consumer and state in memory: the ceiling.")
    told.home.mkdir(parents=True, exist_ok=True)
    return run(work, told)


if __name__ == "__main__":
    sys.exit(main())
