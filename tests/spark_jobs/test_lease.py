"""The lease: waited for where its holder died, refused where it lives, renewed, and given back."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from fraud.errors import FencedError, FraudError, ServiceError
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
    clock, said, lost = Clock(), threading.Event(), list[FraudError]()
    held = lease.acquire(store.histories, clock=clock)

    def note(error: FraudError) -> None:
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


@dataclass
class Away:
    """Histories on a server that is away for the next `renewals` and, if told so, for the release."""

    store: Store
    renewals: int
    release_too: bool = False

    def renew(self, held: Lease, *, now: int, ttl: int) -> Lease:
        if self.renewals > 0:
            self.renewals -= 1
            raise ServiceError("the server is away")
        return self.store.histories.renew(held, now=now, ttl=ttl)

    def release(self, held: Lease) -> None:
        if self.release_too:
            raise ServiceError("the server is away")
        self.store.histories.release(held)


def test_a_server_that_comes_back_in_time_costs_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    clock = Clock()
    held = lease.acquire(store.histories, clock=clock)
    clock.now += 5_000
    away: Any = Away(store, renewals=2)
    renewal = lease.Renewal(away, held, clock, lambda error: pytest.fail(str(error)))
    servers.wait_for("it is renewed", lambda: renewal.lease.expires_at == clock.now + lease.TTL_MS, 5, every=0.01)
    renewal.close()
    assert store.histories.leases() == {}


def test_a_server_away_beyond_the_leases_end_is_said_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    clock, lost = Clock(), list[FraudError]()
    held = lease.acquire(store.histories, clock=clock)
    away: Any = Away(store, renewals=1_000_000)
    renewal = lease.Renewal(away, held, clock, lost.append)
    servers.wait_for("it tried twice", lambda: away.renewals < 999_999, 5, every=0.01)
    assert lost == []
    clock.now += lease.TTL_MS + 1
    servers.wait_for("it is said", lambda: lost, 5, every=0.01)
    renewal.close()
    assert [type(error) for error in lost] == [ServiceError]


def test_a_lease_that_cant_be_given_back_hides_no_error(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    held = lease.acquire(store.histories, clock=Clock())
    away: Any = Away(store, renewals=0, release_too=True)
    with pytest.raises(FencedError, match="why the job ends"), ExitStack() as stack:
        stack.callback(lease.Renewal(away, held, Clock(), lambda error: pytest.fail(str(error))).close)
        raise FencedError("why the job ends")
    assert "couldn't be given back, it ends in 10 s: the server is away" in caplog.text
