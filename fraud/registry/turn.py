"""One at a time: who moves Production holds this, so that two promotions can't both see the same champion.

MLflow has no conditional write, but the name of a registered model is unique: whoever creates the one named
here has the turn, and deletes it afterwards. (A lock on S3 would shut out clients that see only MLflow.)
Moves made in MLflow's UI don't ask; the look that follows takes the last one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from fraud.errors import StateError
from fraud.registry.connection import MODEL, is_absent

if TYPE_CHECKING:
    from mlflow import MlflowClient

TURN = f"{MODEL}-turn"
TOKEN = "token"  # noqa: S105 - a tag's name
ABANDONED_SECONDS = 30.0  # a move takes two; one that is held so long, watched all the while, was killed
PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.2


@contextmanager
def turn(client: "MlflowClient", who: str) -> Iterator[None]:
    """Hold the turn; MLflow's errors pass through.

    A turn whose holder was killed is taken over once it has been seen unchanged for 30 seconds.

    Raises:
        StateError: others hold it all the time.
    """
    token = uuid4().hex
    _take(client, who, token)
    try:
        yield
    finally:
        if _holder(client) == token:
            client.delete_registered_model(TURN)


def _take(client: "MlflowClient", who: str, token: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    seen, since = "", time.monotonic()
    while not _create(client, who, token):
        holder = _holder(client)
        if holder is None:
            continue  # given back meanwhile
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif time.monotonic() - since > ABANDONED_SECONDS:
            client.delete_registered_model(TURN)
            continue
        if time.monotonic() > end:
            raise StateError(f"others have been moving Production for {PATIENCE_SECONDS:.0f} s ({TURN}); try again")
        time.sleep(POLL_SECONDS)


def _create(client: "MlflowClient", who: str, token: str) -> bool:
    from mlflow import MlflowException

    said = f"{who} is moving {MODEL}'s Production; this entry goes away by itself"
    try:
        client.create_registered_model(TURN, tags={TOKEN: token}, description=said)
    except MlflowException as exc:
        if exc.error_code == "RESOURCE_ALREADY_EXISTS":
            return False
        raise
    return True


def _holder(client: "MlflowClient") -> str | None:
    """Return the holder's token, None where nobody has the turn."""
    from mlflow import MlflowException

    try:
        return str(client.get_registered_model(TURN).tags.get(TOKEN, "?"))
    except MlflowException as exc:
        if is_absent(exc):
            return None
        raise
