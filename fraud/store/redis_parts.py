"""Merchant profiles and the serving model in Redis, a hash slot each, and the store of all three parts."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from fraud import profiles
from fraud.errors import FencedError
from fraud.store import fence, flips, ids, redis_scripts
from fraud.store import redis_keys as keys
from fraud.store.base import Headroom, Pointer, Store
from fraud.store.redis_client import Arguments, Client
from fraud.store.redis_fitness import check_fitness
from fraud.store.redis_histories import RedisHistories, scan

_LOAD_BATCH = 1_000  # merchants in one command of a load's transaction
_READ_BATCH = 1_000  # merchants in one reply
_THROUGH, _APPLIED = "t", "a"


def open_redis(url: str, *, durability: str) -> Store:
    """Return the store on a Redis server or cluster; one that would lose data is refused.

    `durability` is ``process`` or ``disk``: see `fraud.store.redis_fitness`, also for what a failover can undo.

    Raises:
        ConfigError: the URL or the server's settings, and what would be right.
        ServiceError: no Redis answers there.
    """
    client = Client(url)
    check_fitness(client, durability=durability)

    def headroom() -> list[Headroom]:
        memory = client.primaries("INFO", "memory")
        return [Headroom(at, int(m["used_memory"]), int(m["maxmemory"]) or None) for at, m in memory.items()]

    return Store(
        histories=RedisHistories(client),
        profiles=RedisProfiles(client),
        serving=RedisServing(client),
        close=client.close,
        headroom=headroom,
        url=client.shown,
    )


class RedisProfiles:
    """Merchant profiles and how far they reach, in one hash: one command reads a snapshot."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def through(self) -> int | None:
        """See `fraud.store.base.Profiles.through`."""
        return _number(self._client.run("HGET", keys.MERCHANTS, _THROUGH))

    def read(self, merchants: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `fraud.store.base.Profiles.read`."""
        through, *packed = self._client.run("HMGET", keys.MERCHANTS, _THROUGH, *_fields(merchants))
        return packed, _number(through)

    def applied(self) -> str | None:
        """See `fraud.store.base.Profiles.applied`."""
        raw = self._client.run("HGET", keys.MERCHANTS, _APPLIED)
        return None if raw is None else str(raw, "utf-8")

    def load(self, profiles: Iterable[tuple[str, bytes]], through: int, applied: str | None = None) -> int:
        """See `fraud.store.base.Profiles.load`; one transaction, which the server takes up to 1 GB of."""
        commands: list[Arguments] = []
        rows, loaded = iter(profiles), 0
        while batch := list(islice(rows, _LOAD_BATCH)):
            fields = _fields(merchant for merchant, _ in batch)
            pairs = [part for field, (_, raw) in zip(fields, batch, strict=True) for part in (field, raw)]
            commands.append(["HSET", keys.MERCHANTS, *pairs])
            loaded += len(batch)
        commands.append(["HSET", keys.MERCHANTS, _THROUGH, through])
        marker: Arguments = ["HDEL", keys.MERCHANTS, _APPLIED]
        commands.append(marker if applied is None else ["HSET", keys.MERCHANTS, _APPLIED, applied])
        self._client.batch(commands, atomic=True)
        return loaded

    def apply(
        self,
        changes: Mapping[str, npt.NDArray[np.void]],
        through: int | None,
        *,
        expected: str | None,
        applied: str,
        keep_from: int | None,
    ) -> None:
        """See `fraud.store.base.Profiles.apply`; merged here, written by one script if the marker still stands.

        Whoever writes profiles moves the marker, so an unmoved one says that what was merged is what is stored.
        """
        fence.check_applied(self.applied(), expected)
        fields = _fields(changes)
        stored: list[bytes | None] = []
        for at in range(0, len(fields), _READ_BATCH):
            stored += self._client.run("HMGET", keys.MERCHANTS, *fields[at : at + _READ_BATCH])
        arguments: Arguments = [expected or "", applied, "" if through is None else through]
        for field, raw in zip(fields, profiles.merge(stored, list(changes.values()), keep_from), strict=True):
            arguments += (field, raw)
        if self._client.script(redis_scripts.APPLY, [keys.MERCHANTS], arguments) == 1:
            return
        now = self.applied()
        if now != applied:  # equal: the reply got lost and the script was sent again
            fence.check_applied(now, expected)

    def merchants(self) -> Iterable[tuple[str, bytes]]:
        """See `fraud.store.base.Profiles.merchants`."""
        for field, raw in scan(self._client, keys.MERCHANTS):
            if field.startswith(b"m"):
                yield field[1:].decode(), raw

    def wipe(self) -> None:
        """See `fraud.store.base.Profiles.wipe`."""
        self._client.run("UNLINK", keys.MERCHANTS)


class RedisServing:
    """The model in production; bundle and pointer change in one script."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pointer(self) -> Pointer | None:
        """See `fraud.store.base.Serving.pointer`."""
        flipped = flips.unpack(self._client.run("GET", keys.POINTER))
        return None if flipped is None else flipped.pointer

    def bundle(self, sha256: str) -> bytes:
        """See `fraud.store.base.Serving.bundle`."""
        return flips.check_bundle(self._client.run("HGET", keys.BUNDLES, sha256), sha256)

    def publish(self, bundle: bytes, pointer: Pointer, *, expected_sequence: int) -> None:
        """See `fraud.store.base.Serving.publish`."""
        flips.check_pointer(bundle, pointer)
        raw = self._client.run("GET", keys.POINTER)
        flipped = flips.flip(flips.unpack(raw), pointer, expected_sequence=expected_sequence)
        arguments = [raw or b"", flips.pack(flipped), pointer.sha256, bundle, *sorted(flipped.kept)]
        if self._client.script(redis_scripts.FLIP, [keys.POINTER, keys.BUNDLES], arguments) == 1:
            return
        now = flips.unpack(self._client.run("GET", keys.POINTER))
        if now != flipped:  # equal: the reply got lost and the script was sent again
            flips.flip(now, pointer, expected_sequence=expected_sequence)
            raise FencedError("the serving pointer changed while it was flipped; read it again and decide anew")


def _fields(merchants: Iterable[str]) -> list[bytes]:
    return [b"m" + merchant for merchant in ids.encode("merchant", merchants)]


def _number(raw: bytes | None) -> int | None:
    return None if raw is None else int(raw)
