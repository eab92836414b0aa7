"""The online store: one protocol (`fraud.store.base`), three implementations; `open_store` chooses by URL."""

from pathlib import Path

from fraud.errors import ConfigError
from fraud.settings import Settings, without_secrets
from fraud.store.base import Store

__all__ = ["Store", "open_store"]


def open_store(settings: Settings) -> Store:
    """Return the store that ``FRAUD_STORE_URL`` names.

    ``memory:``; ``lmdb:`` (under the home), ``lmdb:/path``; ``redis://`` or ``rediss://`` (server or cluster).
    LMDB opens its files with the first use, so a store may be made before a fork and used after it.

    Raises:
        ConfigError: the URL is of no kind that exists, or the Redis server would lose data.
        ServiceError: the Redis server doesn't answer.
    """
    url = settings.store_url
    scheme, colon, rest = url.partition(":")
    if scheme == "memory" and colon:
        from fraud.store.memory import open_memory

        return open_memory()
    if scheme == "lmdb" and colon:
        from fraud.store.lmdb_parts import open_lmdb

        if not rest:
            settings.make_home()
        path = Path(rest) if rest else settings.data / "store"
        return open_lmdb(path, map_mb=settings.store_map_mb, durability=settings.store_durability)
    if scheme in ("redis", "rediss") and rest.startswith("//"):
        from fraud.store.redis_parts import open_redis

        return open_redis(url, durability=settings.store_durability)
    shown = without_secrets(url)
    raise ConfigError(f"FRAUD_STORE_URL={shown!r} is refused: write lmdb:, lmdb:/path, redis://host:port/db or memory:")
