"""One LMDB environment, opened lazily and anew in every process, with its errors translated.

An environment must not be used through a fork, nor be opened twice in one process (lmdb.h, caveats), so the
open ones are kept per process and path. Durability:

* ``process``: no fsync. A commit survives the death of any process, kill -9 included, since it is in the
  operating system's cache. A power cut or a kernel crash can lose the last commits **and** damage the file:
  then delete the store's directory and make it anew with ``fraud-detect rebuild``.
* ``disk``: every commit waits for the disk. It survives a power cut as far as the disk keeps its word.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from fraud.errors import StoreError, StoreFullError
from fraud.store.base import Headroom

_LOG = logging.getLogger(__name__)
_WARN_AT = 0.8
_MAX_READERS = 512


class _Opened:
    """An environment of this process and how many stores use it."""

    def __init__(self, env: lmdb.Environment, inode: int) -> None:
        self.env, self.inode, self.users, self.warned = env, inode, 0, False
        # LMDB's own lock waits for other processes; to a second thread of this one py-lmdb says "busy".
        self.writing = threading.Lock()


_opened: dict[tuple[int, Path], _Opened] = {}
_lock = threading.Lock()


def _forget_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that held it doesn't exist in the child


os.register_at_fork(after_in_child=_forget_lock)


class Environment:
    """A part of the store in a directory of its own; the handle opens with the first transaction."""

    def __init__(self, path: Path, *, part: str, map_mb: int, sync: bool) -> None:
        self._path, self._part, self._map_mb, self._sync = path, part, map_mb, sync
        self._mine: tuple[int, _Opened] | None = None  # with the pid that opened it

    @contextmanager
    def read(self, *, buffers: bool = False) -> Iterator[lmdb.Transaction]:
        """Begin a read transaction: one snapshot. With `buffers` values are views that end with it.

        Raises:
            StoreError: the environment can't be opened or read, or was replaced under this process.
        """
        with self._translated(), self._begin(self._open(), write=False, buffers=buffers) as txn:
            yield txn

    @contextmanager
    def write(self) -> Iterator[lmdb.Transaction]:
        """Begin a write transaction, one at a time over all threads and processes; an exception takes it all back.

        Raises:
            StoreFullError: the map or the disk is full; nothing was written.
            StoreError: as `read`.
        """
        with self._translated():
            opened = self._open()
            with opened.writing, self._begin(opened, write=True) as txn:
                yield txn
            if not opened.warned:
                self._warn(opened)

    def below(self, name: str) -> "Environment":
        """Return another environment of the same part, in a folder of its own inside this one's."""
        return Environment(self._path / name, part=self._part, map_mb=self._map_mb, sync=self._sync)

    def names_below(self) -> list[str]:
        """Return the names of the folders of those that exist."""
        return sorted(folder.name for folder in self._path.iterdir() if folder.is_dir()) if self._path.exists() else []

    def empty(self, txn: lmdb.Transaction) -> None:
        """Delete everything within a write transaction."""
        txn.drop(self._open().env.open_db(None, txn), delete=False)

    def headroom(self) -> Headroom:
        """Return the bytes of live pages and the map's size; the free list isn't counted."""
        with self._translated():
            return self._measure(self._open().env)

    def check_readers(self) -> None:
        """Free the slots of readers that were killed: each pins every page written since its snapshot."""
        with self._translated():
            self._open().env.reader_check()

    def close(self) -> None:
        """Close the handle when no other store of this process uses it; safe to call twice."""
        with _lock:
            if self._mine is None or self._mine[0] != os.getpid():
                return
            opened, self._mine = self._mine[1], None
            opened.users -= 1
            if opened.users == 0:
                if _opened.get((os.getpid(), self._path)) is opened:
                    del _opened[os.getpid(), self._path]
                opened.env.close()

    def _open(self) -> _Opened:
        pid = os.getpid()
        if self._mine is None or self._mine[0] != pid:
            with _lock:
                if self._mine is None or self._mine[0] != pid:  # another thread may have been first
                    key = (pid, self._path)
                    known = _opened.get(key)
                    if known is None or known.inode != _inode(self._path):
                        _opened[key] = self._connect()
                    _opened[key].users += 1
                    self._mine = (pid, _opened[key])
        opened = self._mine[1]
        if _inode(self._path) != opened.inode:
            raise StoreError(
                f"the store in {self._path} was removed or replaced while this process used it: "
                "stop the jobs; `fraud-detect rebuild` makes the store anew"
            )
        return opened

    def _connect(self) -> _Opened:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{self._path} can't be made a directory ({exc}); set FRAUD_STORE_URL") from exc
        env = lmdb.open(
            str(self._path),
            map_size=self._map_mb << 20,
            mode=0o600,
            sync=self._sync,
            max_readers=_MAX_READERS,
            max_spare_txns=4,
        )
        env.reader_check()  # see check_readers
        return _Opened(env, _inode(self._path))

    @staticmethod
    def _begin(opened: _Opened, *, write: bool, buffers: bool = False) -> lmdb.Transaction:
        try:
            return opened.env.begin(write=write, buffers=buffers)
        except lmdb.MapResizedError:  # another process runs with a larger map
            opened.env.set_mapsize(0)
            return opened.env.begin(write=write, buffers=buffers)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except lmdb.MapFullError as exc:
            raise StoreFullError(
                f"the store's {self._part} have no room left in {self._map_mb} MB ({self._path}); nothing "
                f"was written. Set FRAUD_STORE_MAP_MB higher and start again"
            ) from exc
        except lmdb.DiskError as exc:
            raise StoreFullError(f"the disk of {self._path} is full; nothing was written") from exc
        except lmdb.BadValsizeError as exc:
            raise StoreError(f"a key or a value has a size that {self._path} can't hold: {exc}") from exc
        except lmdb.Error as exc:
            raise StoreError(
                f"the store in {self._path} failed: {exc}. If the file is damaged, stop the job, delete "
                "the directory and run `fraud-detect rebuild`"
            ) from exc

    def _measure(self, env: lmdb.Environment) -> Headroom:
        stat = env.stat()
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return Headroom(self._part, pages * stat["psize"], env.info()["map_size"])

    def _warn(self, opened: _Opened) -> None:
        room = self._measure(opened.env)
        if room.limit is not None and room.used >= _WARN_AT * room.limit:
            opened.warned = True
            _LOG.warning(
                "the store's %s fill %d of %d MB in %s; set FRAUD_STORE_MAP_MB higher before it is full",
                *(self._part, room.used >> 20, room.limit >> 20, self._path),
            )


def _inode(path: Path) -> int:
    try:
        return os.stat(f"{path}/data.mdb").st_ino  # noqa: PTH116  # with every transaction: pathlib costs twice
    except OSError:
        return -1
