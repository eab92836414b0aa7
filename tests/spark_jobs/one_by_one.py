"""What the stream must say of each message if everything is done one row at a time, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import bus, codec
from fraud.codec import Refused
from fraud.decision import Model, Slice, Terms
from fraud.model import Scorer
from fraud.parity.columns import Messages, place
from fraud.scoring import Estimate, score_one, score_slice
from fraud.store.base import PartitionKey, Pointer, Store
from fraud.store.memory import open_memory
from tests.models import small_bundle
from tests.spark_jobs.traffic import Source

TOPIC_ID = "one by one"
Said = dict[Source, Estimate | Refused]


@dataclass(frozen=True)
class Walk:
    """The state beside which each message is estimated before it is applied."""

    store: Store
    scorer: Scorer
    model: Model
    terms: Terms

    def step(self, key: bytes | None, value: bytes, at: Source, broker_ms: int) -> Estimate | Refused:
        """Estimate a message from the state as it is, then apply it as a slice of its own."""
        read = codec.decode_transaction(value, key)
        assert not isinstance(read, Refused), f"{value!r} isn't valid: {read}"
        said = score_one(read, self.store, self.scorer, partition=at.partition, digest=codec.digest(value))
        whole = Slice(
            PartitionKey(TOPIC_ID, at.partition),
            bus.TRANSACTIONS,
            np.array([at.offset], np.int64),
            [key],
            [value],
            np.array([broker_ms], np.int64),
        )
        score_slice(whole, self.store, self.model, self.terms, now_ms=broker_ms)
        return said


def estimates(messages: Messages, load: Callable[[Store], object], partitions: int, *, now_ms: int) -> Said:
    """Return what `score_one` says of every message right before it is applied; `load` fills the store first."""
    store = open_memory()
    load(store)
    lease = store.histories.acquire("score", "one by one", host="here", pid=1, now=now_ms, ttl=60_000)
    store.histories.start({PartitionKey(TOPIC_ID, number): 0 for number in range(partitions)}, lease)
    scorer = Scorer(small_bundle(0))
    walk = Walk(
        store, scorer, Model(scorer, Pointer(1, "0" * 64, "fraud-detector", "1", now_ms)), Terms(lease.epoch, None)
    )
    said: Said = {}
    for row, source in enumerate(messages.sources.tolist()):
        at = Source(*place(source))
        said[at] = walk.step(messages.keys[row], messages.values[row] or b"", at, int(messages.broker_times[row]))
    return said


def differing(
    stream: npt.NDArray[np.float64], other: npt.NDArray[np.float64], names: Sequence[str], whole: frozenset[str]
) -> dict[str, int]:
    """Return by feature how many values differ: those of `whole` by anything, the rest beyond 1e-9; null is NaN."""
    slack = np.array([0.0 if name in whole else 1e-9 for name in names])
    near = np.abs(stream - other) <= slack * np.maximum(1.0, np.abs(other))
    differs = ~(near | (np.isnan(stream) & np.isnan(other)))
    return {name: int(count) for name, count in zip(names, differs.sum(axis=0), strict=True) if count}
