"""Copies of users: the same histories under other names, in the partitions where their messages will come."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fraud import backfill, bus, codec, history
from fraud.bench import scale
from fraud.bench.population import Population
from fraud.bench.rig import Rig
from fraud.bench.stream import Plan
from fraud.store import open_store
from producer.simulate import Config, generate
from tests import servers
from tests.bundles import tiny_bundle

PARTITIONS = 2


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = generate(Config(start=datetime(2026, 1, 1, tzinfo=UTC), days=5, users=40, merchants=20))
    settings = servers.settings(tmp_path, store_url="lmdb:", topic_partitions=PARTITIONS)
    return Rig(settings, tiny_bundle(), backfill.Past(made.transactions, made.labels), made.transactions)


def test_copies_have_their_users_histories_in_their_own_partitions(rig: Rig) -> None:
    store = open_store(rig.settings)
    try:
        for partition in range(PARTITIONS):
            store.histories.load(partition, [(f"u{partition}", bytes([partition] * 8))])
        Population(copies=3).grow(store.histories, PARTITIONS)
        found = {user: (p, packed) for p in range(PARTITIONS) for user, packed in store.histories.users(p)}
    finally:
        store.close()
    assert set(found) == {f"u{p}{suffix}" for p in range(PARTITIONS) for suffix in ("", "~1", "~2")}
    for user, (partition, packed) in found.items():
        if "~" in user:
            assert partition == bus.partition_of(user, PARTITIONS)
        assert packed == bytes([int(user[1])] * 8)


def test_messages_are_spread_over_the_copies_and_nothing_else_changes(rig: Rig) -> None:
    plain = [(key, json.loads(value)) for key, value in rig.messages(200)]
    spread = [(key, json.loads(value)) for key, value in replace(rig, population=Population(copies=4)).messages(200)]
    assert {key.decode().partition("~")[2] for key, _ in spread} == {"", "1", "2", "3"}
    for (_, before), (key, after) in zip(plain, spread, strict=True):
        assert after["user_id"] == key.decode()
        assert before == after | {"user_id": key.decode().partition("~")[0]}


def test_with_longer_histories_the_messages_follow_each_other_more_closely(rig: Rig) -> None:
    both = (rig, replace(rig, population=Population(longer=4)))
    plain, quick = ([json.loads(value) for _, value in each.messages(200)] for each in both)
    before, after = ([codec.parse_time(row["timestamp"]) for row in rows] for rows in (plain, quick))
    assert before[-1] > before[0]
    assert after == [before[0] + (at - before[0]) // 4 for at in before]
    assert all(a | {"timestamp": ""} == b | {"timestamp": ""} for a, b in zip(plain, quick, strict=True))


def test_longer_histories_are_the_same_entries_under_ids_of_their_own(rig: Rig) -> None:
    known = np.zeros(3, history.ENTRY)
    known["time"], known["amount"], known["txn"] = [1, 2, 3], [10.0, 20.0, 30.0], [2**64 - 1, 5, 6]
    with closing(open_store(rig.settings)) as store:
        store.histories.load(bus.partition_of("u", PARTITIONS), [("u", history.pack(9, known))])
        longer = replace(rig, population=Population(longer=4))
        longer.population.grow(store.histories, PARTITIONS)
        ((_, raw),) = store.histories.users(bus.partition_of("u", PARTITIONS))
    grown = history.unpack([raw])
    assert longer.median_entries() == len(grown.entries) == 12
    assert grown.newest.tolist() == [9]
    assert grown.entries["amount"].tolist() == [10.0] * 4 + [20.0] * 4 + [30.0] * 4
    assert len(set(grown.entries["txn"].tolist())) == 12


def test_a_longer_history_keeps_its_newest_512(rig: Rig) -> None:
    known = np.zeros(400, history.ENTRY)
    known["time"] = np.arange(400)
    with closing(open_store(rig.settings)) as store:
        store.histories.load(0, [("u", history.pack(9, known))])
        Population(longer=2).grow(store.histories, PARTITIONS)
        raw = dict(pair for p in range(PARTITIONS) for pair in store.histories.users(p))["u"]
    assert history.unpack([raw]).entries["time"].tolist() == [at for at in range(144, 400) for _ in range(2)]


def test_the_variants_take_turns_and_the_share_is_the_last_of_the_plain_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Population] = []

    def drained(_plan: Plan, grown: Rig, *_: object) -> dict[str, float]:
        seen.append(grown.population)
        return {"events_per_s": 1_000.0 / grown.population.copies / grown.population.longer**2}

    def held(plan: Plan, grown: Rig, *_: object) -> dict[int, dict[str, float]]:
        return {rate: {"p99": float(rate * grown.population.copies * grown.population.longer)} for rate in plan.rates}

    monkeypatch.setattr(scale, "drain", drained)
    monkeypatch.setattr(scale, "hold", held)
    monkeypatch.setattr(Rig, "reset", lambda _: None)
    monkeypatch.setattr(Rig, "median_entries", lambda grown: 60 * grown.population.longer)
    result = scale.run(Plan(events=10, rates=(5,), seconds=5, runs=2), rig, [4, 1], [3], lambda _: None)
    assert seen == [Population(), Population(copies=4), Population(longer=3)] * 2
    assert list(result["users"]) == ["40", "160"]
    assert list(result["entries"]) == ["60", "180"]
    assert result["kept"] == {"users": 0.25, "entries": round(1 / 9, 3)}
    assert result["users"]["160"]["paced"] == {"5": {"p99": 20.0, "p99_range": [20.0, 20.0]}}
    assert result["entries"]["180"]["paced"]["5"]["p99"] == 15.0
