"""Whether a Redis server may be the online store: it must never evict, and keep what it acknowledged.

What may still be lost, by `FRAUD_STORE_DURABILITY`:

* ``process``: what the server's own persistence loses. With ``appendonly yes, appendfsync everysec`` up to the
  last second at a power cut, nothing when only a process dies; without append-only file everything since the
  last snapshot at every restart (opening warns of it).
* ``disk``: nothing at a power cut of a single server: each commit waits for its disk (``appendfsync always``).

Either way a **failover** can undo the last commits of a shard: replication is asynchronous. A partition's
position, histories and outbox lie in one slot, so they go back together and stay consistent with each other;
what was published meanwhile is then beyond the store's position. The job notices a slice that begins beyond the
position (GapError), else it decides the undone offsets once more and publishes a second answer for them.
A lease's record may go back as well: `acquire` then never reuses an epoch that a partition has seen.
"""

import logging

from fraud.errors import ConfigError, ServiceError, StoreError
from fraud.store.redis_client import Client

_LOG = logging.getLogger(__name__)
_POLICY, _APPEND, _FSYNC = "maxmemory-policy", "appendonly", "appendfsync"


def check_fitness(client: Client, *, durability: str) -> None:
    """Refuse servers that would lose histories or answers.

    Raises:
        ConfigError: a server evicts, or doesn't write what `durability` promises.
        ServiceError: a server is away.
    """
    for address, found in _settings(client).items():
        if found[_POLICY] != "noeviction":
            raise ConfigError(
                f"Redis at {address} has {_POLICY} {found[_POLICY]}: it would forget histories when it is full. "
                f"Set `{_POLICY} noeviction`, or name another server in FRAUD_STORE_URL"
            )
        if found[_APPEND] != "yes":
            if durability == "disk":
                raise ConfigError(
                    f"Redis at {address} has {_APPEND} {found[_APPEND]}, but FRAUD_STORE_DURABILITY is disk. "
                    f"Set `{_APPEND} yes` and `{_FSYNC} always`"
                )
            _LOG.warning(
                "Redis at %s has no append-only file: a restart loses what came after its last snapshot. "
                "Set `appendonly yes`",
                address,
            )
        elif durability == "disk" and found[_FSYNC] != "always":
            raise ConfigError(
                f"Redis at {address} has {_FSYNC} {found[_FSYNC]}, but FRAUD_STORE_DURABILITY is disk: a power cut "
                f"would lose commits. Set `{_FSYNC} always`, or FRAUD_STORE_DURABILITY=process"
            )


def _settings(client: Client) -> dict[str, dict[str, str]]:
    """Return the three settings of every server; managed ones that hide CONFIG tell two of them by INFO."""
    found: dict[str, dict[str, str]] = {}
    try:
        for name in (_POLICY, _APPEND, _FSYNC):
            for address, reply in client.primaries("CONFIG GET", name).items():
                found.setdefault(address, {})[name] = str(reply.get(name, "unknown"))
    except (ServiceError, StoreError):
        persistence = client.primaries("INFO", "persistence")
        for address, memory in client.primaries("INFO", "memory").items():
            found[address] = {
                _POLICY: str(memory.get("maxmemory_policy", "unknown")),
                _APPEND: "yes" if persistence[address].get("aof_enabled") == 1 else "no",
                _FSYNC: "unknown",
            }
    return found
