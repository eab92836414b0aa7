"""The training set of (T, cut): what was known at T, rebuilt byte for byte whenever it is asked for.

    dataset = build(settings, as_of, timedelta(days=7), say, now=now)
    rows = to_rows(dataset)

A training set lies in the lake under `datasets/T/`. The first build of a T records the cut, each table's Delta
version; every later one reads exactly these versions and must come to the same hash.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import polars as pl

from fraud.dataset import manifest as manifests
from fraud.dataset import parts
from fraud.dataset.content import content_hash, hashes
from fraud.dataset.manifest import Manifest, Part
from fraud.dataset.matrix import matrix_of
from fraud.dataset.rows import Clock, Source
from fraud.errors import ConfigError, DataError
from fraud.features import FEATURE_VERSION
from fraud.lake import DATASETS, Lake, open_lake
from fraud.lake.tables import PROFILE_CHANGES, TRANSACTIONS
from fraud.revision import revision
from fraud.settings import Settings
from fraud.times import format_time, parse_time
from fraud.training import MATURITY, LabelledRows

__all__ = ["Dataset", "Manifest", "build", "load", "to_rows"]

ROWS_AT_ONCE = 500_000  # of the transactions whose users are built together: about a gigabyte

Say = Callable[[str], None]


@dataclass(frozen=True)
class Dataset:
    """A training set that is there, whole when it was built; every file is compared with its hash as it is read."""

    uri: str
    manifest: Manifest
    lake: Lake

    def part(self, part: Part, columns: list[str] | None = None) -> pl.DataFrame:
        """Return one file's rows; DataError where it is missing, cut short or another than was built."""
        folder = self.uri.removeprefix(self.lake.place.uri + "/")
        return parts.read(self.lake, folder, self.manifest, part, columns)


def build(
    settings: Settings,
    as_of: datetime,
    maturity: timedelta = MATURITY,
    say: Say = lambda _words: None,
    *,
    now: datetime,
    again: bool = False,
) -> Dataset:
    """Return the training set as it was known at `as_of`: the one that is there, if it is whole, else built.

    Args:
        now: when it is made: until `cut_days` later `maintain` keeps what its cut refers to.
        again: build it in any case, and compare with the hash on record.

    Raises:
        ConfigError: `as_of` lies after `now`: what was known then isn't known yet.
        DataError: the lake has no transaction that is old enough (nothing is recorded then); a table is damaged; the
            maturity or the hash isn't the one on record. ServiceError: S3 is away; run it again.
    """
    if as_of > now:
        raise ConfigError(
            f"what is known at {as_of:%Y-%m-%dT%H:%M:%SZ} isn't known yet: it is {now:%Y-%m-%dT%H:%M:%SZ}; "
            "give a moment that has passed"
        )
    lake = open_lake(settings)
    moment = round(as_of.timestamp() * 1000)
    folder = f"{DATASETS}/{format_time(moment).replace(':', '')}"
    uri = f"{lake.place.uri}/{folder}"
    known = manifests.read(lake, folder)
    if known is None:
        known = manifests.create(settings, lake, folder, _first(lake, moment, maturity, now))
    _compare(known, maturity)
    if known.sha256 is not None and not again:
        wrong = parts.wrong(lake, folder, known.parts)
        if wrong is None:
            say(f"the training set {uri} is there: {known.rows:,} rows")
            return Dataset(uri, known, lake)
        say(f"{uri}: {wrong}; building it again from its cut")
    fresh = _fill(lake, folder, known, say)
    if known.sha256 not in (None, fresh.sha256):
        raise DataError(
            f"{uri} was built with the hash {known.sha256}, and the same cut gives {fresh.sha256} now: the lake's "
            "tables or the code that reads them changed. The manifest and its files are what they were; the new rows "
            f"lie beside them ({', '.join(part.name for part in fresh.parts)}). Find out which, or train on another "
            "moment"
        )
    manifests.replace(lake, folder, fresh)
    return Dataset(uri, fresh, lake)


def load(settings: Settings, uri: str) -> Dataset:
    """Return the training set at an address, as `build` gave it; DataError where there is none, or not yet whole."""
    lake = open_lake(settings)
    folder = uri.rstrip("/").removeprefix(lake.place.uri + "/")
    if not folder.startswith(f"{DATASETS}/"):
        raise DataError(f"{uri} isn't in the lake {lake.place.uri}; `fraud-detect dataset --as-of T` prints addresses")
    found = manifests.read(lake, folder)
    if found is None:
        raise DataError(f"there is no training set at {uri}; make it with `fraud-detect dataset --as-of T`")
    if found.sha256 is None:
        raise DataError(f"a build hasn't finished at {uri}; `{found.command}` goes on with it")
    return Dataset(f"{lake.place.uri}/{folder}", found, lake)


def to_rows(dataset: Dataset) -> LabelledRows:
    """Return the rows to train on, in the order of their times."""
    return matrix_of(dataset.manifest, dataset.part)


def _first(lake: Lake, moment: int, maturity: timedelta, now: datetime) -> Manifest:
    """Return what is recorded first: the cut of now; DataError where it has no row, so that a later try may."""
    cut = lake.cut()
    if TRANSACTIONS.name not in cut or PROFILE_CHANGES.name not in cut:
        raise DataError(
            f"the lake {lake.place.uri} is empty: nothing was archived yet. `fraud-detect up` starts the archive "
            "job, `fraud-detect backfill DIR` loads a past"
        )
    known = Manifest(
        as_of=format_time(moment),
        maturity_s=round(maturity.total_seconds()),
        cut=cut,
        feature_version=FEATURE_VERSION,
        created_at=format_time(round(now.timestamp() * 1000)),
        revision=revision(),
    )
    source = _source(lake, known)
    if not any(source.has_rows(users) for users in source.groups(ROWS_AT_ONCE)):
        raise _too_young(known)
    return known


def _compare(known: Manifest, maturity: timedelta) -> None:
    """Refuse to build what is on record in another way."""
    if known.maturity_s != round(maturity.total_seconds()):
        raise DataError(
            f"the training set of {known.as_of} is on record with a maturity of {known.maturity_s / 86_400:g} days, "
            f"not of {maturity}; ask for that one, or for another moment"
        )
    if known.feature_version != FEATURE_VERSION:
        raise DataError(
            f"the training set of {known.as_of} was built with the features {known.feature_version}, this is "
            f"{FEATURE_VERSION}; ask for another moment"
        )


def _fill(lake: Lake, folder: str, known: Manifest, say: Say) -> Manifest:
    """Write the rows, some users at a time; return the whole manifest."""
    source = _source(lake, known)
    written: list[Part] = []
    digests: dict[int, str] = {}
    rows = frauds = rebuilt = 0
    for users in source.groups(ROWS_AT_ONCE):
        built = source.build(users)
        if not len(built.rows):
            continue
        digests |= hashes(built.rows)
        written.append(parts.write(lake, folder, built.rows))
        rows, rebuilt = rows + len(built.rows), rebuilt + built.rebuilt
        frauds += int(built.rows["is_fraud"].sum())
        say(f"{rows:,} rows, {frauds:,} frauds, {rebuilt:,} with rebuilt features")
    if not rows:
        raise _too_young(known)
    return msgspec.structs.replace(
        known, rows=rows, frauds=frauds, rebuilt_rows=rebuilt, sha256=content_hash(digests), parts=tuple(written)
    )


def _source(lake: Lake, known: Manifest) -> Source:
    moment = parse_time(known.as_of)
    return Source(lake, known.cut, Clock(moment, moment - known.maturity_s * 1000))


def _too_young(known: Manifest) -> DataError:
    return DataError(
        f"no transaction in the lake was {known.maturity_s / 86_400:g} days old at {known.as_of}; give a later "
        "moment, or load a past with `fraud-detect backfill`"
    )
