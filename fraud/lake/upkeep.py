"""The lake's upkeep: small files become one, and files go that no version in use refers to."""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from deltalake import DeltaTable

from fraud.errors import DataError
from fraud.lake.place import Place
from fraud.times import parse_time

GRACE = timedelta(days=1)
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Upkept:
    """What was done to a table."""

    compacted: int  # small files that were written into larger ones
    removed: int  # files that are gone
    version: int  # the newest one now
    kept_versions: int  # of training sets' cuts

    def words(self) -> str:
        """Return it in words."""
        return f"{self.compacted} files compacted, {self.removed} removed, {self.kept_versions} versions kept for cuts"


def compact(delta: DeltaTable) -> int:
    """Write each day's small files into one; return how many were replaced."""
    return int(delta.optimize.compact()["numFilesRemoved"])


def maintain(place: Place, delta: DeltaTable, name: str, kept: list[int], grace: timedelta) -> Upkept:
    """Compact, write a checkpoint of the log, and remove what nobody refers to."""
    replaced = compact(delta)
    delta.create_checkpoint()
    there = place.sizes(name)
    listed = delta.vacuum(
        retention_hours=round(grace.total_seconds() / 3600),
        dry_run=False,
        enforce_retention_duration=False,  # delta-rs's own least is a week; the cuts' versions are named instead
        full=True,  # also what a writer left that was killed before its commit
        keep_versions=kept or None,
    )  # it lists those too that went before
    return Upkept(replaced, sum(path in there for path in listed), int(delta.version()), len(kept))


def versions_in_use(place: Place, folder: str, since: datetime) -> dict[str, set[int]]:
    """Return each table's versions that are named by the cut of a training set made at `since` or later.

    Raises:
        DataError: a manifest can't be read.
    """
    found: dict[str, set[int]] = defaultdict(set)
    oldest = since.timestamp() * 1000
    for path in sorted(place.sizes(folder)):
        if path.rpartition("/")[2] != MANIFEST:
            continue
        try:
            manifest = json.loads(place.read(f"{folder}/{path}"))
            if parse_time(manifest["created_at"]) < oldest:
                continue
            for table, version in manifest["cut"].items():
                found[table].add(int(version))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DataError(
                f"{place.uri}/{folder}/{path} is no manifest ({exc!r}), so it isn't known which files it needs; "
                "remove its folder if it is of no use, and run this again"
            ) from exc
    return found
