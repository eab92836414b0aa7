"""Without a model a slice is collected: histories go on, nothing is decided, and a replay knows the border."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fraud.errors import StateError, StoreError
from fraud.schema import Transaction
from fraud.scoring import score_slice
from fraud.store.base import Answers, Kind, Lease, Store
from fraud.store.memory import open_memory
from tests.test_scoring import KEY, NOW, lease, messages, model, outcomes, store, terms, transaction

__all__ = ["lease", "store"]  # fixtures

BORDER = 30


def traffic() -> list[Transaction]:
    """Return 60 transactions, a repeat and a conflicting one on each side of the border."""
    stream = [transaction(n) for n in range(60)]
    stream[10], stream[20] = transaction(4), transaction(5, amount=9_999.0)
    stream[40], stream[50] = transaction(7), transaction(8, amount=9_999.0)
    return stream


def run(store: Store, lease: Lease, cuts: Sequence[int], *, border: int) -> list[Answers]:
    """Decide the traffic in slices that end at `cuts`; those before the border without a model."""
    stream, said, start = traffic(), [], 0
    for end in cuts:
        given = None if start < border else model()
        said.append(score_slice(messages(stream[start:end], start), store, given, terms(lease), now_ms=NOW + start))
        start = end
    return said


def users(store: Store) -> dict[str, bytes]:
    return dict(store.histories.users(0))


def test_what_is_collected_has_histories_and_rejections_alone(store: Store, lease: Lease) -> None:
    first, second, third = run(store, lease, [15, 30, 60], border=BORDER)
    assert (first.offsets.tolist(), outcomes(first)) == ([10], ["duplicate"])
    assert (second.offsets.tolist(), outcomes(second)) == ([20], ["conflicting_duplicate"])
    assert outcomes(third).count("prediction") == 28
    assert store.histories.collected(KEY).tolist() == [[0, 10], [11, 20], [21, 30]]
    other = open_memory()
    own = other.histories.acquire("score", "me", host="here", pid=1, now=NOW, ttl=10_000)
    other.histories.start({KEY: 0}, own)
    whole = run(other, own, [60], border=0)[0]
    assert users(store) == users(other)
    theirs = [json.loads(value)["features"] for value in whole.values[30:] if b"features" in value]
    assert [json.loads(value)["features"] for value in third.values if b"features" in value] == theirs


@pytest.mark.parametrize("bounds", [(0, 60), (5, 35), (0, 30), (29, 31), (10, 11), (12, 15), (30, 60)])
def test_a_replay_publishes_what_was_answered_and_nothing_for_the_rest(
    store: Store, lease: Lease, bounds: tuple[int, int]
) -> None:
    said = run(store, lease, [15, 30, 60], border=BORDER)
    before = users(store)
    start, end = bounds
    again = score_slice(messages(traffic()[start:end], start), store, model("2", 1), terms(lease), now_ms=NOW + 999)
    first = {int(at): value for part in said for at, value in zip(part.offsets, part.values, strict=True)}
    expected = {at: value for at, value in first.items() if start <= at < end}
    assert dict(zip(again.offsets.tolist(), again.values, strict=True)) == expected
    assert users(store) == before


def test_a_slice_across_the_border_is_a_replay_and_a_decision(store: Store, lease: Lease) -> None:
    stream = traffic()
    score_slice(messages(stream[:30]), store, None, terms(lease), now_ms=NOW)
    answers = score_slice(messages(stream[5:60], 5), store, model(), terms(lease), now_ms=NOW)
    assert answers.offsets.tolist() == [10, 20, *range(30, 60)]
    assert (answers.kinds[2:] == Kind.PREDICTION).sum() == 28


def test_a_lost_answer_among_collected_offsets_is_still_missed(store: Store, lease: Lease) -> None:
    stream = traffic()
    run(store, lease, [15, 30], border=BORDER)
    store.histories._outbox.clear()  # type: ignore[attr-defined]
    score_slice(messages(stream[:10]), store, model(), terms(lease), now_ms=NOW)
    with pytest.raises(StoreError, match="offset 10 lies below the position"):
        score_slice(messages(stream[:30]), store, model(), terms(lease), now_ms=NOW)


@pytest.mark.parametrize("rows", [3, 9])
def test_only_the_culprit_isnt_collected_unless_all_fail(store: Store, lease: Lease, rows: int) -> None:
    def fault(step: str, ids: Sequence[str]) -> None:
        if step == "features" and (rows == 9 or "t1" in ids) and ids:
            raise ZeroDivisionError("the kernel broke")

    part = messages([transaction(n) for n in range(rows)])
    if rows == 9:
        with pytest.raises(StateError, match=r"none of 9 transactions .* can be collected \(ZeroDivisionError"):
            score_slice(part, store, None, terms(lease, fault=fault), now_ms=NOW)
        assert store.histories.positions() == {KEY: 0}
        return
    answers = score_slice(part, store, None, terms(lease, fault=fault), now_ms=NOW)
    assert (answers.offsets.tolist(), outcomes(answers)) == ([1], ["internal_error"])
    assert store.histories.collected(KEY).tolist() == [[0, 1], [2, 3]]


def test_nothing_accepted_collects_nothing(store: Store, lease: Lease) -> None:
    part = messages([transaction(n) for n in range(3)])
    part = replace(part, values=[b"{", None, b"[]"])
    answers = score_slice(part, store, None, terms(lease), now_ms=NOW)
    assert outcomes(answers) == ["not_json", "null_value", "schema"]
    assert store.histories.collected(KEY).tolist() == []
    assert np.array_equal(answers.offsets, part.offsets)
    assert store.histories.positions() == {KEY: 3}
