"""The demo's first model: trained from the lake as somebody would have then, promoted, and seen by the job."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fraud.demo.commands import call
from fraud.errors import StateError
from fraud.settings import Settings
from fraud.store import open_store

MODEL_SECONDS = 120.0
POLL_SECONDS = 0.2

Say = Callable[[str], None]


def train(settings: Settings, as_of: datetime, candidates: int, seed: int, say: Say) -> str:
    """Train and register a version on what the lake knew at a moment [train]; return its number."""
    say(f"training on what was known on {as_of:%Y-%m-%d}")
    result = call(settings, "train", "--as-of", as_of.isoformat(), "--candidates", str(candidates), "--seed", str(seed))
    say(f"version {result['version']} is registered, average precision {_judged(result)} on the newest known days")
    return str(result["version"])


def promote(settings: Settings, version: str, why: str, say: Say) -> int:
    """Move a version to Production [promote]; return when that was done, ms."""
    call(settings, "promote", "--version", version, "--why", why)
    at = time.time_ns() // 1_000_000
    say(f"version {version} is in Production")
    return at


def wait_for_model(settings: Settings, version: str) -> None:
    """Return when the watcher has put the version into the online store.

    Raises:
        StateError: it didn't within two minutes.
    """
    deadline = time.monotonic() + MODEL_SECONDS
    store = open_store(settings)
    try:
        while True:
            pointer = store.serving.pointer()
            if pointer is not None and pointer.model_version == version:
                return
            if time.monotonic() > deadline:
                raise StateError(f"the score job didn't take version {version}; see {settings.logs / 'score.log'}")
            time.sleep(POLL_SECONDS)
    finally:
        store.close()


def _judged(result: dict[str, Any]) -> str:
    value = result.get("metrics", {}).get("average_precision")
    return "?" if value is None else f"{float(value):.3f}"
