"""What goes wrong between us and the lake, in our words: S3 is away, or a table is damaged."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from deltalake.exceptions import CommitFailedError, DeltaError

from fraud.errors import DataError, ServiceError

# What object_store and Arrow's S3 client say when the server, not the table, is at fault.
_SERVER = re.compile(
    r"S3 error|Error performing|AWS Error|necessary privileges|NETWORK_CONNECTION|error sending request"
)
_ABSENT = re.compile(r"404 Not Found|NoSuchKey|not found", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 300


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Translate what delta-rs, polars and Arrow raise while `what` is read or written.

    A lazy frame of the lake is read where it is collected: collect it inside this block.

    Raises:
        ServiceError: S3 is away or refuses us, or other writers were always faster.
        DataError: a file or the log is damaged.
    """
    try:
        yield
    except CommitFailedError as exc:
        raise ServiceError(f"{what} wasn't written, other writers were faster ({said(exc)}): run it again") from exc
    except (DeltaError, pl.exceptions.PolarsError, OSError) as exc:
        raise _translated(what, exc) from exc
    except BaseException as exc:
        # polars panics where a file is shorter than the log says; its class can't be imported from a public name.
        if type(exc).__name__ != "PanicException":
            raise
        raise DataError(f"{what} is damaged ({said(exc)}): {CURE}") from exc


CURE = (
    "bring the file back from a copy of the bucket, or load the lake again "
    "(`fraud-detect backfill DIR --wipe`, then the archive job reads the topics anew)"
)


def said(exc: BaseException) -> str:
    """Return the error's words on one line, without colours, and not too many."""
    text = " ".join(_COLOURS.sub("", str(exc)).replace("↳", " ").split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _translated(what: str, exc: BaseException) -> DataError | ServiceError:
    text = str(exc)
    if _SERVER.search(text) and not _ABSENT.search(text):
        return ServiceError(f"{what} can't be reached: is S3 up? (FRAUD_S3_ENDPOINT; {said(exc)})")
    if "NoSuchBucket" in text:
        return ServiceError(f"{what} can't be reached: the bucket isn't there; `fraud-detect up` makes it")
    return DataError(f"{what} is damaged ({said(exc)}): {CURE}")
