"""The model watcher: follows Production in the registry and hands its bundle to the online store.

It runs as a thread beside the score job's driver. Whatever happens to MLflow or S3, the model in the store
goes on; the watcher says once what is wrong, keeps looking, and catches up by itself. One watcher per store
works at a time (the lease `watch`); a flip is conditional on the pointer's sequence besides.
"""

import hashlib
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fraud.errors import FencedError, FraudError, ModelError, ServiceError
from fraud.settings import Settings
from fraud.store.base import Lease, Pointer, Store

LEASE = "watch"
TTL_MS = 15_000
RENEW_MS = 3_000
BACKOFF_SECONDS = 4.0  # the longest pause after a failure
CLOSE_SECONDS = 10.0  # a look that hangs ends by its own time limit; the thread is a daemon's

Say = Callable[[str], None]


@dataclass(frozen=True)
class Watching:
    """A watcher at work.

    Attributes:
        close: ends it; safe to call twice.
        looked: set once the registry has told what is in Production: the store holds it now, or there is none.
    """

    close: Callable[[], None]
    looked: threading.Event


def start(settings: Settings, store: Store, *, clock: Callable[[], int], say: Say) -> Watching:
    """Follow Production until the watching is closed.

    Args:
        settings: name the registry and how often to look.
        store: where bundle and pointer go; it may be used by others meanwhile.
        clock: now, in ms since the epoch.
        say: takes one line for people; called from the watcher's thread.
    """
    watcher = Watcher(settings, store, clock, say)
    thread = threading.Thread(target=watcher.run, name="watcher", daemon=True)
    thread.start()

    def close() -> None:
        watcher.end.set()
        thread.join(CLOSE_SECONDS)

    return Watching(close, watcher.looked)


class Watcher:
    """One thread's work; nothing is raised out of `run`."""

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], int], say: Say) -> None:
        self.end, self.looked = threading.Event(), threading.Event()
        self._settings, self._store, self._clock, self._say = settings, store, clock, say
        self._owner = uuid.uuid4().hex
        self._lease: Lease | None = None
        self._renewed_at = 0
        self._trouble: str | None = None  # what was said last, until it is over
        self._refused: tuple[str, str] | None = None  # version, reason
        self._failures = 0

    def run(self) -> None:
        """Look, wait, look again, until `end` is set; then give the lease back."""
        wait = 0.0
        while not self.end.wait(wait):
            wait = self._round()
        if self._lease is not None:
            try:
                self._store.histories.release(self._lease)
            except FraudError as exc:
                self._say(f"watcher: the lease couldn't be given back: {exc}")

    def _round(self) -> float:
        """Look once; return how long to wait, in seconds."""
        try:
            if not self._hold():
                return self._pause()
            again = not self._follow()
        except ServiceError as exc:
            self._worry("away", f"{exc}. The model in the store goes on; still watching")
            return self._pause()
        except FraudError as exc:
            self._worry(type(exc).__name__, str(exc))
            return self._pause()
        except Exception as exc:  # noqa: BLE001 - the stream must outlive any fault of MLflow's client
            self._worry(type(exc).__name__, f"{type(exc).__name__}: {exc}")
            return self._pause()
        if again:
            return 0.0
        self.looked.set()
        if self._trouble is not None:
            self._say(f"watcher: {'this one takes over' if self._trouble == 'lease' else 'going on as before'}")
        self._trouble, self._failures = None, 0
        return self._settings.watch_seconds

    def _pause(self) -> float:
        self._failures += 1
        return float(min(self._settings.watch_seconds * 2 ** min(self._failures, 5), BACKOFF_SECONDS))

    def _worry(self, kind: str, message: str) -> None:
        """Say it once per kind of trouble."""
        if self._trouble != kind:
            self._say(f"watcher: {message}")
        self._trouble = kind

    def _hold(self, *, now: bool = False) -> bool:
        """Take or renew the lease; False while another watcher holds it. `now`: renew in any case."""
        histories, moment = self._store.histories, self._clock()
        try:
            if self._lease is None:
                self._lease = histories.acquire(
                    LEASE, self._owner, host=socket.gethostname(), pid=os.getpid(), now=moment, ttl=TTL_MS
                )
            elif now or moment - self._renewed_at >= RENEW_MS:
                self._lease = histories.renew(self._lease, now=moment, ttl=TTL_MS)
            else:
                return True
        except FencedError as exc:
            self._lease = None
            self._worry("lease", f"another watcher is at work, waiting for its end ({exc})")
            return False
        self._renewed_at = moment
        return True

    def _follow(self) -> bool:
        """Bring the store to the version in Production; False: it moved meanwhile, look again at once."""
        from fraud import registry

        seen = registry.look(self._settings)
        version = seen.production
        if version is None:
            return True
        registry.settle(self._settings, seen)
        before = self._store.serving.pointer()
        tags = seen.versions[version].tags
        if before is not None and _serves(before, version, tags.get("sha256")):
            self._refused = None
            return True
        if self._refused is not None and self._refused[0] == version and registry.REFUSED in tags:
            return True
        try:
            raw = registry.fetch(self._settings, version).to_bytes()
        except ModelError as exc:
            self._refuse(version, str(exc), before)
            return True
        if registry.look(self._settings).production != version:
            return False
        return self._flip(raw, version, before, was_refused=registry.REFUSED in tags)

    def _flip(self, raw: bytes, version: str, before: Pointer | None, *, was_refused: bool) -> bool:
        """Publish bundle and pointer; False if another watcher came first."""
        from fraud import registry

        if not self._hold(now=True):
            return False
        sequence = 0 if before is None else before.sequence
        digest = hashlib.sha256(raw).hexdigest()
        pointer = Pointer(sequence + 1, digest, registry.MODEL, version, self._clock())
        self._store.serving.publish(raw, pointer, expected_sequence=sequence)
        self._refused = None
        old = "no model before" if before is None else f"version {before.model_version} before"
        self._say(f"watcher: serving {registry.MODEL} version {version} ({old})")
        if was_refused:
            registry.refuse(self._settings, version, None)
        return True

    def _refuse(self, version: str, reason: str, before: Pointer | None) -> None:
        """Say once why a version isn't served, and record it; it is tried again when it is promoted again."""
        from fraud import registry

        if self._refused != (version, reason):
            goes_on = "no model is served" if before is None else f"version {before.model_version} goes on"
            self._say(f"watcher: version {version} of {registry.MODEL} is refused: {reason}; {goes_on}")
        self._refused = version, reason
        registry.refuse(self._settings, version, reason)


def _serves(pointer: Pointer, version: str, sha256: str | None) -> bool:
    """Tell whether the store serves this version: the same number of the same bytes."""
    from fraud.registry import MODEL

    same = pointer.model_name == MODEL and pointer.model_version == version
    return same and sha256 in (None, pointer.sha256)
