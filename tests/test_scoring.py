"""A slice is decided once: outbox, fence, gap, repeats, and equality with the offline builder."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud import codec, decision
from fraud.builder import build_features, bulk_changes, last_quarter, pack_histories, pack_profiles
from fraud.decision import Model, Slice, Terms
from fraud.errors import FencedError, GapError, ModelError, ServiceError, StateError, StoreError
from fraud.features import FEATURE_NAMES
from fraud.model import Scorer
from fraud.schema import Transaction
from fraud.scoring import Estimate, score_one, score_slice
from fraud.store.base import Answers, Kind, Lease, PartitionKey, Pointer, Store
from fraud.store.memory import open_memory
from tests.models import small_bundle

NOW = codec.parse_time("2026-03-01T12:00:00Z")
KEY = PartitionKey("topic-a", 0)
DAY = 86_400_000


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_memory()
    yield opened
    opened.close()


@pytest.fixture
def lease(store: Store) -> Lease:
    lease = store.histories.acquire("score", "me", host="here", pid=1, now=NOW, ttl=10_000)
    store.histories.start({KEY: 0}, lease)
    return lease


def model(version: str = "1", seed: int = 0) -> Model:
    return Model(Scorer(small_bundle(seed)), Pointer(int(version), "0" * 64, "fraud-detector", version, NOW))


def terms(lease: Lease, **kwargs: object) -> Terms:
    return replace(Terms(lease.epoch, 7 * DAY), **kwargs)  # type: ignore[arg-type]


def transaction(n: int, **changes: object) -> Transaction:
    values: dict[str, object] = {
        "transaction_id": f"t{n}",
        "user_id": f"u{n % 3}",
        "merchant_id": f"m{n % 5}",
        "timestamp": codec.format_time(NOW + n * 60_000),
        "amount": 10.0 + n,
        "currency": "EUR",
        "country": "DE" if n % 4 else None,
        "device_id": f"d{n % 2}",
        "latitude": 52.0 + n % 7,
        "longitude": 13.0,
        "channel": "ecom",
        "merchant_category": "5411",
    }
    return Transaction(**{**values, **changes})  # type: ignore[arg-type]


def messages(transactions: Sequence[Transaction], first: int = 0) -> Slice:
    values = [codec.encode(t) for t in transactions]
    times = [codec.parse_time(t.timestamp) + 50 for t in transactions]
    offsets = np.arange(first, first + len(values))
    keys = [t.user_id.encode() for t in transactions]
    return Slice(KEY, "transactions", offsets, keys, values, np.array(times, np.int64))


def outcomes(answers: Answers) -> list[str]:
    return [
        "prediction" if kind == Kind.PREDICTION else json.loads(value)["reason"]
        for kind, value in zip(answers.kinds, answers.values, strict=True)
    ]


def table(transactions: Sequence[Transaction]) -> pl.DataFrame:
    rows = [msgspec.to_builtins(t) for t in transactions]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("timestamp").str.to_datetime("%+", time_unit="ms", time_zone="UTC")
    )


@pytest.mark.parametrize("users", [1, 2, decision.USERS_AT_ONCE])
def test_slices_of_any_size_equal_the_offline_builder(
    store: Store, lease: Lease, users: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three users: each read and folded alone, two and one, all at once."""
    monkeypatch.setattr(decision, "USERS_AT_ONCE", users)
    rng = random.Random(7)
    stream = [
        transaction(n, timestamp=codec.format_time(NOW + n * 60_000 - rng.choice([0, 0, 3_600_000])))
        for n in range(400)
    ]
    past = [transaction(n, timestamp=codec.format_time(NOW - 7 * DAY + n * 3_600_000)) for n in range(-300, 0)]
    labels = pl.DataFrame(
        {
            "transaction_id": [t.transaction_id for t in past[::4]],
            "user_id": [t.user_id for t in past[::4]],
            "is_fraud": [True] * len(past[::4]),
            "labelled_at": [codec.parse_time(t.timestamp) + DAY for t in past[::4]],
        }
    ).with_columns(pl.col("labelled_at").cast(pl.Datetime("ms", "UTC")))
    store.histories.load(0, pack_histories(table(past)).items())
    changes = bulk_changes(table(past), labels)
    store.profiles.load(pack_profiles(changes), last_quarter(table(stream)))
    published, at = [], 0
    while at < len(stream):
        size = rng.choice([1, 2, 30, 77])
        answers = score_slice(messages(stream[at : at + size], at), store, model(), terms(lease), now_ms=NOW)
        published += [json.loads(value) for value in answers.values]
        at += size
    built = build_features(table([*past, *stream]), changes).matrix[len(past) :]
    streamed = np.array([[row["features"][name] for name in FEATURE_NAMES] for row in published], float)
    np.testing.assert_allclose(streamed, built, rtol=1e-9, atol=0)
    assert np.isfinite(built).sum(axis=0).min() > 50  # every feature was there to be compared
    assert published[5]["rolling_avg_7d"] == published[5]["features"]["rolling_avg_7d"]
    scorer = Scorer(small_bundle())
    np.testing.assert_array_equal([row["fraud_probability"] for row in published], scorer.predict(built))


def test_score_one_says_what_the_stream_will_say(store: Store, lease: Lease) -> None:
    for n in range(12):
        part = messages([transaction(n)], n)
        estimate = score_one(transaction(n), store, Scorer(small_bundle()), partition=0)
        answers = score_slice(part, store, model(), terms(lease), now_ms=NOW)
        assert isinstance(estimate, Estimate)
        said = json.loads(answers.values[0])
        assert said["fraud_probability"] == estimate.probability
        assert said["decision"] == estimate.decision
    repeat = score_one(transaction(3), store, Scorer(small_bundle()), partition=0)
    assert not isinstance(repeat, Estimate)
    assert repeat.reason == "duplicate"


def test_a_replay_gives_the_same_bytes_even_after_a_swap(store: Store, lease: Lease) -> None:
    stream = [transaction(n) for n in range(40)]
    first = score_slice(messages(stream[:30]), store, model("1"), terms(lease), now_ms=NOW)
    again = score_slice(messages(stream[5:40], 5), store, model("2", seed=1), terms(lease), now_ms=NOW + 9)
    assert again.values[:25] == first.values[5:]
    assert again.keys[:25] == first.keys[5:]
    versions = [json.loads(value)["model_version"] for value in again.values]
    assert versions == ["1"] * 25 + ["2"] * 10
    history_before = store.histories.read(0, ["u0", "u1", "u2"])
    score_slice(messages(stream[:40]), store, model("2", seed=1), terms(lease), now_ms=NOW + 10)
    assert store.histories.read(0, ["u0", "u1", "u2"]) == history_before


def test_repeats_are_answered_and_leave_no_trace(store: Store, lease: Lease) -> None:
    stream = [
        transaction(1),
        transaction(1),
        transaction(1, amount=9_999.0),
        transaction(2),
    ]
    answers = score_slice(messages(stream), store, model(), terms(lease), now_ms=NOW)
    assert outcomes(answers) == ["prediction", "duplicate", "conflicting_duplicate", "prediction"]
    later = score_slice(messages([transaction(1), transaction(4)], 4), store, model(), terms(lease), now_ms=NOW)
    assert outcomes(later) == ["duplicate", "prediction"]
    assert json.loads(later.values[1])["features"]["user_txn_count_30d"] == 1  # u1 had one accepted before


def test_clock_rejections_need_the_brokers_time(store: Store, lease: Lease) -> None:
    part = messages([transaction(0), transaction(1), transaction(2)])
    part = replace(part, broker_times=part.broker_times + np.array([0, -11 * 60_000, 8 * DAY]))
    answers = score_slice(part, store, model(), terms(lease), now_ms=NOW)
    assert outcomes(answers) == ["prediction", "future_timestamp", "too_old"]
    replayed = score_slice(
        replace(part, offsets=part.offsets + 3, values=[codec.encode(transaction(n)) for n in (6, 7, 8)]),
        store,
        model(),
        terms(lease, max_age_ms=None),
        now_ms=NOW,
    )
    assert outcomes(replayed)[2] == "prediction"


def test_only_the_culprit_row_suffers(store: Store, lease: Lease) -> None:
    def fault(step: str, ids: Sequence[str]) -> None:
        if step == "features" and "t13" in ids:
            raise ZeroDivisionError("the kernel broke")

    stream = [transaction(n) for n in range(20)]
    answers = score_slice(messages(stream), store, model(), terms(lease, fault=fault), now_ms=NOW)
    assert [n for n, reason in enumerate(outcomes(answers)) if reason != "prediction"] == [13]
    assert outcomes(answers)[13] == "internal_error"
    clean = open_memory()
    other = clean.histories.acquire("score", "me", host="here", pid=1, now=NOW, ttl=10_000)
    clean.histories.start({KEY: 0}, other)
    without = [t for n, t in enumerate(stream) if n != 13]
    expected = score_slice(messages(without), clean, model(), terms(other), now_ms=NOW)
    kept = [json.loads(v)["features"] for n, v in enumerate(answers.values) if n != 13]
    assert kept == [json.loads(v)["features"] for v in expected.values]


@pytest.mark.parametrize("error", [ModelError("no tree"), ServiceError("away"), MemoryError("no memory")])
def test_what_is_no_rows_fault_decides_no_row(store: Store, lease: Lease, error: Exception) -> None:
    def fault(step: str, ids: Sequence[str]) -> None:
        if step == "features":
            raise error

    with pytest.raises(type(error)):
        score_slice(messages([transaction(n) for n in range(3)]), store, model(), terms(lease, fault=fault), now_ms=NOW)
    assert store.histories.positions() == {KEY: 0}
    assert store.histories.read(0, ["u0"]) == [None]


@pytest.mark.parametrize("rows", [8, 9])
def test_where_every_row_fails_alike_none_is_decided(store: Store, lease: Lease, rows: int) -> None:
    """Beside them stands a row that is refused anyway: it says nothing of the kernel."""

    def fault(step: str, ids: Sequence[str]) -> None:
        if step == "features" and ids:
            raise ZeroDivisionError("the kernel broke")

    part = messages([transaction(n) for n in range(rows + 1)])
    part = replace(part, values=[*part.values[:-1], b"{"])
    if rows == 8:
        answers = score_slice(part, store, model(), terms(lease, fault=fault), now_ms=NOW)
        assert outcomes(answers) == ["internal_error"] * 8 + ["not_json"]
        return
    with pytest.raises(StateError, match=r"none of 9 transactions .* version 1 \(ZeroDivisionError: the kernel broke"):
        score_slice(part, store, model(), terms(lease, fault=fault), now_ms=NOW)
    assert store.histories.positions() == {KEY: 0}


@pytest.mark.parametrize("spared", ["one is scored", "one fails differently"])
def test_many_culprits_are_culprits_still(store: Store, lease: Lease, spared: str) -> None:
    def fault(step: str, ids: Sequence[str]) -> None:
        if step == "features" and set(ids) - {"t7"}:
            raise ZeroDivisionError("the kernel broke")
        if step == "features" and ids and spared == "one fails differently":
            raise OverflowError("the kernel broke")

    part = messages([transaction(n) for n in range(20)])
    found = outcomes(score_slice(part, store, model(), terms(lease, fault=fault), now_ms=NOW))
    assert found.count("internal_error") == (19 if spared == "one is scored" else 20)


def test_store_errors_stay_fatal(store: Store, lease: Lease) -> None:
    def fault(step: str, ids: Sequence[str]) -> None:
        raise StoreError("away")

    with pytest.raises(StoreError, match="away"):
        score_slice(messages([transaction(0)]), store, model(), terms(lease, fault=fault), now_ms=NOW)
    assert store.histories.positions() == {KEY: 0}


def test_a_gap_stops_the_job_unless_the_broker_holds_nothing(store: Store, lease: Lease) -> None:
    with pytest.raises(GapError):
        score_slice(messages([transaction(5)], 5), store, model(), terms(lease), now_ms=NOW)
    asked: list[tuple[int, int]] = []
    fine = terms(lease, check_gap=lambda start, end: asked.append((start, end)))
    score_slice(messages([transaction(5)], 5), store, model(), fine, now_ms=NOW)
    assert asked == [(0, 5)]
    assert store.histories.positions() == {KEY: 6}


def test_an_emptied_store_stops_the_job(store: Store, lease: Lease) -> None:
    store.histories.wipe()
    with pytest.raises(GapError, match="fraud-detect rebuild"):
        score_slice(messages([transaction(0)]), store, model(), terms(lease), now_ms=NOW)


def test_a_stale_epoch_writes_nothing(store: Store, lease: Lease) -> None:
    store.histories.acquire("score", "other", host="there", pid=2, now=NOW + 20_000, ttl=10_000)
    with pytest.raises(FencedError):
        score_slice(messages([transaction(0)]), store, model(), terms(lease), now_ms=NOW)
    assert store.histories.positions() == {KEY: 0}
    assert store.histories.read(0, ["u0"]) == [None]


def test_a_fence_that_moved_nothing_is_not_tried_again(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes the lease and hasn't written it down yet: deciding once more would not help."""
    steps: list[str] = []

    def fenced(_commit: object) -> None:
        raise FencedError("the epoch is another one")

    monkeypatch.setattr(store.histories, "commit", fenced)
    counting = terms(lease, fault=lambda step, _ids: steps.append(step))
    with pytest.raises(FencedError, match="the epoch is another one"):
        score_slice(messages([transaction(0)]), store, model(), counting, now_ms=NOW)
    assert steps.count("decided") == 1


def test_a_race_with_our_own_retry_is_answered_from_the_outbox(store: Store, lease: Lease) -> None:
    part = messages([transaction(n) for n in range(5)])
    raced: list[Answers] = []

    def fault(step: str, ids: Sequence[str]) -> None:
        if step == "decided" and not raced:
            raced.append(score_slice(part, store, model("1"), terms(lease), now_ms=NOW))

    answers = score_slice(part, store, model("2", seed=1), terms(lease, fault=fault), now_ms=NOW + 5)
    assert answers.values == raced[0].values


def test_a_rewritten_topic_is_refused(store: Store, lease: Lease) -> None:
    score_slice(messages([transaction(0)]), store, model(), terms(lease), now_ms=NOW)
    with pytest.raises(StoreError, match="isn't the one"):
        score_slice(messages([transaction(0, amount=3.0)]), store, model(), terms(lease), now_ms=NOW)


def test_a_missing_answer_above_the_mark_is_fatal_below_it_is_skipped(store: Store, lease: Lease) -> None:
    stream = [transaction(n) for n in range(4)]
    score_slice(messages(stream[:2]), store, model(), terms(lease), now_ms=NOW)
    score_slice(messages(stream[2:], 2), store, model(), terms(lease), now_ms=NOW + 1)
    store.histories.set_marks({KEY: 2}, lease)
    assert store.histories.trim(lease, committed_before=NOW + 1) == 2
    answers = score_slice(messages(stream), store, model(), terms(lease), now_ms=NOW)
    assert answers.offsets.tolist() == [2, 3]
