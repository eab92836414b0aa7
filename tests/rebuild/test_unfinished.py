"""A load that broke off is seen by whoever comes next, and told apart: another rebuild mends only its own kind."""

from pathlib import Path

import pytest

from fraud.backfill.holding import take
from fraud.errors import StateError
from fraud.lake import open_lake
from fraud.rebuild import rebuild
from fraud.store.memory import open_memory
from fraud.store.unfinished import MARKER, begin_rebuild, broken, unfinished
from tests import servers
from tests.store.slices import NOW


def test_a_rebuild_that_broke_off_is_begun_again() -> None:
    store = open_memory()
    assert (broken(store), unfinished(store)) == (None, None)
    begin_rebuild(store, NOW)
    assert broken(store) == "rebuild"
    assert "run `fraud-detect rebuild` again" in (unfinished(store) or "")
    store.histories.release(begin_rebuild(store, NOW + 1))
    assert unfinished(store) is None


def test_a_backfill_that_broke_off_is_no_past_to_rebuild(tmp_path: Path) -> None:
    store = open_memory()
    settings = servers.settings(tmp_path, store_url="memory:", lake_uri=f"{tmp_path}/lake")
    take(store.histories, MARKER, lambda: NOW, ttl=0)
    assert broken(store) == "backfill"
    with pytest.raises(StateError, match=r"a backfill .* didn't finish: .*backfill DIR --wipe"):
        rebuild(settings, store, open_lake(settings), clock=lambda: NOW)
    assert set(store.histories.leases()) == {MARKER}  # the jobs' are given back
    store.histories.release(begin_rebuild(store, NOW + 1))  # as a backfill with --wipe takes it over
    assert unfinished(store) is None
