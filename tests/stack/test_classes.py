"""The archive of Spark's classes: made once, taken by a session, and no obstacle where it can't be made."""

import subprocess
import sys
from pathlib import Path

import pytest

from fraud.settings import Settings
from fraud.stack import classes
from fraud.stack.java import JavaHome, java
from tests import servers

# A session as the jobs start it; its JVM writes down where each class came from.
SESSION = """
import sys
from fraud.settings import Settings
from fraud.stack import classes
from fraud.stack.java import java
from spark_jobs import session
settings = Settings.load(__import__("os").environ)
options = f"{session.JVM} {classes.option(settings, java(settings))} -Xlog:class+load:file={sys.argv[1]}"
session.Session(settings, {"spark.driver.extraJavaOptions": options}).close()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return servers.settings(tmp_path / "home")


@pytest.mark.server
def test_a_session_takes_its_classes_from_the_archive(settings: Settings, tmp_path: Path) -> None:
    if not classes.own_archive(java(settings)).exists():
        pytest.skip("this Java has no archive of its own classes to add to: install a whole Java 17 or 21")
    said: list[str] = []
    archive = classes.ensure(settings, said.append)
    assert archive is not None, said
    assert classes.notice(settings) == ""
    before = archive.stat()
    assert classes.ensure(settings, said.append) == archive
    assert archive.stat() == before
    log = tmp_path / "loaded.log"
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(log)],
        cwd=servers.REPOSITORY,
        env=servers.environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = log.read_text().splitlines()
    archived = sum("source: shared objects file (top)" in line for line in loaded)
    assert archived > 3_000
    assert archived > 0.5 * len(loaded)


def test_what_cannot_be_made_is_said_and_stops_nobody(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings.model_copy(update={"home": tmp_path / "own"})
    monkeypatch.setattr(classes, "MAKING_SECONDS", 0.01)
    monkeypatch.setattr(classes, "own_archive", lambda _home: tmp_path)  # whatever Java this machine has
    said: list[str] = []
    assert classes.ensure(own, said.append) is None
    assert "its start takes longer: not done after 0.01 s" in said[-1]
    assert classes.option(own, java(own)) == ""
    assert classes.notice(own) != ""


def test_a_java_without_an_archive_of_its_own_goes_without(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings.model_copy(update={"home": tmp_path / "own"})
    monkeypatch.setattr(classes, "java", lambda _settings: JavaHome(tmp_path, "17.0.1", "test"))
    said: list[str] = []
    assert classes.ensure(own, said.append) is None
    assert said == [f"Spark's JVM starts without an archive of its classes: {tmp_path} has none of its own to add to"]
    assert classes.notice(own) == ""


def test_another_java_has_another_archive(settings: Settings) -> None:
    home = java(settings)
    assert classes.path(settings, home) == classes.path(settings, home)
    assert classes.path(settings, home) != classes.path(settings, JavaHome(home.path, "17.0.99", home.source))


def test_archives_of_other_javas_are_removed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings.model_copy(update={"home": tmp_path / "own"})
    old = own.cache / "classes" / "spark-0123456789ab.jsa"
    old.parent.mkdir(parents=True)
    old.touch()
    monkeypatch.setattr(classes, "MAKING_SECONDS", 0.01)
    monkeypatch.setattr(classes, "own_archive", lambda _home: tmp_path)  # whatever Java this machine has
    classes.ensure(own, print)
    assert not old.exists()
