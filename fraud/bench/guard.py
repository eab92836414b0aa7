"""`bench guard`: has a part become slower than the parts it is compared with?

Ratios of calls that were timed in turns say the same on a fast and on a slow machine; absolute times don't. Each
is of processor time at its fastest, so that other processes disturb it least.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from fraud.bench import codec, kernels
from fraud.bench.model import trained
from fraud.bench.sample import simulated
from fraud.bench.timing import Call, measure, ratio
from fraud.errors import ConfigError
from fraud.forest import take_over
from fraud.history import ENTRY, HEADER
from fraud.model import Scorer
from fraud.store.base import Histories
from fraud.store.lmdb_parts import open_lmdb

MESSAGES, USERS, KEYS = 500, 200, 1_000
REPEATS = 7

Say = Callable[[str], None]


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ratio as it was, and by what factor it may grow; smaller is always right."""

    ratio: float
    tolerance: float = 2.0


def read_expected(path: Path) -> dict[str, Expected]:
    """Return the expected ratios in a file.

    Raises:
        ConfigError: it isn't there, or isn't what `Expected` says.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Expected])
    except (OSError, msgspec.DecodeError) as exc:
        raise ConfigError(f"{path} holds no expected ratios: {exc}") from exc


def run(expected: Mapping[str, Expected], say: Say, repeats: int = REPEATS) -> dict[str, Any]:
    """Measure every ratio and compare.

    Returns:
        {ratios: {name: {ratio, expected, limit, held}}, held}.
    """
    found: dict[str, Any] = {}
    for name, value in ratios(repeats).items():
        known = expected.get(name)
        limit = None if known is None else known.ratio * known.tolerance
        found[name] = {
            "ratio": value,
            "expected": None if known is None else known.ratio,
            "limit": limit,
            "held": limit is None or value <= limit,
        }
        say(f"{name}: {value}, expected {json.dumps(found[name]['expected'])}, at most {json.dumps(limit)}")
    return {"ratios": found, "held": all(each["held"] for each in found.values())}


def ratios(repeats: int = REPEATS) -> dict[str, float]:
    """Measure what is compared; a name says which call is divided by which."""
    named, _ = codec.calls(simulated(users=60, days=10).last(MESSAGES))
    found = {
        f"{name} / json": _ratio(named[name], named[name + codec.PEER], repeats)
        for name in ("decode", "decode_unusual", "encode_predictions", "reject")
    }
    found["event_columns / decode"] = _ratio(named["event_columns"], named["decode"], repeats)
    found["compiled forest / XGBoost"] = _forest(repeats)
    pasts = {length: kernels.past(USERS, length) for length in (1, 60, 400)}
    found["fold of 60 / of 1"] = _ratio(pasts[60].fold, pasts[1].fold, repeats)
    found["fold of 400 / of 60"] = _ratio(pasts[400].fold, pasts[60].fold, repeats)
    with TemporaryDirectory(prefix="fraud-guard-") as place:
        store = open_lmdb(Path(place), map_mb=64, durability="process")
        try:
            found["read of 1,000 / 1,000 reads of 1"] = _reads(store.histories, repeats)
        finally:
            store.close()
    return found


def _forest(repeats: int) -> float:
    sample = simulated(users=200, days=20)
    bundle = trained(sample, trees=100, depth=4)
    matrix = np.resize(sample.matrix, (KEYS, sample.matrix.shape[1]))
    compiled, plain = Scorer(bundle, take_over), Scorer(bundle)
    return _ratio(lambda: compiled.predict(matrix), lambda: plain.predict(matrix), repeats)


def _reads(histories: Histories, repeats: int) -> float:
    users = [f"user-{number}" for number in range(KEYS)]
    histories.load(0, ((user, bytes(HEADER + 60 * ENTRY.itemsize)) for user in users))
    return _ratio(lambda: histories.read(0, users), lambda: [histories.read(0, [user]) for user in users], repeats)


def _ratio(one: Call, other: Call, repeats: int) -> float:
    timings = measure({"one": one, "other": other}, repeats, seconds=0.02, clock=time.thread_time)
    return ratio(timings["one"], timings["other"])
