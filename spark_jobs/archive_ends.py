"""How far the archive job is, as a file in the lake: what it continues, and what `archive --wait` waits for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tenacity

from fraud.errors import DataError
from fraud.lake import ARCHIVE, Lake
from fraud.lake.faults import reading

NAME = "ends.json"
Ends = dict[str, dict[int, int]]  # topic → partition → next offset


@dataclass(frozen=True)
class Reached:
    """What the lake's tables hold, and the profiles know.

    Attributes:
        query, batch: the last batch; -1 before the first.
        at: when, ms since the epoch.
        ids: topic → its id.
        ends: below these offsets everything is archived.
        profile_through: the newest transaction quarter that the profiles know.
        queries: every query that ever wrote, in their order: a new checkpoint begins a new one.
    """

    query: str
    batch: int
    at: int
    ids: dict[str, str]
    ends: Ends
    profile_through: int | None
    queries: list[str]

    def behind(self, ids: Mapping[str, str], ends: Mapping[str, Mapping[int, int]]) -> dict[str, int]:
        """Return topic → how many offsets before `ends` aren't archived, of topics with these ids; 0 is left out."""
        waiting = {
            topic: sum(
                max(0, end - (self.ends.get(topic, {}).get(part, 0) if self.ids.get(topic) == ids[topic] else 0))
                for part, end in parts.items()
            )
            for topic, parts in ends.items()
        }
        return {topic: count for topic, count in waiting.items() if count}


def write(lake: Lake, reached: Reached) -> None:
    """Write the file, whole or not at all; raises ServiceError where the lake is away."""
    place = lake.place
    path = f"{place.root}/{ARCHIVE}/{NAME}"
    is_folder = place.uri == place.root
    written = f"{path}.new" if is_folder else path  # S3 shows an object when it is whole
    with reading(f"the lake's file {place.uri}/{ARCHIVE}/{NAME}"):
        if is_folder:
            place.files.create_dir(f"{place.root}/{ARCHIVE}")
        with place.files.open_output_stream(written) as file:
            file.write(json.dumps(asdict(reached), separators=(",", ":")).encode())
        if is_folder:
            place.files.move(written, path)


def read(lake: Lake) -> Reached | None:
    """Return what was written last, None before anything.

    Raises:
        DataError: it is something else. ServiceError: the lake is away.
    """
    if NAME not in lake.place.sizes(ARCHIVE):
        return None
    try:
        found = _read(lake)
        found["ends"] = {t: {int(p): int(end) for p, end in parts.items()} for t, parts in found["ends"].items()}
        return Reached(**found)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DataError(
            f"{lake.place.uri}/{ARCHIVE}/{NAME} doesn't say how far the archive job is ({exc!r}): remove it together "
            "with the job's checkpoint, and it goes on after what the lake's tables hold"
        ) from exc


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(ValueError),
    wait=tenacity.wait_fixed(0.1),
    stop=tenacity.stop_after_attempt(10),
    reraise=True,
)
def _read(lake: Lake) -> dict[str, Any]:
    """Read the file; a client that asked S3 for its size before it was replaced gets a part of the next one."""
    found: dict[str, Any] = json.loads(lake.place.read(f"{ARCHIVE}/{NAME}"))
    return found
