"""Jars: pinned by checksum, offline once they are here, explained when they can't be fetched."""

import shutil
from pathlib import Path

import pytest

from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.stack import jars
from tests import servers

NOBODY = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=1"


def test_fetched_once_nothing_is_fetched_again(tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    fetched = jars.spark_jars(settings)
    # Fetching would need a Java, and this one doesn't exist.
    offline = settings.model_copy(update={"java_home": tmp_path / "no-java"})
    assert jars.spark_jars(offline) == fetched
    assert jars.damaged(offline, "spark") == []
    assert jars.notice(offline, "spark") == ""


def test_a_damaged_jar_is_named(tmp_path: Path) -> None:
    here = servers.settings(tmp_path / "here")
    jars.spark_jars(here)
    other = Settings.load({}, home=tmp_path / "other")
    shutil.copytree(jars.folder(here, "spark"), jars.folder(other, "spark"))
    broken, missing = jars.paths(other, "spark")[:2]
    broken.write_bytes(broken.read_bytes()[:-1])
    missing.unlink()
    assert jars.damaged(other, "spark") == [
        f"{broken.name} has another sha256 than jars.lock",
        f"{missing.name} is missing",
    ]


def test_jars_that_cant_be_fetched_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", NOBODY)
    settings = Settings.load({}, home=tmp_path)
    assert jars.notice(settings, "spark") == "fetching 4 jars, once"
    with pytest.raises(ServiceError, match=r"4 jars of `spark` can't be fetched: .*or copy the folder"):
        jars.spark_jars(settings)
    assert not jars.folder(settings, "spark").exists()
