"""How a peer runs: its options, and as many processes as it was told, each a member of one group."""

import argparse
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType

from fraud.settings import Settings

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Options:
    """What a peer is told.

    Attributes:
        home: where its own files go; the store with the past lies in the settings' home.
        group: the consumer group, new with every run.
    """

    settings: Settings
    home: Path
    group: str
    processes: int


def options(described: str, argv: Sequence[str] | None = None) -> Options:
    """Read the command line; what it doesn't say is taken from the environment, as the score job takes it."""
    parser = argparse.ArgumentParser(description=described)
    parser.add_argument("--home", type=Path, required=True, help="a prepared FRAUD_HOME: a store with past and model")
    parser.add_argument("--bootstrap", required=True, help="the broker's host:port")
    parser.add_argument("--group", default="peers", help="the consumer group, new for each run (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="how many share the work (default: %(default)s)")
    given = parser.parse_args(argv)
    if given.processes < 1:
        parser.error("--processes is at least 1")
    settings = Settings.load(os.environ, home=given.home, kafka_bootstrap=given.bootstrap, store_url="lmdb:")
    return Options(settings, settings.data / "peers", given.group, given.processes)


def run(work: Callable[[Options, int], None], told: Options) -> int:
    """Run `work(options, number)` in processes of its own until one of them ends or SIGTERM comes.

    They fork, and so share the memory of what is imported; nothing else may have been begun before. The first
    that ends ends them all. Returns the exit code.
    """
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_child, args=(work, told, number)) for number in range(told.processes)]
    asked = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for child in children:
            if child.is_alive():
                child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for child in children:
        child.start()
    if asked:
        stop(0, None)  # it came in between
    ready = set(wait([child.sentinel for child in children]))
    was_asked, ended = asked, [child for child in children if child.sentinel in ready]
    stop(0, None)
    for child in children:
        child.join(STOP_SECONDS)
        if child.is_alive():
            child.kill()
    # Asked for only now: a sentinel is ready a moment before its process can be waited for.
    return 0 if was_asked else next((child.exitcode for child in ended if child.exitcode), 1)


def _child(work: Callable[[Options, int], None], told: Options, number: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on as SIGTERM
    work(told, number)
