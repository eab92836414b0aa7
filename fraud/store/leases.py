"""The rules of a lease: who may take it, and who still holds it. Stores only keep the record.

A lease's epoch grows with every new holder, also after a release, so a commit that carries an older epoch is
recognised as an orphan's (a fencing token: Kleppmann, Designing Data-Intensive Applications, chapter 8).
"""

import socket
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fraud.errors import FencedError, StoreError
from fraud.store.base import Lease

SCORE = "score"  # the lease whose epoch fences commits, positions, marks and trimming
ARCHIVE = "archive"  # the lease of who writes merchant profiles


class Held(msgspec.Struct, frozen=True):
    """What a store keeps of a lease; `released` ones stay for their epoch."""

    owner: str
    epoch: int
    expires_at: int
    host: str
    pid: int
    started: str  # identity of the process beyond its pid, empty where it can't be told
    since: int  # ms: when this holder took it
    released: bool = False

    def lease(self, name: str) -> Lease:
        """Return what the holder works with."""
        return Lease(name, self.owner, self.epoch, self.expires_at, self.host, self.pid)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Held)


def pack(held: Held) -> bytes:
    """Return the record's bytes."""
    return _ENCODER.encode(held)


def unpack(raw: bytes | None) -> Held | None:
    """Return the record, None for None; StoreError if the bytes aren't one."""
    if raw is None:
        return None
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError as exc:
        raise StoreError(
            f"a lease's record can't be read ({exc}): the store is damaged; delete it and run `fraud-detect rebuild`"
        ) from exc


def take(name: str, held: Held | None, *, owner: str, host: str, pid: int, now: int, ttl: int) -> Held:
    """Return the record of the lease in the hands of `owner`; times in ms.

    Raises:
        FencedError: somebody else holds it, it hasn't expired, and its holder isn't known to be dead.
    """
    if held is None or held.released:
        epoch, since = (0 if held is None else held.epoch) + 1, now
    elif held.owner == owner:
        epoch, since = held.epoch, held.since
    elif held.expires_at <= now or died(held):
        epoch, since = held.epoch + 1, now
    else:
        raise FencedError(
            f"the lease `{name}` is held by pid {held.pid} on {held.host} since {_utc(held.since)}: "
            f"stop that job first, or wait until the lease expires in {(held.expires_at - now) / 1000:.0f} s"
        )
    return Held(owner, epoch, now + ttl, host, pid, process_identity(host, pid), since)


def prolong(held: Held | None, lease: Lease, *, now: int, ttl: int) -> Held:
    """Return the record with a later end; FencedError if the lease has gone."""
    return msgspec.structs.replace(require(held, lease), expires_at=now + ttl)


def require(held: Held | None, lease: Lease) -> Held:
    """Return the record if it is the lease's; FencedError if somebody else took it or it was given back."""
    if held is not None and not held.released and (held.owner, held.epoch) == (lease.owner, lease.epoch):
        return held
    now_with = "nobody" if held is None or held.released else f"pid {held.pid} on {held.host}"
    raise FencedError(
        f"the lease `{lease.name}` of epoch {lease.epoch} is lost, it is now with {now_with}: "
        "this job must stop and write nothing more"
    )


def require_score(lease: Lease) -> None:
    """Raise StoreError unless the lease is the one that fences positions, marks and the outbox."""
    if lease.name != SCORE:
        raise StoreError(f"positions, marks and outbox belong to the lease `{SCORE}`, not to `{lease.name}`")


def give_back(held: Held | None, lease: Lease) -> Held | None:
    """Return the record as released, None if there is nothing of ours to release."""
    try:
        return msgspec.structs.replace(require(held, lease), released=True)
    except FencedError:
        return None


def died(held: Held) -> bool:
    """Tell whether the holder ran on this machine and surely runs no more (its pid may have been reused).

    Of another boot nothing is known: it may be this machine's last one, or another machine of the same name.
    """
    if not held.started or held.host != socket.gethostname():
        return False
    boot, namespace, _ = held.started.split("/")
    own_boot, own_namespace = _machine()
    return (boot, namespace) == (own_boot, own_namespace) and process_identity(held.host, held.pid) != held.started


def process_identity(host: str, pid: int) -> str:
    """Return boot, pid namespace and start time of a living process on this machine, else an empty string.

    Read from ``/proc`` (proc(5)); elsewhere it is empty, and a dead holder's lease just expires.
    """
    if host != socket.gethostname():
        return ""
    try:
        boot, namespace = _machine()
        # The name, in parentheses, may contain spaces and parentheses itself.
        state, *rest = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{boot}/{namespace}/{rest[18]}"


def _machine() -> tuple[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, str(Path("/proc/self/ns/pid").stat().st_ino)


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
