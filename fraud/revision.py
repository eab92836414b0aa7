"""Which code runs: the git revision of a checkout, else the package's version."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SECONDS = 10


def revision() -> str:
    """Return a checkout's revision, with `+changes` where files differ from it; else `fraud-detect VERSION`."""
    folder = Path(__file__).resolve().parent.parent
    if (folder / ".git").exists():
        head, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "-uno")
        if head:
            return f"{head}{'+changes' if changes else ''}"
    try:
        return f"fraud-detect {version('fraud-detect')}"
    except PackageNotFoundError:
        return "unknown"


def _git(folder: Path, *words: str) -> str | None:
    """Return git's answer, None where there is no git or it refuses."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *words],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
