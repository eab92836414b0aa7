"""Predictions as they are published: which version decided which offset, and when."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fraud import bus
from fraud.features import FEATURE_NAMES
from fraud.settings import Settings
from tests import servers
from tests.spark_jobs.traffic import Source

_number: Any = float | None
_FEATURES: Any = msgspec.defstruct("Features", [(name, _number) for name in FEATURE_NAMES])


class _Source(msgspec.Struct):
    partition: int
    offset: int


class Said(msgspec.Struct):
    """What of a prediction is looked at."""

    fraud_probability: float
    prediction: int
    decision: str
    threshold: float
    model_name: str
    model_version: str
    features: _FEATURES
    source: _Source


_DECODER = msgspec.json.Decoder(Said)


@dataclass(frozen=True)
class Published:
    """A prediction and the broker's time of it, ms since the epoch."""

    said: Said
    value: bytes
    at: int


class Tail:
    """Reads `fraud_predictions` from its beginning, as far as it is asked to."""

    def __init__(self, settings: Settings) -> None:
        from kafka import TopicPartition

        self._consumer: Any = bus.consumer(settings.kafka_bootstrap, max_poll_records=5_000, check_crcs=False)
        count = bus.partitions(settings.kafka_bootstrap, bus.PREDICTIONS)
        parts = [TopicPartition(bus.PREDICTIONS, number) for number in range(count)]
        self._consumer.assign(parts)
        self._consumer.seek_to_beginning(*parts)
        self.by_source: dict[Source, Published] = {}
        self.repeats = 0
        self.changed: list[Source] = []  # a repeat had other bytes
        self.seen: dict[str, Counter[int]] = defaultdict(Counter)  # version -> partition -> predictions
        self.first_at: dict[str, int] = {}  # version -> the broker's time of its first prediction

    def __enter__(self) -> "Tail":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def until(self, what: str, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Read until `done` says so; fail with `what` after `seconds`."""

        def step() -> bool:
            self._read()
            return done()

        servers.wait_for(what, step, seconds, every=0.0)

    def versions(self, partition: int) -> list[str]:
        """Return the versions that decided a partition's messages, in the order of their offsets."""
        offsets = sorted(source.offset for source in self.by_source if source.partition == partition)
        decided = (self.by_source[Source(partition, offset)].said.model_version for offset in offsets)
        return [version for version, _ in groupby(decided)]

    def of(self, version: str) -> list[Said]:
        """Return a version's predictions."""
        return [each.said for each in self.by_source.values() if each.said.model_version == version]

    def _read(self) -> None:
        for records in self._consumer.poll(timeout_ms=100).values():
            for record in records:
                self._take(record.value, record.timestamp)

    def _take(self, value: bytes, at: int) -> None:
        said = _DECODER.decode(value)
        source = Source(said.source.partition, said.source.offset)
        before = self.by_source.get(source)
        if before is not None:
            self.repeats += 1
            if before.value != value:
                self.changed.append(source)
            return
        self.by_source[source] = Published(said, value, at)
        self.seen[said.model_version][source.partition] += 1
        self.first_at[said.model_version] = min(at, self.first_at.get(said.model_version, at))


def matrix_of(said: list[Said]) -> npt.NDArray[np.float64]:
    """Return the features of predictions as the model reads them, shape (n, features), null is NaN."""
    rows = [msgspec.structs.astuple(each.features) for each in said]
    return np.array(rows, np.float64).reshape(-1, len(FEATURE_NAMES))
