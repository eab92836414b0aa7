"""Copies of users: the same histories under other names, in the partitions where their messages will come."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fraud import backfill, bus
from fraud.bench import scale
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
        replace(rig, copies=3)._copy_users(store)
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
    spread = [(key, json.loads(value)) for key, value in replace(rig, copies=4).messages(200)]
    assert {key.decode().partition("~")[2] for key, _ in spread} == {"", "1", "2", "3"}
    for (_, before), (key, after) in zip(plain, spread, strict=True):
        assert after["user_id"] == key.decode()
        assert before == after | {"user_id": key.decode().partition("~")[0]}


def test_the_counts_take_turns_and_the_share_is_the_last_of_the_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def drained(_plan: Plan, grown: Rig, *_: object) -> dict[str, float]:
        seen.append(grown.copies)
        return {"events_per_s": 1_000.0 / grown.copies}

    monkeypatch.setattr(scale, "drain", drained)
    monkeypatch.setattr(Rig, "reset", lambda _: None)
    result = scale.run(Plan(events=10, rates=(), runs=2), rig, [4, 1], lambda _: None)
    assert seen == [1, 4, 1, 4]
    assert list(result["users"]) == ["40", "160"]
    assert result["kept"] == 0.25
