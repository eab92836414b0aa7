"""The record of a backfill: what the online store's past was made of, so that `parity` finds it by itself."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from fraud.errors import DataError

Format = Literal["simulated", "handbook"]


class File(msgspec.Struct, frozen=True):
    """A file that was loaded; parity refuses another one in its place."""

    path: str
    size: int
    sha256: str


class Origin(msgspec.Struct, frozen=True):
    """Where a past comes from and how much of it is meant: enough to read the same one again.

    `until` is a time as messages have it, `labels_after` a duration such as 7d (the Handbook's labels).
    """

    path: str
    format: Format = "simulated"
    labels_after: str | None = None
    until: str | None = None
    merchants_only: bool = False


class Loaded(msgspec.Struct, frozen=True):
    """What a backfill wrote; `profile_through` is the start of a quarter-hour as messages have it."""

    users: int
    merchants: int
    rows: int  # transactions in the histories
    changes: int  # of merchant profiles
    profile_through: str
    seconds: float
    archived: int = 0  # transactions in the lake


class Record(msgspec.Struct, frozen=True):
    """A finished backfill."""

    origin: Origin
    files: tuple[File, ...]
    loaded: Loaded
    at: str


def fingerprint(path: Path) -> File:
    """Return a file's path, size and hash; DataError if it can't be read."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return File(str(path.absolute()), path.stat().st_size, sha256)
    except OSError as exc:
        raise DataError(f"{path} can't be read: {exc.strerror or exc}") from exc


def query_of(files: tuple[File, ...]) -> str:
    """Return the name of a past in the lake: it follows from what the files hold, not from where they lie."""
    return f"backfill/{hashlib.sha256(''.join(file.sha256 for file in files).encode()).hexdigest()}"


def check_files(record: Record) -> None:
    """Raise DataError if a file isn't the one that was loaded any more."""
    for file in record.files:
        if fingerprint(Path(file.path)) != file:
            raise DataError(f"{file.path} isn't the file that was backfilled at {record.at}; bring that one back")


def write(path: Path, record: Record | None) -> None:
    """Replace the record, or remove it with None: there is never half of one."""
    if record is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    fresh.replace(path)


def read(path: Path) -> Record | None:
    """Return the record, None where nothing was loaded; DataError if it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as exc:
        raise DataError(f"{path} can't be read ({exc}); load the past again with --wipe") from exc
