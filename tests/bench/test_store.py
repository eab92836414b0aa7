"""The store's measurement: on LMDB, on Redis, and where there is no Redis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraud.bench import redis_server
from fraud.bench.store import Plan, lengths, opened, run
from fraud.settings import Settings
from fraud.store import open_store
from fraud.store.base import Store

SMALL = Plan(users=200, rounds=30, seconds=5.0, batches=(1, 10, 100))


def test_lengths_are_those_of_a_month() -> None:
    mixed = lengths(10_000)["mix"]
    assert np.percentile(mixed, 50) == pytest.approx(60, abs=1)
    assert np.percentile(mixed, 99) == pytest.approx(400, rel=0.1)
    assert mixed.min() >= 1
    assert mixed.max() <= 512


def check(found: dict[str, Any]) -> None:
    assert set(found) == {"60", "400", "mix"}
    for by_batch in found.values():
        assert set(by_batch) == {"1", "10", "100"}
        for row in by_batch.values():
            assert 20 <= row["rounds"] <= SMALL.rounds
            assert 0 < row["read"]["p50_us"] <= row["read"]["p99_us"]
            assert row["commit"]["p50_us"] > row["read"]["p50_us"]  # it writes what was read, and answers
        # What a batch costs at all is shared by its keys.
        assert by_batch["100"]["read"]["p50_us_per_key"] < by_batch["1"]["read"]["p50_us_per_key"]


def test_lmdb_is_measured_and_compared_with_the_goal(tmp_path: Path) -> None:
    settings = Settings.load({}, store_url=f"lmdb:{tmp_path / 'store'}", store_map_mb=256)
    made: list[Store] = []

    def fresh() -> Store:
        made.append(open_store(settings))
        return made[-1]

    stores: dict[str, Callable[[], Store] | None] = {"lmdb": fresh, "redis": None}
    result = run(SMALL, stores, lambda _: None)
    check(result["stores"]["lmdb"])
    assert result["stores"]["redis"] is None
    assert result["goal"]["batch"] == 100
    assert result["goal"]["met"] == (result["goal"]["worst"] <= 100)
    left = open_store(settings)
    try:
        assert sum(left.histories.positions().values()) >= 20 * (1 + 10 + 100)  # whole slices, positions among them
        assert not left.histories.leases()
    finally:
        left.close()


def test_without_a_server_redis_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "binary", lambda: None)
    said: list[str] = []
    with opened(Settings.load({}, home=tmp_path / "home"), said.append) as stores:
        assert stores["redis"] is None
    assert any("install redis-server" in words for words in said)
    assert not (tmp_path / "home" / "bench" / "data").exists()


@pytest.mark.server
def test_redis_is_measured_where_a_server_is_found(tmp_path: Path) -> None:
    with opened(Settings.load({}, home=tmp_path / "home"), lambda _: None) as stores:
        result = run(SMALL, stores, lambda _: None)
    check(result["stores"]["redis"])
    check(result["stores"]["lmdb"])
