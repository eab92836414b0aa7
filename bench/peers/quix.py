"""quixstreams with its RocksDB state and changelog: at-least-once, acks=all, a checkpoint every second.

One process per core in one consumer group. A user's state is his packed history, as bytes, which spares it
the JSON of `state.set`. Where there is none yet, the past is taken from the platform's store, once. The
model reads one row at a time, so it is an ONNX model (`bench.peers.onnx_model`).
"""

import subprocess
import sys
import time
from typing import Any

from quixstreams import Application, message_context

from bench.peers.prepared import one_row
from bench.peers.program import Options, options, run
from fraud import bus
from fraud.schema import Source
from fraud.store import open_store

CHECKPOINT_SECONDS = 1.0
STATE_KEY = b"h"


def work(told: Options, _number: int) -> None:
    """Run one member of the group until SIGTERM."""
    app = Application(
        broker_address=told.settings.kafka_bootstrap,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        commit_interval=CHECKPOINT_SECONDS,
        processing_guarantee="at-least-once",
        use_changelog_topics=True,
        state_dir=told.home / "state",
        producer_extra_config={"acks": "all", "message.max.bytes": bus.LARGEST_MESSAGE},
    )
    store = open_store(told.settings)
    read, scorer = store.histories.read, one_row(store, told.home)
    transactions = app.topic(bus.TRANSACTIONS, value_deserializer="bytes", key_deserializer="bytes")
    predictions = app.topic(bus.PREDICTIONS, value_serializer="bytes", key_serializer="bytes")

    def score(value: bytes, key: bytes, timestamp: int, _headers: Any, state: Any) -> bytes:
        at = message_context()
        packed = state.get_bytes(STATE_KEY)
        if packed is None:
            packed = read(at.partition, [key.decode()])[0]
        prediction, changed = scorer.score(
            value,
            key,
            packed,
            Source(bus.TRANSACTIONS, at.partition, at.offset),
            broker_ms=timestamp,
            now_ms=time.time_ns() // 1_000_000,
        )
        state.set_bytes(STATE_KEY, changed)
        return prediction

    app.dataframe(transactions).apply(score, stateful=True, metadata=True).to_topic(predictions)
    try:
        app.run()
    finally:
        store.close()


def main() -> int:
    """Convert the model, then run the group's members until SIGTERM."""
    told = options("Score `transactions` with quixstreams: RocksDB state, changelog, a checkpoint every second.")
    told.home.mkdir(parents=True, exist_ok=True)
    convert = [sys.executable, "-m", "bench.peers.onnx_model", *sys.argv[1:]]
    if subprocess.run(convert, check=False).returncode:  # noqa: S603
        return 1
    return run(work, told)


if __name__ == "__main__":
    sys.exit(main())
