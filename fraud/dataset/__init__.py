"""The training set of (T, cut): what was known at T, rebuilt byte for byte whenever it is asked for.

    dataset = build(settings, as_of, timedelta(days=7), say, now=now)
    rows = to_rows(dataset)

A training set lies in the lake under `datasets/T/`. The first build of a T records the cut, each table's Delta
version; every later one reads exactly these versions and must come to the same hash.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO

import msgspec
import polars as pl

from fraud.dataset import manifest as manifests
from fraud.dataset.manifest import Manifest, Part
from fraud.dataset.matrix import matrix_of
from fraud.dataset.rows import Clock, Source, content_hash, hashes
from fraud.errors import ConfigError, DataError
from fraud.features import FEATURE_VERSION
from fraud.lake import DATASETS, Lake, open_lake, reading
from fraud.lake.tables import PROFILE_CHANGES, TRANSACTIONS
from fraud.revision import revision
from fraud.settings import Settings
from fraud.times import format_time, parse_time
from fraud.training import LabelledRows

__all__ = ["Dataset", "Manifest", "build", "load", "to_rows"]

ROWS_AT_ONCE = 1_000_000  # of the transactions whose users are built together: some hundred megabytes
MATURITY = timedelta(days=7)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Dataset:
    """A training set that is there, whole."""

    uri: str
    manifest: Manifest
    lake: Lake

    def part(self, part: Part, columns: list[str] | None = None) -> pl.DataFrame:
        """Return one file's rows; DataError where it is missing or cut short."""
        raw = self.lake.place.read(f"{self.uri.removeprefix(self.lake.place.uri + '/')}/{part.name}")
        if len(raw) != part.size:
            raise DataError(f"{self.uri}/{part.name} has {len(raw)} bytes of {part.size}: build the training set again")
        return pl.read_parquet(BytesIO(raw), columns=columns)


def build(
    settings: Settings,
    as_of: datetime,
    maturity: timedelta = MATURITY,
    say: Say = lambda _words: None,
    *,
    now: datetime,
    again: bool = False,
) -> Dataset:
    """Return the training set as it was known at `as_of`, built unless it is there.

    Args:
        now: when it is made: until `cut_days` later `maintain` keeps what its cut refers to.
        again: build it in any case, and compare with the hash on record.

    Raises:
        ConfigError: `as_of` lies after `now`: what was known then isn't known yet.
        DataError: the lake has no transaction that is old enough; a table is damaged; the maturity or the hash
            isn't the one on record. ServiceError: S3 is away; run it again.
    """
    if as_of > now:
        raise ConfigError(
            f"what is known at {as_of:%Y-%m-%dT%H:%M:%SZ} isn't known yet: it is {now:%Y-%m-%dT%H:%M:%SZ}; "
            "give a moment that has passed"
        )
    lake = open_lake(settings)
    moment = round(as_of.timestamp() * 1000)
    folder = f"{DATASETS}/{format_time(moment).replace(':', '')}"
    made = format_time(round(now.timestamp() * 1000))
    known = _recorded(settings, lake, folder, moment, maturity, made)
    uri = f"{lake.place.uri}/{folder}"
    if known.sha256 is not None and not again:
        say(f"the training set {uri} is there: {known.rows:,} rows")
        return Dataset(uri, known, lake)
    fresh = _fill(lake, folder, known, say)
    if known.sha256 not in (None, fresh.sha256):
        raise DataError(
            f"{uri} was built with the hash {known.sha256}, and the same cut gives {fresh.sha256} now: the lake's "
            "tables or the code that reads them changed. Keep both manifests, and find out which before you train"
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
    if found is None or found.sha256 is None:
        state = "there is no training set at" if found is None else "a build hasn't finished at"
        raise DataError(f"{state} {uri}; make it with `fraud-detect dataset --as-of T`")
    return Dataset(f"{lake.place.uri}/{folder}", found, lake)


def to_rows(dataset: Dataset) -> LabelledRows:
    """Return the rows to train on, in the order of their times."""
    return matrix_of(dataset.manifest, dataset.part)


def _recorded(settings: Settings, lake: Lake, folder: str, moment: int, maturity: timedelta, made: str) -> Manifest:
    """Return the manifest on record, made with the cut of now where there is none."""
    found = manifests.read(lake, folder)
    if found is None:
        cut = lake.cut()
        if TRANSACTIONS.name not in cut or PROFILE_CHANGES.name not in cut:
            raise DataError(
                f"the lake {lake.place.uri} is empty: nothing was archived yet. `fraud-detect up` starts the archive "
                "job, `fraud-detect backfill DIR` loads a past"
            )
        fresh = Manifest(
            as_of=format_time(moment),
            maturity_s=round(maturity.total_seconds()),
            cut=cut,
            feature_version=FEATURE_VERSION,
            created_at=made,
            revision=revision(),
        )
        found = manifests.create(settings, lake, folder, fresh)
    if found.maturity_s != round(maturity.total_seconds()):
        raise DataError(
            f"the training set of {found.as_of} is on record with a maturity of {found.maturity_s / 86_400:g} days, "
            f"not of {maturity}; ask for that one, or for another moment"
        )
    if found.feature_version != FEATURE_VERSION:
        raise DataError(
            f"the training set of {found.as_of} was built with the features {found.feature_version}, this is "
            f"{FEATURE_VERSION}; ask for another moment"
        )
    return found


def _fill(lake: Lake, folder: str, known: Manifest, say: Say) -> Manifest:
    """Write the rows, some users at a time; return the whole manifest."""
    moment = parse_time(known.as_of)
    source = Source(lake, known.cut, Clock(moment, moment - known.maturity_s * 1000))
    users = source.users()
    buckets = users.group_by("bucket").agg(pl.col("transactions").sum()).sort("bucket")
    parts: list[Part] = []
    digests: dict[int, str] = {}
    rows = frauds = rebuilt = 0
    for number, group in enumerate(_groups(buckets)):
        built = source.build(users.filter(pl.col("bucket").is_in(group)))
        digests |= hashes(built.rows)
        parts.append(_write(lake, folder, f"part-{number:04d}.parquet", built.rows))
        rows, rebuilt = rows + len(built.rows), rebuilt + built.rebuilt
        frauds += int(built.rows["is_fraud"].sum())
        say(f"{rows:,} rows, {frauds:,} frauds, {rebuilt:,} with rebuilt features")
    if not rows:
        raise DataError(
            f"no transaction in the lake was {known.maturity_s / 86_400:g} days old at {known.as_of}; give a later "
            "moment, or load a past with `fraud-detect backfill`"
        )
    return msgspec.structs.replace(
        known, rows=rows, frauds=frauds, rebuilt_rows=rebuilt, sha256=content_hash(digests), parts=tuple(parts)
    )


def _groups(buckets: pl.DataFrame) -> list[list[int]]:
    """Put buckets of users together as long as they have few enough transactions."""
    groups: list[list[int]] = []
    held = ROWS_AT_ONCE
    for bucket, transactions in buckets.iter_rows():
        if held + transactions > ROWS_AT_ONCE:
            groups.append([])
            held = 0
        groups[-1].append(bucket)
        held += transactions
    return groups


def _write(lake: Lake, folder: str, name: str, rows: pl.DataFrame) -> Part:
    raw = BytesIO()
    rows.write_parquet(raw)
    content = raw.getvalue()
    with (
        reading(f"the lake's file {lake.place.uri}/{folder}/{name}"),
        lake.place.files.open_output_stream(f"{lake.place.root}/{folder}/{name}") as file,
    ):
        file.write(content)
    return Part(name, len(rows), len(content))
