"""The index against a dict, and the offsets that were seen against a set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.archive.index import PAGE, Index, Seen, keys_of

KIND = np.dtype([("value", "<i8")])
RUNS = st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers()).map(lambda p: (p[0], p[1] % 1000)), max_size=30))


@pytest.mark.parametrize("keep", ["first", "last"])
@given(runs=RUNS)
def test_an_index_is_a_dict(keep: str, runs: list[list[tuple[int, int]]]) -> None:
    index, model = Index(KIND, keep=keep), {}  # type: ignore[arg-type]
    for run in runs:
        index.add(np.array([key for key, _ in run], np.uint64), np.array([(value,) for _, value in run], KIND))
        for key, value in run:
            if keep == "last" or key not in model:
                model[key] = value
    keys = np.arange(60, dtype=np.uint64)
    found, rows = index.find(keys)
    assert {int(key): int(row["value"]) for key, row, there in zip(keys, rows, found, strict=True) if there} == model


def test_runs_stay_few() -> None:
    index = Index(KIND, keep="last")
    for n in range(500):
        index.add(np.arange(n * 10, n * 10 + 10, dtype=np.uint64), np.zeros(10, KIND))
    assert len(index) == 5_000
    assert len(index._runs) < 12


@given(st.lists(st.lists(st.sampled_from([0, 1, 5, PAGE - 1, PAGE, PAGE + 3, 3 * PAGE]))))
def test_an_offset_is_new_once(batches: list[list[int]]) -> None:
    seen, model = Seen(), set()
    for batch in batches:
        new = seen.add("t", 0, np.array(batch, np.int64))
        for offset, is_new in zip(batch, new.tolist(), strict=True):
            assert is_new == (offset not in model)
            model.add(offset)
    end = 3 * PAGE + 2
    assert set(range(end)) - set(seen.missing("t", 0, 0, end).tolist()) == model
    assert seen.missing("t", 1, 5, 9).tolist() == [5, 6, 7, 8]
    assert seen.missing("t", 1, 5, 5).tolist() == []


def test_a_key_is_of_user_and_transaction() -> None:
    keys = keys_of(["a", "ab", "a"], ["bc", "c", "bc"])
    assert keys[0] == keys[2] != keys[1]
