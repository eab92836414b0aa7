"""What a job would have said and kept that nothing ever happened to: `score_slice` in this process.

`run` reads `transactions` as it stands and decides it partition by partition into a memory store; `state_of`
reads what a store holds, so that both can be compared byte for byte.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud import backfill, bus
from fraud.decision import Slice, Terms
from fraud.parity.columns import Messages, place
from fraud.parity.topics import read_transactions
from fraud.scoring import score_slice
from fraud.settings import Settings
from fraud.store.base import PartitionKey, Store
from fraud.store.memory import open_memory
from tests import streaming
from tests.spark_jobs.jobs import Answer, Source

DAY_MS = 86_400_000
SLICE = 1_000  # rows; the real job's slices are others, and nothing may depend on them

# What belongs to the run and not to the transaction: its clock and its model.
OF_THE_RUN = frozenset({"scored_at", "rejected_at"})
OF_THE_MODEL = frozenset({"fraud_probability", "prediction", "decision", "threshold", "model_name", "model_version"})


@dataclass(frozen=True)
class State:
    """Positions by partition, and every user's packed history by partition and user."""

    positions: dict[int, int]
    histories: dict[tuple[int, str], bytes]


@dataclass(frozen=True)
class Uninterrupted:
    """`said`: by source, each answer, parsed."""

    said: dict[Source, dict[str, Any]]
    state: State


def run(settings: Settings, past: backfill.Past | None = None) -> Uninterrupted:
    """Decide everything that `transactions` holds now, after loading `past`."""
    messages = read_transactions(settings.kafka_bootstrap)
    store = open_memory()
    partitions = bus.partitions(settings.kafka_bootstrap, bus.TRANSACTIONS)
    now = int(messages.broker_times.max())
    if past is not None:
        backfill.load(past, store, partitions=partitions, clock=lambda: now)
    lease = store.histories.acquire("score", "uninterrupted", host="here", pid=1, now=now, ttl=60_000)
    keys = {number: PartitionKey("uninterrupted", number) for number in range(partitions)}
    store.histories.start(dict.fromkeys(keys.values(), 0), lease)
    days = settings.max_age_days
    terms = Terms(lease.epoch, None if days is None else round(days * DAY_MS))
    model = streaming.model()
    said: dict[Source, dict[str, Any]] = {}
    for key in keys.values():
        for part in _slices(messages, key):
            answers = score_slice(part, store, model, terms, now_ms=now)
            for offset, value in zip(answers.offsets, answers.values, strict=True):
                said[Source(key.partition, int(offset))] = json.loads(value)
    return Uninterrupted(said, state_of(store, partitions))


def differing(
    found: Mapping[Source, Sequence[Answer]], expected: Uninterrupted, *, other_models: bool = False
) -> list[tuple[Source, object, object]]:
    """Return the sources that were answered otherwise, with both answers.

    The clock's time is the run's own; with `other_models` so is what a model says.
    """
    ignored = OF_THE_RUN | (OF_THE_MODEL if other_models else frozenset())

    def essence(said: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if said is None else {name: one for name, one in said.items() if name not in ignored}

    wrong: list[tuple[Source, object, object]] = []
    for source in sorted(found.keys() | expected.said.keys()):
        ours = essence(found[source][0].json() if source in found else None)
        theirs = essence(expected.said.get(source))
        if ours != theirs:
            wrong.append((source, ours, theirs))
    return wrong


def state_of(store: Store, partitions: int) -> State:
    """Return what a store holds of positions and histories."""
    histories = {
        (partition, user): bytes(raw)
        for partition in range(partitions)
        for user, raw in store.histories.users(partition)
    }
    return State({key.partition: at for key, at in store.histories.positions().items()}, histories)


def _slices(messages: Messages, key: PartitionKey) -> list[Slice]:
    places = np.array([place(int(source)) for source in messages.sources], np.int64).reshape(-1, 2)
    rows = np.flatnonzero(places[:, 0] == key.partition)
    return [
        Slice(
            key,
            bus.TRANSACTIONS,
            places[part, 1],
            [messages.keys[row] for row in part],
            [messages.values[row] for row in part],
            messages.broker_times[part],
        )
        for part in (rows[start : start + SLICE] for start in range(0, len(rows), SLICE))
    ]
