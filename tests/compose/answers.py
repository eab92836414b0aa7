"""What the stream answered, read from the published port."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fraud import bus

ANSWERS = (bus.PREDICTIONS, bus.DLQ)
Place = tuple[int, int]  # partition and offset in `transactions`


@dataclass
class Answers:
    """Answers by the offset that they answer; an answer that was published again is kept once per content."""

    found: dict[Place, set[bytes]] = field(default_factory=dict)
    repeats: int = 0

    def missing(self, wanted: set[Place]) -> set[Place]:
        """Return what has no answer."""
        return wanted - set(self.found)

    def versions(self) -> set[str]:
        """Return the model versions that decided."""
        values = (json.loads(next(iter(each))) for each in self.found.values())
        return {str(value["model_version"]) for value in values if "model_version" in value}

    def contradictions(self) -> list[Place]:
        """Return the offsets that were answered twice, differently."""
        return [place for place, values in self.found.items() if len(values) > 1]


def places(offsets: Mapping[str, list[int]]) -> set[Place]:
    """Return every offset of the ranges that `produce --json` tells."""
    return {(int(part), at) for part, (begin, end) in offsets.items() for at in range(begin, end)}


def ends(bootstrap: str) -> dict[tuple[str, int], int]:
    """Return where the topics of answers end now."""
    return {(topic, part): end for topic in ANSWERS for part, end in bus.end_offsets(bootstrap, topic).items()}


def read(bootstrap: str, since: Mapping[tuple[str, int], int], wanted: set[Place], seconds: float) -> Answers:
    """Read on from `since` until every wanted offset has an answer, or `seconds` have passed."""
    from kafka import TopicPartition

    answers = Answers()
    deadline = time.monotonic() + seconds
    with bus.consumer(bootstrap) as client:
        client.assign([TopicPartition(topic, part) for topic, part in since])
        for (topic, part), offset in since.items():
            client.seek(TopicPartition(topic, part), offset)
        while time.monotonic() < deadline and answers.missing(wanted):
            for records in client.poll(timeout_ms=500).values():
                for record in records:
                    _keep(answers, record.value)
    return answers


def _keep(answers: Answers, value: bytes) -> None:
    source: dict[str, Any] = json.loads(value)["source"]
    if source["topic"] != bus.TRANSACTIONS:  # the archive job refuses labels there too
        return
    place = source["partition"], source["offset"]
    known = answers.found.setdefault(place, set())
    answers.repeats += bool(known)
    known.add(value)
