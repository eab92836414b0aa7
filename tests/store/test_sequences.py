"""Random sequences of operations: LMDB and Redis answer, refuse and remember exactly as memory does."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fraud.errors import StoreError
from fraud.store.base import Histories, Lease, PartitionKey
from fraud.store.memory import open_memory
from tests.store.conftest import NAMES, open_backend
from tests.store.slices import NOW, TTL, answers_at, rows, slice_of

STEPS = 200
TOPICS = [PartitionKey("a", 0), PartitionKey("ab", 0), PartitionKey("a", 1)]
USERS = ["u1", "u2", "{p1}", "ü"]
_Step = Callable[[Histories], Any]


def _observed(histories: Histories, step: _Step) -> Any:
    """Return the step's result, or which refusal it met."""
    try:
        return step(histories)
    except StoreError as exc:
        return type(exc), str(exc)


def _everything(histories: Histories) -> Any:
    return (
        histories.positions(),
        histories.marks(),
        histories.leases(),
        [rows(histories.answers(key, 0, 10_000)) for key in TOPICS],
        [sorted(histories.users(partition)) for partition in (0, 1)],
    )


def _step(chance: random.Random, now: int, held: list[Lease], like: Histories) -> _Step:
    """Return one operation, more often sensible than not; `like` tells where memory stands."""
    key, lease = chance.choice(TOPICS), chance.choice(held)
    kind = chance.choice(["acquire", "renew", "release", "start", *["commit"] * 8, "marks", "trim", "load", "read"])
    if not like.positions():  # anew, also after the wipe
        kind = chance.choice(["acquire", "start", kind])
    if kind == "acquire":
        owner = chance.choice(["one", "two"])
        return lambda h: h.acquire("score", owner, host="elsewhere", pid=1, now=now, ttl=TTL)
    if kind == "renew":
        return lambda h: h.renew(lease, now=now, ttl=TTL)
    if kind == "release":
        return lambda h: h.release(lease)
    if kind == "start":
        positions = {key: chance.randrange(5) for key in chance.sample(TOPICS, 2)}
        return lambda h: h.start(positions, lease)
    if kind == "marks":
        marks = {key: chance.randrange(60)}
        return lambda h: h.set_marks(marks, lease)
    if kind == "trim":
        before = now - chance.randrange(TTL)
        return lambda h: h.trim(lease, committed_before=before)
    if kind == "load":
        loaded = [(chance.choice(USERS), chance.randbytes(9))]
        return lambda h: h.load(key.partition, loaded)
    if kind == "read":
        start, end = chance.randrange(60), chance.randrange(60)
        return lambda h: (rows(h.answers(key, start, end)), h.read(key.partition, USERS))
    at = like.positions().get(key, 0)
    expected = at if chance.random() < 0.9 else at + chance.randrange(1, 4)
    end = expected + chance.randrange(6)
    offsets = sorted(chance.sample(range(expected, end), chance.randrange(end - expected + 1)))
    given = {user: chance.randbytes(9) for user in chance.sample(USERS, 2)}
    commit = slice_of(lease, expected, end, key=key, histories=given, answers=answers_at(offsets), at=now)
    return lambda h: h.commit(commit)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_store_behaves_as_memory_does(name: str, seed: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    chance = random.Random(seed)
    model, store = open_memory().histories, open_backend(name, request, tmp_path).store
    held, now, committed = [Lease("score", "nobody", 0, 0, "elsewhere", 1)], NOW, 0
    for number in range(STEPS):
        now += chance.randrange(3_000)
        step = _step(chance, now, held, model)
        expected = _observed(model, step)
        assert _observed(store.histories, step) == expected, f"step {number} of seed {seed}"
        if isinstance(expected, Lease):
            held = [*held[-1:], *[expected] * 4]
        if number % 10 == 9:
            whole = _everything(model)
            assert _everything(store.histories) == whole, f"after step {number} of seed {seed}"
            committed = max(committed, sum(map(len, whole[3])))
        if number == 2 * STEPS // 3:
            model.wipe()
            store.histories.wipe()
    assert committed > 20, "little was committed: the sequence proves little"
    store.close()
