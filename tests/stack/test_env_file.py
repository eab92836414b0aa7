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
