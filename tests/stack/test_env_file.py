"""`make env`: secrets that are random, a file that is its owner's and is never overwritten."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path

from fraud.stack import env_file
from tests.servers import REPOSITORY

EXAMPLE = (REPOSITORY / ".env.example").read_text(encoding="utf-8")


def values(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if line[:1].isalpha())
    return {name: value for name, _, value in lines}


def test_every_secret_is_filled_and_no_two_are_alike() -> None:
    names = env_file.names(EXAMPLE)
    one, other = values(env_file.filled(EXAMPLE)), values(env_file.filled(EXAMPLE))
    assert set(one) == set(names)
    assert len({*one.values(), *other.values()}) == 2 * len(names)
    assert len(base64.urlsafe_b64decode(one[env_file.FERNET])) == 32
    assert len(one["AIRFLOW_JWT_SECRET"]) >= 64
    assert all(len(value) >= 40 for value in one.values())
    # What make, sh, Compose, Redis's configuration and a URL all read as it stands.
    assert all(value.replace("-", "").replace("_", "").rstrip("=").isalnum() for value in one.values())


def test_nothing_but_the_secrets_is_changed() -> None:
    filled = env_file.filled(EXAMPLE).splitlines()
    for before, after in zip(EXAMPLE.splitlines(), filled, strict=True):
        assert before == after or (before.endswith("=") and after.startswith(before))


def test_the_file_is_its_owners_and_is_never_overwritten(tmp_path: Path) -> None:
    """As `make env` runs it: by a bare Python, from a clone in which nothing is installed."""
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    package = tmp_path / "fraud"
    (package / "stack").mkdir(parents=True)
    for name in ("__init__.py", "stack/__init__.py", "stack/env_file.py"):
        shutil.copy(REPOSITORY / "fraud" / name, package / name)
    run = [sys.executable, "-S", "-m", "fraud.stack.env_file"]
    first = subprocess.run(run, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    text = made.read_text(encoding="utf-8")
    second = subprocess.run(run, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "is there already" in second.stderr
    assert made.read_text(encoding="utf-8") == text
    for secret in values(text).values():
        assert secret not in first.stderr + second.stderr


def test_a_secret_that_a_release_has_added_gets_a_value_and_nothing_else_changes(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    env_file.write(tmp_path)
    made = tmp_path / ".env"
    before = made.read_text(encoding="utf-8").replace("#KAFKA_PORT=9092", "KAFKA_PORT=9999\nFRAUD_S3_ACCESS_KEY=")
    lost, emptied = "POSTGRES_DOCTOR_PASSWORD", "FLOWER_PASSWORD"
    old = values(before)
    made.write_text(before.replace(f"{lost}={old[lost]}\n", "").replace(old[emptied], "").rstrip("\n"))
    assert env_file.main(tmp_path) == 0
    new = values(made.read_text(encoding="utf-8"))
    assert {name: value for name, value in new.items() if name not in (lost, emptied)} == {
        name: value for name, value in old.items() if name not in (lost, emptied)
    }
    assert len(new[lost]) >= 40
    assert len(new[emptied]) >= 40
    assert new[emptied] != old[emptied]
    assert made.stat().st_mode & 0o777 == 0o600
    whole = made.read_bytes()
    assert env_file.main(tmp_path) == 1
    assert made.read_bytes() == whole


def test_a_copy_of_the_example_is_filled(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    shutil.copy(REPOSITORY / ".env.example", tmp_path / ".env")
    assert env_file.write(tmp_path) == env_file.names(EXAMPLE)
    assert all(len(value) >= 40 for value in values((tmp_path / ".env").read_text(encoding="utf-8")).values())
