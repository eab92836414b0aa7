"""A training set's manifest: what it is made of and the hash of what came of it; made once per moment.

It is written twice: first with the cut, by whoever comes first, and again when the rows are there. A build that
ends in between leaves the cut, and the next one goes on with it.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec

from fraud.errors import DataError
from fraud.lake import Lake
from fraud.lake.faults import reading
from fraud.s3 import s3_client
from fraud.settings import Settings
from fraud.training import MATURITY

NAME = "manifest.json"


class Part(msgspec.Struct, frozen=True):
    """One file of rows; `sha256` is its bytes'."""

    name: str
    rows: int
    size: int  # bytes
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a training set; from `rows` on it is 0, empty or None until the rows are there.

    Attributes:
        as_of, created_at: times as messages have them.
        maturity_s: how old a transaction must be at `as_of`, in seconds.
        cut: table → Delta version: nothing that came to the lake later is in the rows.
        rebuilt_rows: those whose features the offline builder made, for want of a prediction with ours.
        sha256: of the sorted content.
        revision: of the code that first built it.
    """

    as_of: str
    maturity_s: int
    cut: dict[str, int]
    feature_version: str
    created_at: str
    revision: str
    rows: int = 0
    frauds: int = 0
    rebuilt_rows: int = 0
    sha256: str | None = None
    parts: tuple[Part, ...] = ()

    @property
    def command(self) -> str:
        """Return the command that builds this training set."""
        maturity = "" if self.maturity_s == MATURITY.total_seconds() else f" --maturity {self.maturity_s}s"
        return f"fraud-detect dataset --as-of {self.as_of}{maturity}"


def read(lake: Lake, folder: str) -> Manifest | None:
    """Return the manifest in a folder of the lake, None where there is none; DataError if it can't be read."""
    path = f"{folder}/{NAME}"
    if NAME not in lake.place.sizes(folder):
        return None
    try:
        return msgspec.json.decode(lake.place.read(path), type=Manifest)
    except msgspec.MsgspecError as exc:
        raise DataError(
            f"{lake.place.uri}/{path} is no manifest ({exc}); remove the folder, and build the training set again"
        ) from exc


def create(settings: Settings, lake: Lake, folder: str, manifest: Manifest) -> Manifest:
    """Write a manifest unless there is one; return the one that is there now: whoever came first decided."""
    raw, path = _encode(manifest), f"{folder}/{NAME}"
    if lake.place.options:
        bucket, _, key = f"{lake.place.root}/{path}".partition("/")
        _put_if_absent(settings, lake, bucket, key, raw)
    else:
        _link_if_absent(Path(lake.place.root) / path, raw)
    there = read(lake, folder)
    if there is None:
        raise DataError(f"{lake.place.uri}/{path} vanished while it was made; build the training set again")
    return there


def replace(lake: Lake, folder: str, manifest: Manifest) -> None:
    """Write a manifest in the place of the one that is there."""
    put(lake, f"{folder}/{NAME}", _encode(manifest))


def put(lake: Lake, path: str, raw: bytes | memoryview) -> None:
    """Write a file of the lake, whole or not at all: a reader finds what was there before, or all of this."""
    there = f"{lake.place.root}/{path}"
    with reading(f"the lake's file {lake.place.uri}/{path}"):
        if lake.place.options:  # an object is there when its upload ends
            with lake.place.files.open_output_stream(there) as file:
                file.write(raw)
        else:
            _beside(Path(there), raw).replace(there)


def _put_if_absent(settings: Settings, lake: Lake, bucket: str, key: str, raw: bytes) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    from fraud.errors import ServiceError

    try:
        s3_client(settings).put_object(Bucket=bucket, Key=key, Body=raw, IfNoneMatch="*")
    except ClientError as exc:
        if exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (409, 412):
            raise ServiceError(f"{lake.place.uri} refuses {key}: {exc}") from exc
    except BotoCoreError as exc:
        raise ServiceError(f"{lake.place.uri} is away: {exc}") from exc


def _link_if_absent(path: Path, raw: bytes) -> None:
    fresh = _beside(path, raw)
    with suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def _beside(path: Path, raw: bytes | memoryview) -> Path:
    """Write a file under a name that nobody else has; a killed writer leaves one that nobody reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fresh.write_bytes(raw)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def _encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)
