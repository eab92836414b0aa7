"""One client for a Redis server or a Redis Cluster, with its errors translated.

A command whose reply got lost is sent again (redis-py, three times): every script of this store is conditional
on what it replaces, so a second run changes nothing. A pool notices a fork and connects anew in the child.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from fraud.errors import ConfigError, ServiceError, StoreError, StoreFullError
from fraud.settings import without_secrets

_CONNECT_SECONDS = 5.0
_REPLY_SECONDS = 30.0  # a large commit with `appendfsync always` on a slow disk
_RETRIES = 3

Arguments = list[str | bytes | int]


class Client:
    """Runs commands and scripts on a server, or on the shard of a cluster that holds the key."""

    def __init__(self, url: str) -> None:
        """Connect.

        Raises:
            ConfigError: the URL can't be read, or names a database of a cluster.
            ServiceError: no Redis answers there.
        """
        self.shown = without_secrets(url)
        self._redis: Any  # its replies have no useful types
        with self._translated():
            self._redis = _connect(url, self.shown)

    @property
    def is_cluster(self) -> bool:
        """Whether keys of different slots may lie on different servers."""
        return isinstance(self._redis, redis.RedisCluster)

    def run(self, *command: str | bytes | int) -> Any:
        """Return a command's reply."""
        with self._translated():
            return self._redis.execute_command(*command)

    def script(self, source: str, keys: Sequence[str], arguments: Arguments) -> Any:
        """Return a script's reply; the keys share one slot. It is sent by its hash once the server knows it."""
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        with self._translated():
            try:
                return self._redis.execute_command("EVALSHA", sha, len(keys), *keys, *arguments)
            except exceptions.NoScriptError:
                return self._redis.execute_command("EVAL", source, len(keys), *keys, *arguments)

    def batch(self, commands: Sequence[Arguments], *, atomic: bool = False) -> list[Any]:
        """Return the replies of commands sent together; `atomic` ones (keys of one slot) happen all or not at all."""
        if not commands:
            return []
        with self._translated(), self._redis.pipeline(transaction=atomic) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
        return replies

    def primaries(self, *command: str) -> dict[str, Any]:
        """Return the reply of every server that takes writes, by its address."""
        with self._translated():
            if self.is_cluster:
                nodes = self._redis.get_primaries()
                return {node.name: self._redis.execute_command(*command, target_nodes=node) for node in nodes}
            return {urlsplit(self.shown).netloc: self._redis.execute_command(*command)}

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._redis.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exceptions.OutOfMemoryError as exc:
            raise StoreFullError(
                f"Redis at {self.shown} has no memory left; nothing was written. Raise its maxmemory (CONFIG SET "
                "maxmemory), or add shards"
            ) from exc
        except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError) as exc:
            raise ServiceError(
                f"Redis at {self.shown} refuses this user ({exc}); write redis://user:password@host:port/db into "
                "FRAUD_STORE_URL and give the user the commands and keys (fraud:*) of the store"
            ) from exc
        except exceptions.ReadOnlyError as exc:
            raise ServiceError(
                f"Redis at {self.shown} is a replica and takes no writes; name the primary in FRAUD_STORE_URL"
            ) from exc
        except _AWAY as exc:
            raise ServiceError(
                f"Redis at {self.shown} doesn't answer ({exc}); start it, or correct FRAUD_STORE_URL"
            ) from exc
        except exceptions.RedisError as exc:
            if "No space left" in str(exc):
                raise StoreFullError(f"the disk of Redis at {self.shown} is full ({exc}); nothing was written") from exc
            raise StoreError(f"Redis at {self.shown} failed: {exc}") from exc


_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    RedisClusterException,
)


def _connect(url: str, shown: str) -> "redis.Redis | redis.RedisCluster":
    try:
        server: Any = redis.Redis.from_url(url, **_options())
    except ValueError as exc:
        # What can't be read may be part of a password, so that redis-py's own words aren't for showing.
        told = "write redis://host:port/db, with %XX for what isn't a letter or a digit in a password"
        raise ConfigError(f"FRAUD_STORE_URL={shown!r} is refused: {told}") from exc
    database = server.connection_pool.connection_kwargs.get("db") or 0
    refused = f"FRAUD_STORE_URL={shown!r} is refused: no database {database}; a cluster has 0 only"
    try:
        is_cluster = server.execute_command("INFO", "cluster").get("cluster_enabled") == 1
    except exceptions.ResponseError as exc:
        if database and ("DB index" in str(exc) or "SELECT" in str(exc)):
            raise ConfigError(refused) from exc
        raise
    if is_cluster and database:
        raise ConfigError(refused)
    return redis.RedisCluster.from_url(url, **_options()) if is_cluster else server


def _options() -> dict[str, Any]:
    return {
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _REPLY_SECONDS,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), _RETRIES),
    }
