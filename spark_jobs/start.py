"""Where a start begins, decided before Spark runs (design.md, section 4).

The store holds the positions (the next offset to decide) and the marks (below them everything was
published); the checkpoint holds where Spark resumes; the broker holds what is readable. A start happens
only where the three continue each other: scoring on a past that isn't there would be wrong without a sign.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fraud.errors import GapError, StateError
from fraud.store.base import PartitionKey

From = Literal["earliest", "latest"]
Offsets = Mapping[int, int]

START_OVER = "make the store anew with `fraud-detect rebuild`"


@dataclass(frozen=True)
class Topic:
    """One incarnation of a topic and what it holds: first readable and next offset per partition."""

    name: str
    id: str
    begin: Offsets
    end: Offsets


@dataclass(frozen=True)
class Remembered:
    """What the store and the checkpoint remember; `resume` is None where no query ever started."""

    positions: Mapping[PartitionKey, int]
    marks: Mapping[PartitionKey, int]
    resume: Offsets | None


@dataclass(frozen=True)
class Start:
    """`offsets`: what Spark is told; `first`: the positions to store beforehand, None where they exist."""

    offsets: dict[int, int]
    first: dict[PartitionKey, int] | None


def decide(topic: Topic, remembered: Remembered, choice: From | None) -> Start:
    """Return where to start.

    Args:
        choice: `--from`, only possible for a first start (default: earliest).

    Raises:
        StateError: the topic is another one or was expanded, or checkpoint and store don't belong together.
        GapError: the topic doesn't hold what the store or the checkpoint continues with.
    """
    if not remembered.positions:
        return _first(topic, remembered, choice)
    if choice is not None:
        raise StateError(
            f"--from {choice} is for a first start, but the store has positions in {topic.name} already: "
            f"leave it out to go on there, or empty the store: `fraud-detect backfill DIR --wipe`"
        )
    positions = _same_partitions(topic, remembered.positions)
    marks = {key.partition: mark for key, mark in remembered.marks.items() if key.topic_id == topic.id}
    # Without a checkpoint: the mark, or the first readable offset if what lies between is decided and expired.
    begins = {p: min(topic.begin[p], at) for p, at in positions.items()}
    resume = {p: max(marks.get(p, at), begins[p]) for p, at in positions.items()}
    resume.update(remembered.resume or {})
    for partition, position in positions.items():
        _continues(topic, partition, position, resume[partition])
    return Start(offsets=resume, first=None)


def _first(topic: Topic, remembered: Remembered, choice: From | None) -> Start:
    """Resolve the starting offsets once; they become the first positions."""
    if remembered.resume is not None:
        raise StateError(
            "the checkpoint knows how far the stream got, but the online store is empty: it was deleted or "
            f"is another one. Histories would begin in the middle; {START_OVER}"
        )
    offsets = dict(topic.end if choice == "latest" else topic.begin)
    return Start(offsets, {PartitionKey(topic.id, p): offset for p, offset in offsets.items()})


def _same_partitions(topic: Topic, positions: Mapping[PartitionKey, int]) -> dict[int, int]:
    """Return partition -> position, if the store's partitions are the topic's."""
    ours = {key.partition: position for key, position in positions.items() if key.topic_id == topic.id}
    if not ours:
        known = ", ".join(sorted({key.topic_id for key in positions}))
        raise StateError(
            f"the topic {topic.name} was recreated: it has the id {topic.id}, the store continues {known}. "
            f"Its histories belong to the former one; {START_OVER}"
        )
    if set(ours) != set(topic.end):
        raise StateError(
            f"the topic {topic.name} has {len(topic.end)} partitions, the store's histories lie in {len(ours)}: "
            f"a user's next transaction would come from another partition. To keep the new count, {START_OVER}"
        )
    return ours


def _continues(topic: Topic, partition: int, position: int, resume: int) -> None:
    """Refuse where topic, checkpoint and store don't overlap; offsets are of one partition."""
    where = f"{topic.name}, partition {partition}"
    begin, end = topic.begin[partition], topic.end[partition]
    if position > end:
        raise GapError(
            f"{where} ends at offset {end}, but the store has decided up to {position}: the topic was emptied or "
            f"an older copy of the broker runs; {START_OVER}"
        )
    if resume > position:
        raise GapError(
            f"{where}: the checkpoint resumes at offset {resume}, the store has decided up to {position} only: "
            f"it is an older copy; {START_OVER}"
        )
    if resume < begin <= position:
        raise GapError(
            f"{where} begins at offset {begin}, the checkpoint resumes at {resume}: what lies between has expired, "
            "but was decided. Move the checkpoint away, and the job starts at the first readable transaction"
        )
    if resume < begin:
        raise GapError(
            f"{where} begins at offset {begin}, the stream must go on at {resume}: transactions expired "
            f"before they were scored; {START_OVER}"
        )


def watch(topic: Topic, id_now: str | None, partitions_now: int) -> None:
    """Compare the running query's topic with what the broker says now; `id_now` is None if it is gone.

    Raises:
        StateError: it was deleted, recreated or expanded under the running query.
    """
    if id_now != topic.id:
        was = "deleted" if id_now is None else f"recreated (its id is {id_now} now)"
        raise StateError(f"the topic {topic.name} was {was} under the running job; {START_OVER}")
    if partitions_now != len(topic.end):
        raise StateError(
            f"the topic {topic.name} went from {len(topic.end)} to {partitions_now} partitions under the running "
            f"job, and users changed partition with it; {START_OVER}"
        )
