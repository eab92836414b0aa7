"""Without a model in the store the job asks what is in Production before it begins to collect."""

import hashlib
import threading

from fraud.store.base import Pointer, Store
from fraud.store.memory import open_memory
from fraud.watcher import Watching
from spark_jobs import score
from spark_jobs.stop import Stop
from tests.models import small_bundle
from tests.servers import wait_for


def begin(store: Store, stop: Stop, looked: threading.Event, said: list[str]) -> threading.Thread:
    watching = Watching(lambda: None, looked)
    thread = threading.Thread(target=score._wait_for_look, args=(watching, store, stop, said.append))
    thread.start()
    return thread


def ends(thread: threading.Thread) -> None:
    wait_for("the wait ends", lambda: not thread.is_alive(), 10)


def test_it_waits_until_the_registry_has_told() -> None:
    looked, said = threading.Event(), list[str]()
    waiting = begin(open_memory(), Stop(), looked, said)
    waiting.join(2 * score.POLL_SECONDS)
    assert waiting.is_alive()
    looked.set()
    ends(waiting)
    assert said == []


def test_a_model_in_the_store_is_enough() -> None:
    store = open_memory()
    raw = small_bundle().to_bytes()
    pointer = Pointer(1, hashlib.sha256(raw).hexdigest(), "fraud-detector", "1", 0)
    store.serving.publish(raw, pointer, expected_sequence=0)
    ends(begin(store, Stop(), threading.Event(), []))


def test_it_ends_when_the_job_shall() -> None:
    stop = Stop()
    waiting = begin(open_memory(), stop, threading.Event(), [])
    stop.event.set()
    ends(waiting)
