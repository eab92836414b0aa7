"""Waiting until the lake holds what the topics hold now; nothing of Spark is needed for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fraud import bus
from fraud.errors import ServiceError, StateError
from fraud.lake import open_lake
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.leases import ARCHIVE
from fraud.times import format_time
from spark_jobs import archive_ends
from spark_jobs.archive_ends import Reached

POLL_SECONDS = 0.25
QUARTER_MS = 900_000


@dataclass(frozen=True)
class Waited:
    """What the topics held at the beginning is archived."""

    reached: Reached
    seconds: float

    def report(self) -> dict[str, Any]:
        """Return it for JSON."""
        through = self.reached.profile_through
        return {
            "ends": self.reached.ends,
            "profile_through": None if through is None else format_time(through * QUARTER_MS),
            "batch": self.reached.batch,
            "seconds": round(self.seconds, 3),
        }


def wait(settings: Settings, timeout: float, say: Callable[[str], None]) -> Waited:
    """Return when everything that the four topics hold now is in the lake, and profiles know of it.

    Raises:
        StateError: nothing was ever archived and no archive job runs, or `timeout` seconds have passed.
        ServiceError: Kafka or S3 is away.
    """
    began = time.monotonic()
    lake = open_lake(settings)
    bootstrap = settings.kafka_bootstrap
    names = [topic.name for topic in bus.topics(settings)]
    ids = {topic: bus.topic_id(bootstrap, topic) for topic in names}
    begins = {topic: bus.begin_offsets(bootstrap, topic) for topic in names}
    ends = {
        topic: {part: end for part, end in bus.end_offsets(bootstrap, topic).items() if end > begins[topic][part]}
        for topic in names
    }
    if archive_ends.read(lake) is None and not _runs(settings):
        raise StateError(
            f"the lake {lake.place.uri} holds nothing that an archive job wrote, and none runs: `fraud-detect up` "
            "starts it, so does `fraud-detect archive`"
        )
    said = ""
    while True:
        reached = archive_ends.read(lake)
        behind = None if reached is None else reached.behind(ids, ends)
        if reached is not None and not behind:
            return Waited(reached, time.monotonic() - began)
        told = "its first batch" if behind is None else ", ".join(f"{n:,} of {topic}" for topic, n in behind.items())
        if time.monotonic() - began > timeout:
            running = "it runs" if _runs(settings) else "no archive job runs: `fraud-detect up` starts it"
            raise StateError(f"not archived within {timeout:.0f} s: {told}; {running}. Its log archive.log says why")
        if told != said:
            say(f"waiting for {told}")
            said = told
        time.sleep(POLL_SECONDS)


def _runs(settings: Settings) -> bool:
    """Tell whether a living process holds the lease."""
    from fraud.stack.stored import is_held

    try:
        store = open_store(settings)
    except ServiceError:
        return False
    try:
        held = store.histories.leases().get(ARCHIVE)
    finally:
        store.close()
    return held is not None and is_held(held, time.time_ns() // 1_000_000)
