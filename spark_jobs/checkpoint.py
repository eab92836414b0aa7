"""Reading Spark's checkpoint: up to where everything was certainly published.

Asynchronous progress tracking (Spark 4.2, `AsyncProgressTrackingMicroBatchExecution`) writes only some
batches to the two logs, about one a second. `offsets/N` holds the *end* of batch N and is written when N
starts; `commits/N` is written when N has ended, for exactly those N whose offsets were written, and for the
first batch of a run. One thread writes both, in the order in which they were submitted.

A restart looks at the newest `offsets/L` (`MicroBatchExecution.populateStartOffsets`). If the newest commit
is L, it resumes at `offsets/L`; else it runs everything after `offsets/P` again, P being the newest entry
before L. So the newest N that is in **both** logs is never above the point from which a restart resumes:
N = L resumes exactly there, and N < L means N <= P. It never falls either, now or later: the next restart
point is this one or a later entry. And whatever lies below `offsets/N` was published, for N was committed
after its sink's `flush`, under acks=all. That is the mark.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from fraud.errors import StateError


def is_used(checkpoint: Path) -> bool:
    """Say whether a query has ever started here: it planned a batch or recorded its first offsets."""
    return any(_batches(checkpoint / "offsets")) or any((checkpoint / "sources").glob("*/[0-9]*"))


def published(checkpoint: Path, topic: str) -> dict[int, int]:
    """Return per partition the offset below which everything was published, empty before the first commit.

    Raises:
        StateError: the checkpoint is another query's, or was written in a form that this version can't read.
    """
    planned = set(_batches(checkpoint / "offsets"))
    # Newest first; Spark purges old entries meanwhile, and a vanished file only means: look again.
    for batch in sorted(planned.intersection(_batches(checkpoint / "commits")), reverse=True):
        path = checkpoint / "offsets" / str(batch)
        try:
            text = path.read_text()
        except FileNotFoundError:
            continue
        return parse_offsets(text, topic, str(path))
    return {}


def parse_offsets(text: str, topic: str, where: str = "the checkpoint") -> dict[int, int]:
    """Return one entry of Spark's offset log (`OffsetSeqLog`, version 1) as partition -> next offset.

    >>> parse_offsets('v1\\n{"batchWatermarkMs":0}\\n{"transactions":{"1":7,"0":5}}', "transactions")
    {0: 5, 1: 7}
    """
    lines = text.splitlines()
    if len(lines) != 3 or lines[0] != "v1":
        raise StateError(
            f"{where} isn't an offset log of version 1 with one source: another Spark wrote it. "
            "Make the store and its checkpoint anew with `fraud-detect rebuild`"
        )
    try:
        offsets = json.loads(lines[2])[topic]
        return {int(partition): int(offset) for partition, offset in sorted(offsets.items())}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StateError(f"{where} holds no offsets of the topic {topic!r}: {lines[2][:200]}") from exc


def _batches(log: Path) -> Iterator[int]:
    """Yield the batches in a log; checksums and unfinished writes have other names."""
    if not log.is_dir():
        return
    for path in log.iterdir():
        if path.name.isdecimal():
            yield int(path.name)
