"""What `doctor` says about the store and about who is in Production; no server is needed for it."""

import os
import socket
from pathlib import Path

import pytest

from fraud.settings import Settings
from fraud.stack import doctor_services as services
from fraud.stack.doctor import examine
from fraud.stack.stored import opened
from fraud.stack.wipe import stored, wipe
from fraud.store import open_store
from fraud.store.base import Pointer
from tests import servers

NOW = 1_000_000_000_000


def served(version: str) -> Pointer:
    return Pointer(1, "0" * 64, "fraud-detector", version, NOW)


@pytest.mark.parametrize(
    ("production", "pointer", "level", "words"),
    [
        (None, None, "problem", "no model is in Production"),
        (None, served("3"), "problem", "`fraud-detect promote --version 3` gives it back"),
        ("4", None, "problem", "Production is version 4 of fraud-detector, but the store serves no model"),
        ("4", served("3"), "problem", "but the store serves version 3"),
        ("4", served("4"), "ok", "version 4 of fraud-detector is in Production, and the store serves it"),
    ],
)
def test_production_and_the_store_are_compared(
    tmp_path: Path, production: str | None, pointer: Pointer | None, level: str, words: str
) -> None:
    found = services.serving(Settings.load({}, home=tmp_path), production, pointer)
    assert (found.topic, found.level) == ("mlflow", level)
    assert words in found.message


def test_a_store_that_fills_is_a_warning_and_a_dead_lease_too(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path, store_map_mb=16)
    store = open_store(settings)
    store.profiles.load([(f"m{n}", bytes(1 << 20)) for n in range(13)], 1)
    host = socket.gethostname()
    store.histories.acquire("score", "me", host=host, pid=os.getpid(), now=NOW, ttl=10_000)
    store.histories.acquire("archive", "me", host=host, pid=os.getpid(), now=NOW - 20_000, ttl=10_000)
    store.close()
    found = {finding.message: finding.level for finding in services.store(settings, NOW)}
    full = next(message for message in found if "of 16 MB; set FRAUD_STORE_MAP_MB higher" in message)
    assert found[full] == "warning"
    assert full.startswith("profiles fill")
    leases = {message.split()[2]: level for message, level in found.items() if message.startswith("the lease")}
    assert leases == {"score": "ok", "archive": "warning"}


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    found = list(examine(settings, NOW))
    away = [each.message.split(" (")[0] for each in found if each.topic == "ports"]
    assert away == [
        f"nothing listens on {settings.port('kafka_bootstrap')}",
        f"nothing listens on {settings.port('s3_endpoint')}",
        f"nothing listens on {settings.port('mlflow_uri')}",
        f"nothing listens on {settings.port('airflow_uri')}",
        f"nothing listens on {settings.spark_ui_port}",
        f"nothing listens on {settings.archive_ui_port}",
    ]
    looked = [(each.topic, each.level) for each in found if each.topic in ("score", "archive", "airflow")]
    assert looked == [("score", "problem"), ("archive", "problem")]
    assert not settings.data.exists()
    with opened(settings) as store:
        assert store is None


def test_a_wipe_removes_a_store_elsewhere_and_nothing_beside_it(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path / "home", store_url=f"lmdb:{tmp_path / 'fast disk'}")
    store = open_store(settings)
    store.profiles.load([("m1", b"")], 1)
    store.close()
    settings.data.mkdir(parents=True)
    (tmp_path / "fast disk" / "mine.txt").write_text("keep")
    assert wipe(settings) == [settings.data, tmp_path / "fast disk" / "profiles"]
    assert stored(settings) == []
    assert [path.name for path in (tmp_path / "fast disk").iterdir()] == ["mine.txt"]
