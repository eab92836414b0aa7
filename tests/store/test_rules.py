"""The rules that every store shares: leases, fences, flips, the outbox's encoding, where a URL leads."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fraud.errors import ConfigError, FencedError, StoreError
from fraud.settings import Settings
from fraud.store import flips, leases, open_store, outbox
from fraud.store.base import Answers, Pointer
from fraud.store.leases import Held
from tests.store.slices import NOW, TTL, answers_at, rows

HERE = socket.gethostname()


# --- leases ---


def _held(**changes: object) -> Held:
    held = leases.take("score", None, owner="one", host=HERE, pid=os.getpid(), now=NOW, ttl=TTL)
    return msgspec.structs.replace(held, **changes)


def _taken(held: Held) -> int:
    """Return the epoch that another owner gets while the lease runs."""
    return leases.take("score", held, owner="two", host=HERE, pid=1, now=NOW + 1, ttl=TTL).epoch


def test_a_pid_that_was_given_out_again_is_another_process() -> None:
    held = _held()
    with pytest.raises(FencedError):
        _taken(held)
    boot, namespace, started = held.started.split("/")
    assert _taken(msgspec.structs.replace(held, started=f"{boot}/{namespace}/{int(started) - 1}")) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere", "pid": 2**22 + 1},
        {"started": "", "pid": 2**22 + 1},
        {"started": "another-boot/1/2", "pid": 2**22 + 1},  # another machine of this name, for all we know
        {"started": "{boot}/another-namespace/2", "pid": 2**22 + 1},  # a container beside this one
    ],
)
def test_a_holder_that_cant_be_seen_keeps_its_lease_until_it_expires(changes: dict[str, object]) -> None:
    boot = _held().started.partition("/")[0]
    held = _held(**{name: v.replace("{boot}", boot) if isinstance(v, str) else v for name, v in changes.items()})
    assert not leases.died(held)
    with pytest.raises(FencedError, match="wait until the lease expires in 30 s"):
        _taken(held)
    assert leases.take("score", held, owner="two", host=HERE, pid=1, now=NOW + TTL, ttl=TTL).epoch == 2


def test_a_zombie_is_dead_and_a_process_elsewhere_has_no_identity() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert leases.process_identity(HERE, child.pid).count("/") == 2
        assert leases.process_identity("elsewhere", child.pid) == ""
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
        assert leases.process_identity(HERE, child.pid) == ""


def test_a_record_survives_its_bytes_and_others_are_refused() -> None:
    assert leases.unpack(leases.pack(_held())) == _held()
    assert leases.unpack(None) is None
    with pytest.raises(StoreError, match="a lease's record can't be read"):
        leases.unpack(b"{}")
    with pytest.raises(StoreError, match="the serving pointer can't be read"):
        flips.unpack(b"[")


# --- flips ---


def test_a_rollback_keeps_both_bundles() -> None:
    first = Pointer(1, "a", "m", "1", NOW)
    now = flips.flip(None, first, expected_sequence=0)
    assert now.kept == {"a"}
    now = flips.flip(now, Pointer(2, "b", "m", "2", NOW), expected_sequence=1)
    back = flips.flip(now, Pointer(3, "a", "m", "1", NOW), expected_sequence=2)
    assert (back.pointer.sha256, back.previous, back.kept) == ("a", "b", {"a", "b"})
    assert flips.unpack(flips.pack(back)) == back


# --- outbox ---


def test_chunks_hold_at_most_one_mebibyte_or_one_answer() -> None:
    chance = np.random.default_rng(3)
    n = 600
    sizes = np.where(chance.random(n) < 0.01, 3_000_000, chance.integers(0, 20_000, n))
    plain = answers_at(range(n))
    answers = Answers(plain.offsets, plain.kinds, plain.digests, plain.keys, [bytes(int(size)) for size in sizes])
    chunks = list(outbox.pack(answers, NOW))
    heads = [outbox.head(chunk) for _, chunk in chunks]
    assert len(chunks) > 10
    assert all(
        len(chunk) <= outbox.CHUNK_BYTES or head.rows == 1 for (_, chunk), head in zip(chunks, heads, strict=True)
    )
    assert [first for first, _ in chunks] == [head.first for head in heads]
    assert {head.committed_at for head in heads} == {NOW}
    assert sum(head.rows for head in heads) == n
    assert rows(outbox.unpack((chunk for _, chunk in chunks), 0, n)) == rows(answers)
    # Greedy: the first answer of a chunk would not have fitted into the one before.
    for (_, before), head in zip(chunks, heads[1:], strict=False):
        assert len(before) + int(sizes[head.first]) + 60 > outbox.CHUNK_BYTES


def test_an_empty_key_isnt_no_key() -> None:
    plain = answers_at([0, 1])
    answers = Answers(plain.offsets, plain.kinds, plain.digests, [None, b""], [b"", b""])
    assert outbox.unpack([chunk for _, chunk in outbox.pack(answers, NOW)], 0, 2).keys == [None, b""]


@pytest.mark.parametrize(("chunk", "why"), [(b"torn", "has only 4 bytes"), (bytes(32), "has version 0")])
def test_chunks_that_arent_ours_are_refused(chunk: bytes, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        outbox.head(chunk)


# --- URLs ---


@pytest.mark.parametrize("url", ["", "memory", "sqlite:///x", "lmdb", "redis:host", "http://x:1/", "REDIS://x"])
def test_an_url_of_no_kind_that_exists_is_refused(url: str) -> None:
    settings = Settings.load({}).model_copy(update={"store_url": url})
    with pytest.raises(ConfigError, match="write lmdb:, lmdb:/path, redis://host:port/db or memory:"):
        open_store(settings)


def test_opening_lmdb_touches_no_disk(tmp_path: Path) -> None:
    store = open_store(Settings.load({}, home=tmp_path))
    assert store.url == f"lmdb:{tmp_path}/data/store"
    assert not list(tmp_path.iterdir())
    store.close()
