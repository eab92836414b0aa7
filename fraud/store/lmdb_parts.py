"""Merchant profiles and the serving model, an LMDB environment each, and the store of these and the histories.

Profiles: ``m merchant_id`` → packed changes, ``t`` → `profile_through`, ``a`` → the last batch applied.
Serving: ``b sha256`` → bundle, ``p`` → pointer.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt

from fraud import profiles
from fraud.store import fence, flips, ids
from fraud.store.base import Headroom, Pointer, Store
from fraud.store.lmdb_environment import Environment
from fraud.store.lmdb_histories import LmdbHistories
from fraud.store.lmdb_keys import NUMBER, scan


def open_lmdb(path: Path, *, map_mb: int, durability: str) -> Store:
    """Return the store in a directory; nothing opens before its first use, so it may be made before a fork.

    `durability` is ``process`` or ``disk``: see `fraud.store.lmdb_environment`.
    """
    path = path.absolute()
    parts = {
        part: Environment(path / part, part=part, map_mb=map_mb, sync=durability == "disk")
        for part in ("histories", "profiles", "serving")
    }

    histories = LmdbHistories(parts["histories"])
    others = (parts["profiles"], parts["serving"])

    def close() -> None:
        for each in (histories, *others):
            each.close()

    def headroom() -> list[Headroom]:
        return [each.headroom() for each in (histories, *others)]

    def check_readers() -> None:
        for each in (histories, *others):
            each.check_readers()

    return Store(
        histories=histories,
        profiles=LmdbProfiles(parts["profiles"]),
        serving=LmdbServing(parts["serving"]),
        close=close,
        headroom=headroom,
        url=f"lmdb:{path}",
        check_readers=check_readers,
    )


class LmdbProfiles:
    """Merchant profiles; a load or a batch is one transaction, so readers see all of it or nothing."""

    def __init__(self, environment: Environment) -> None:
        self._env = environment

    def through(self) -> int | None:
        """See `fraud.store.base.Profiles.through`."""
        with self._env.read() as txn:
            return _through(txn)

    def read(self, merchants: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `fraud.store.base.Profiles.read`."""
        keys = _merchant_keys(merchants)
        with self._env.read() as txn:
            get = txn.get
            return [get(key) for key in keys], _through(txn)

    def applied(self) -> str | None:
        """See `fraud.store.base.Profiles.applied`."""
        with self._env.read() as txn:
            return _applied(txn)

    def load(self, profiles: Iterable[tuple[str, bytes]], through: int, applied: str | None = None) -> int:
        """See `fraud.store.base.Profiles.load`."""
        given = list(profiles)
        keys = _merchant_keys(merchant for merchant, _ in given)
        rows = sorted(zip(keys, (raw for _, raw in given), strict=True))
        with self._env.write() as txn:
            for key, raw in rows:
                txn.put(key, raw)
            txn.put(b"t", NUMBER.pack(through))
            txn.delete(b"a") if applied is None else txn.put(b"a", applied.encode())
        return len(rows)

    def apply(
        self,
        changes: Mapping[str, npt.NDArray[np.void]],
        through: int | None,
        *,
        expected: str | None,
        applied: str,
        keep_from: int | None,
    ) -> None:
        """See `fraud.store.base.Profiles.apply`."""
        keys = _merchant_keys(changes)
        with self._env.write() as txn:
            fence.check_applied(_applied(txn), expected)
            merged = profiles.merge([txn.get(key) for key in keys], list(changes.values()), keep_from)
            for key, raw in sorted(zip(keys, merged, strict=True)):
                txn.put(key, raw)
            txn.put(b"a", applied.encode())
            if through is not None:
                txn.put(b"t", NUMBER.pack(through))

    def merchants(self) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Profiles.merchants`."""
        for key, raw in scan(self._env, b"m"):
            yield key[1:].decode(), raw

    def wipe(self) -> None:
        """See `fraud.store.base.Profiles.wipe`."""
        with self._env.write() as txn:
            self._env.empty(txn)


class LmdbServing:
    """The model in production; bundle and pointer change in one transaction."""

    def __init__(self, environment: Environment) -> None:
        self._env = environment

    def pointer(self) -> Pointer | None:
        """See `fraud.store.base.Serving.pointer`."""
        with self._env.read() as txn:
            flipped = flips.unpack(txn.get(b"p"))
        return None if flipped is None else flipped.pointer

    def bundle(self, sha256: str) -> bytes:
        """See `fraud.store.base.Serving.bundle`."""
        with self._env.read() as txn:
            raw = txn.get(_bundle_key(sha256))
        return flips.check_bundle(raw, sha256)

    def publish(self, bundle: bytes, pointer: Pointer, *, expected_sequence: int) -> None:
        """See `fraud.store.base.Serving.publish`."""
        flips.check_pointer(bundle, pointer)
        with self._env.write() as txn:
            flipped = flips.flip(flips.unpack(txn.get(b"p")), pointer, expected_sequence=expected_sequence)
            txn.put(_bundle_key(pointer.sha256), bundle)
            txn.put(b"p", flips.pack(flipped))
            kept = {_bundle_key(sha) for sha in flipped.kept}
            stored = [key for key in txn.cursor().iternext(values=False) if key.startswith(b"b")]
            for key in stored:
                if key not in kept:
                    txn.delete(key)


def _through(txn: lmdb.Transaction) -> int | None:
    raw = txn.get(b"t")
    return None if raw is None else int(NUMBER.unpack(raw)[0])


def _applied(txn: lmdb.Transaction) -> str | None:
    raw = txn.get(b"a")
    return None if raw is None else raw.decode()


def _bundle_key(sha256: str) -> bytes:
    return b"b" + sha256.encode()


def _merchant_keys(merchants: Iterable[str]) -> list[bytes]:
    return [b"m" + merchant for merchant in ids.encode("merchant", merchants)]
