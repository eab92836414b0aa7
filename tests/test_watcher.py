"""The watcher brings Production to the store, whatever moved it and whatever was away meanwhile."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fraud import registry, watcher
from fraud.model import Bundle
from fraud.settings import Settings
from fraud.store import Store, open_store
from fraud.store.base import Pointer
from tests import servers
from tests.bundles import tiny_bundle
from tests.registry.broken import break_bundle, mend_bundle
from tests.registry.conftest import logged_versions, three
from tests.registry.versions import log_version, set_alias, set_stage, state

__all__ = ["logged_versions", "three"]  # fixtures
Three = list[registry.RegisteredVersion]
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


def clock() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(params=["memory:", "lmdb:"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = request.param if request.param == "memory:" else f"lmdb:{tmp_path / 'store'}"
    opened = open_store(servers.settings(tmp_path, store_url=url, store_map_mb=64))
    yield opened
    opened.close()


@pytest.fixture
def memory(tmp_path: Path) -> Store:
    return open_store(servers.settings(tmp_path, store_url="memory:"))


Watch = Callable[[Store], list[str]]


@pytest.fixture
def watch(stack_settings: Settings) -> Iterator[Watch]:
    """Starts a watcher on a store and returns what it says; ends it after the test."""
    with ExitStack() as stack:

        def begin(store: Store) -> list[str]:
            said: list[str] = []
            stack.callback(watcher.start(stack_settings, store, clock=clock, say=said.append).close)
            return said

        yield begin
    assert "watcher" not in {thread.name for thread in threading.enumerate()}


def serves(store: Store, version: str, seconds: float = 20) -> Pointer:
    """Wait until the store serves `version`; return the pointer."""

    def check() -> Pointer | None:
        pointer = store.serving.pointer()
        return pointer if pointer is not None and pointer.model_version == version else None

    found: Pointer = servers.wait_for(f"version {version} is served", check, seconds, 0.02)
    return found


def said_of(said: list[str], words: str) -> list[str]:
    return [line for line in said if words in line]


@pytest.mark.server
def test_it_follows_alias_and_stage_and_keeps_them_in_step(
    store: Store, watch: Watch, three: Three, stack_settings: Settings
) -> None:
    one, two, newest = (entry.version for entry in three)
    said = watch(store)
    set_alias(stack_settings, one)
    first = serves(store, one)
    assert store.serving.bundle(first.sha256) == tiny_bundle(1, window=_window()).to_bytes()
    set_stage(stack_settings, two, archive=False)
    serves(store, two)
    set_stage(stack_settings, newest, archive=True)
    last = serves(store, newest)
    servers.wait_for("alias and stage agree", lambda: state(stack_settings)[:2] == (newest, [newest]), 10)
    assert (first.sequence, last.sequence) == (1, 3)
    assert last.sha256 == three[2].sha256
    moved = registry.rollback(stack_settings, "worse", who="ann", at=NOON)
    assert serves(store, two).sequence == 4
    assert moved == registry.Move(two, newest)
    assert len(said) == 4, said


@pytest.mark.server
def test_a_promotion_is_served_within_two_seconds_at_the_default_interval(
    memory: Store, three: Three, stack_settings: Settings
) -> None:
    one, two, _ = (entry.version for entry in three)
    settings = stack_settings.model_copy(update={"watch_seconds": 1.0})
    registry.promote(settings, one, "first", who="ann", at=NOON)
    watching = watcher.start(settings, memory, clock=clock, say=lambda line: None)
    try:
        serves(memory, one)
        registry.promote(settings, two, "better", who="ann", at=NOON)
        serves(memory, two, seconds=2.0)
    finally:
        watching.close()


@pytest.mark.server
def test_a_restarted_watcher_knows_which_one_was_moved_meanwhile(
    memory: Store, watch: Watch, three: Three, stack_settings: Settings
) -> None:
    one, two, _ = (entry.version for entry in three)
    registry.promote(stack_settings, one, "first", who="ann", at=NOON)
    watching = watcher.start(stack_settings, memory, clock=clock, say=lambda line: None)
    serves(memory, one)
    watching.close()
    set_stage(stack_settings, two, archive=True)
    watch(memory)
    serves(memory, two)
    assert state(stack_settings)[0] == two


@pytest.mark.server
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing file", "lacks model.ubj"),
        ("other features", "other feature names"),
        ("corrupt booster", "the booster is corrupt"),
    ],
)
def test_a_broken_bundle_is_refused_once_and_the_old_one_goes_on(
    how: str, reason: str, memory: Store, watch: Watch, three: Three, stack_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fetched: list[str] = []
    fetch = registry.fetch

    def noted(settings: Settings, version: str) -> Bundle:
        fetched.append(version)
        return fetch(settings, version)

    monkeypatch.setattr(registry, "fetch", noted)
    one, two, _ = (entry.version for entry in three)
    registry.promote(stack_settings, one, "first", who="ann", at=NOON)
    said = watch(memory)
    serves(memory, one)
    broken = log_version(stack_settings, 9)
    break_bundle(stack_settings, broken.model_id, how)
    set_alias(stack_settings, broken.version)

    def recorded() -> str:
        return registry.look(stack_settings).versions[broken.version].tags.get(registry.REFUSED, "")

    assert reason in servers.wait_for("the refusal is recorded", recorded, 10)
    time.sleep(5 * stack_settings.watch_seconds)  # it has looked again, and neither tried nor said anything more
    assert fetched.count(broken.version) == 1
    assert len(said_of(said, "is refused")) == 1
    assert reason in said_of(said, f"version {broken.version} ")[0]
    assert f"version {one} goes on" in said_of(said, "is refused")[0]
    assert serves(memory, one).sequence == 1
    if how == "missing file":
        # Mended and promoted again, the same version is served.
        mend_bundle(stack_settings, broken.model_id, tiny_bundle(9, window=_window()))
        registry.promote(stack_settings, broken.version, "mended", who="ann", at=NOON)
        serves(memory, broken.version)
        assert recorded() == ""
    else:
        set_stage(stack_settings, two, archive=True)
        serves(memory, two)


def _window() -> dict[str, list[str]]:
    return {"fit": ["2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z"]}


@pytest.mark.server
def test_s3_away_during_a_swap_and_mlflow_restarted(
    memory: Store, watch: Watch, three: Three, stack_settings: Settings, mlflow_server: servers.Server,
    s3: servers.Server,
) -> None:  # fmt: skip
    one, two, newest = (entry.version for entry in three)
    registry.promote(stack_settings, one, "first", who="ann", at=NOON)
    said = watch(memory)
    serves(memory, one)
    s3.kill()
    try:
        set_alias(stack_settings, two)
        servers.wait_for("it is said", lambda: said_of(said, "artefact store"), 30)
        serves(memory, one)
    finally:
        s3.start()
    serves(memory, two, 30)
    mlflow_server.kill()
    try:
        servers.wait_for("it is said", lambda: len(said_of(said, "FRAUD_MLFLOW_URI")) == 2, 30)
        serves(memory, two)
    finally:
        mlflow_server.start()
    set_alias(stack_settings, newest)
    serves(memory, newest, 30)
    servers.wait_for("it is said", lambda: len(said_of(said, "going on as before")) == 2, 10)
    assert len(said_of(said, "FRAUD_MLFLOW_URI")) == 2, said


@pytest.mark.server
def test_it_tells_when_the_registry_has_told(memory: Store, three: Three, stack_settings: Settings) -> None:
    """A job that begins without a model collects only once it is known that there is none."""
    watching = watcher.start(stack_settings, memory, clock=clock, say=lambda line: None)
    try:
        servers.wait_for("it has looked", watching.looked.is_set, 60)
        assert memory.serving.pointer() is None
    finally:
        watching.close()
    registry.promote(stack_settings, three[0].version, "first", who="ann", at=NOON)
    again = watcher.start(stack_settings, memory, clock=clock, say=lambda line: None)
    try:
        servers.wait_for("it has looked", again.looked.is_set, 60)
        assert memory.serving.pointer() is not None
    finally:
        again.close()


@pytest.mark.server
def test_a_second_watcher_waits_and_takes_over(
    memory: Store, watch: Watch, three: Three, stack_settings: Settings
) -> None:
    one, two, _ = (entry.version for entry in three)
    registry.promote(stack_settings, one, "first", who="ann", at=NOON)
    watching = watcher.start(stack_settings, memory, clock=clock, say=lambda line: None)
    serves(memory, one)
    said = watch(memory)
    servers.wait_for("it is said", lambda: said_of(said, "another watcher is at work"), 10)
    watching.close()
    servers.wait_for("it is said", lambda: said_of(said, "takes over"), 10)
    set_alias(stack_settings, two)
    serves(memory, two)
    assert len(said_of(said, "another watcher")) == 1


def test_without_a_server_the_model_in_the_store_goes_on_and_it_is_said_once(memory: Store, tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    raw = tiny_bundle().to_bytes()
    pointer = Pointer(1, hashlib.sha256(raw).hexdigest(), registry.MODEL, "7", clock())
    memory.serving.publish(raw, pointer, expected_sequence=0)
    said: list[str] = []
    begun = time.monotonic()
    watching = watcher.start(settings, memory, clock=clock, say=said.append)
    assert time.monotonic() - begun < 0.5
    try:
        servers.wait_for("it is said", lambda: said, 60)
        time.sleep(1.5)  # a few more looks
    finally:
        watching.close()
    assert len(said) == 1, said
    assert settings.mlflow_uri in said[0]
    assert memory.serving.pointer() == pointer
    assert not watching.looked.is_set()  # nobody knows what is in Production
    assert "watch" not in memory.histories.leases()


def test_importing_the_watcher_does_not_import_mlflow() -> None:
    check = "import sys, fraud.watcher, fraud.registry; print([m for m in ('mlflow', 'xgboost') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
