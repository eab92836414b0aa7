"""A training set's files: each is named by the hash of its bytes, so that other rows never take its place."""

import hashlib
from io import BytesIO

import polars as pl

from fraud.dataset import manifest as manifests
from fraud.dataset.manifest import Manifest, Part
from fraud.errors import DataError
from fraud.lake import Lake, reading

_AT_ONCE = 8 * 1024 * 1024  # bytes


def write(lake: Lake, folder: str, rows: pl.DataFrame) -> Part:
    """Write rows into a file of the folder."""
    raw = BytesIO()
    rows.write_parquet(raw)
    with raw.getbuffer() as content:
        digest = hashlib.sha256(content).hexdigest()
        part = Part(f"part-{digest[:16]}.parquet", len(rows), len(content), digest)
        manifests.put(lake, f"{folder}/{part.name}", content)
    return part


def read(lake: Lake, folder: str, known: Manifest, part: Part, columns: list[str] | None = None) -> pl.DataFrame:
    """Return a file's rows.

    Raises:
        DataError: it is missing, cut short or not what was built. ServiceError: S3 is away.
    """
    try:
        raw = lake.place.read(f"{folder}/{part.name}")
    except DataError as exc:
        raise _unfit(lake, folder, known, f"{part.name} can't be read") from exc
    if len(raw) != part.size:
        raise _unfit(lake, folder, known, f"{part.name} has {len(raw)} bytes of {part.size}")
    if hashlib.sha256(raw).hexdigest() != part.sha256:
        raise _unfit(lake, folder, known, f"{part.name} hasn't the hash {part.sha256} of what was built")
    return pl.read_parquet(BytesIO(raw), columns=columns)


def wrong(lake: Lake, folder: str, parts: tuple[Part, ...]) -> str | None:
    """Say what is wrong with the first file that isn't what was built, None where all are; ServiceError: S3 is away."""
    sizes = lake.place.sizes(folder)
    for part in parts:
        found = sizes.get(part.name)
        if found is None:
            return f"{part.name} is missing"
        if found != part.size:
            return f"{part.name} has {found} bytes of {part.size}"
    for part in parts:
        if _hash(lake, f"{folder}/{part.name}") != part.sha256:
            return f"{part.name} hasn't the hash {part.sha256} of what was built"
    return None


def _hash(lake: Lake, path: str) -> str:
    digest = hashlib.sha256()
    with (
        reading(f"the lake's file {lake.place.uri}/{path}"),
        lake.place.files.open_input_stream(f"{lake.place.root}/{path}") as file,
    ):
        while piece := file.read(_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def _unfit(lake: Lake, folder: str, known: Manifest, what: str) -> DataError:
    return DataError(f"{lake.place.uri}/{folder}: {what}; `{known.command}` builds the training set again from its cut")
