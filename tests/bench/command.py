"""A measurement as a person starts it, small."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import servers


def measured(home: Path, *words: str, seconds: float = 560) -> dict[str, Any]:
    """Run `fraud-detect bench` in a home of its own and return its JSON.

    A small backlog is several micro-batches, as a large one is: within one there is nothing to be timed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "fraud.cli", "bench", *words, "--json"],
        env=servers.environment(servers.settings(home, max_offsets_per_trigger=2_000)),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told
