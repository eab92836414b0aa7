"""The lease: waited for where its holder died, refused where it lives, renewed, and given back."""

import threading
from collections.abc import Iterator

import pytest

from fraud.errors import FencedError, StoreError
from fraud.store.base import Lease, Store
from fraud.store.memory import open_memory
from spark_jobs import lease
from tests import servers

NOW = 1_000_000


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1_000)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_memory()
    yield opened
    opened.close()


def hold_elsewhere(store: Store, clock: Clock) -> Lease:
    return store.histories.acquire("score", "x", host="elsewhere", pid=7, now=clock(), ttl=lease.TTL_MS)


def test_a_dead_holders_lease_is_waited_out(store: Store) -> None:
    clock = Clock()
    first = hold_elsewhere(store, clock)
    held = lease.acquire(store.histories, clock=clock, sleep=clock.sleep)
    assert held.epoch == first.epoch + 1
    assert lease.TTL_MS <= clock.now - NOW < lease.TTL_MS + 1_000


def test_a_living_holder_is_refused_as_soon_as_it_renews(store: Store) -> None:
    clock = Clock()
    first = hold_elsewhere(store, clock)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now >= NOW + 3_000:
            store.histories.renew(first, now=clock(), ttl=lease.TTL_MS)

    with pytest.raises(FencedError, match=r"held by pid 7 on elsewhere.*stop that job first"):
        lease.acquire(store.histories, clock=clock, sleep=sleep)
    assert clock.now < NOW + 4_000


def test_it_is_renewed_and_given_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    clock = Clock()
    held = lease.acquire(store.histories, clock=clock)
    renewal = lease.Renewal(store.histories, held, clock, lambda error: pytest.fail(str(error)))
    clock.now += 5_000
    servers.wait_for("it is renewed", lambda: renewal.lease.expires_at == clock.now + lease.TTL_MS, 5, every=0.01)
    renewal.close()
    assert store.histories.leases() == {}


def test_a_lost_lease_is_said_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    clock, said, lost = Clock(), threading.Event(), list[StoreError]()
    held = lease.acquire(store.histories, clock=clock)

    def note(error: StoreError) -> None:
        lost.append(error)
        said.set()

    clock.now += lease.TTL_MS  # a pause as long as the lease, and somebody else came
    hold_elsewhere(store, clock)
    renewal = lease.Renewal(store.histories, held, clock, note)
    assert said.wait(5)
    renewal.close()
    assert len(lost) == 1
    assert "is lost, it is now with pid 7 on elsewhere" in str(lost[0])
    assert store.histories.leases()["score"].owner == "x"  # giving back leaves the other's alone
