"""The stack of `make test-compose`: brought up once from the shipped file, taken down at the end; volumes stay."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fraud.settings import Settings
from tests import servers
from tests.compose import engine

FIGURES = pytest.StashKey[dict[str, object]]()


@dataclass(frozen=True)
class Stack:
    """A stack that is up, seen from the host."""

    settings: Settings
    up_seconds: float
    report: Callable[[str, object], None]

    def command(self, *words: str, seconds: float = 300, check: bool = True) -> Any:
        """Run `fraud-detect` on the host with the published ports; return its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "fraud.cli", *words, "--json"],
            env=servers.environment(self.settings),
            cwd=self.settings.home,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0 or not check, f"fraud-detect {' '.join(words)}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, record: Callable[[str, object], None]) -> Iterator[Stack]:
    """The shipped stack, all of it healthy, as README's lines bring it up."""
    engine.require()
    if not engine.ENV.exists():
        engine.run("make", "env")
    engine.run(*engine.FLOWER, "build", "--quiet", seconds=30 * engine.MINUTES)
    began = engine.now()
    try:
        engine.run(
            *(*engine.FLOWER, "up", "--detach", "--wait", "--wait-timeout", "900"),
            seconds=engine.UP_SECONDS,
        )
        seconds = engine.now() - began
        record("healthy_seconds", round(seconds, 1))
        yield Stack(engine.settings(tmp_path_factory.mktemp("host")), seconds, record)
    finally:
        logs = Path(os.environ.get("STACK_LOGS") or tmp_path_factory.mktemp("compose") / "compose.log")
        logs.write_text(engine.compose("logs", "--no-color", "--timestamps", check=False), encoding="utf-8")
        if not os.environ.get("KEEP_STACK"):
            engine.compose("down", check=False)


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Keep figures; at the end they are printed as one JSON line."""
    return request.config.stash.setdefault(FIGURES, {}).__setitem__


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(FIGURES, {}):
        terminalreporter.write_line(f"figures: {json.dumps(figures)}")


# In the order in which a user meets the stack: what a file leaves behind, the next one finds.
ORDER = ("test_stack", "test_refusals", "test_faults", "test_cluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / f"{name}.py": number for number, name in enumerate(ORDER)}
    items.sort(key=lambda item: rank.get(item.path, -1))
