"""The offline builder: the same features as a stream of micro-batches, and profile changes as the contract says."""

import dataclasses
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import codec, features, history, profiles
from fraud.builder import (
    CHANGES,
    REQUIRED,
    build_features,
    bulk_changes,
    event_table,
    last_quarter,
    pack_histories,
    pack_profiles,
)
from fraud.errors import DataError
from fraud.features import ACCEPTED, CONFLICTING, DUPLICATE, FEATURE_NAMES, INTEGER_FEATURES, MERCHANT_COLUMNS
from fraud.handbook import handbook_labels, read_handbook
from fraud.schema import CHANNELS, Transaction
from fraud.store.memory import open_memory
from fraud.verdicts import merchant_features
from producer.simulate import Config, generate
from tests import reference

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400_000


def as_messages(table: pl.DataFrame) -> list[Transaction]:
    """Return the rows as the decoder would have made them."""
    times = table["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    columns = [
        times if field == "timestamp" else table[field]
        for field in Transaction.__struct_fields__
        if field in table.columns
    ]
    return [Transaction(*row) for row in zip(*(column.to_list() for column in columns), strict=True)]


class Stream:
    """What the score job keeps between micro-batches: packed histories, packed profiles, nothing else."""

    def __init__(self, changes: pl.DataFrame, through: int) -> None:
        self.histories: dict[str, bytes] = {}
        self.store = open_memory()
        self.store.profiles.load(pack_profiles(changes), through)

    def process(self, batch: list[Transaction], digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features, shape (rows, features), and status, shape (rows,), of one micro-batch."""
        codes: dict[str, int] = {}
        who = np.fromiter((codes.setdefault(t.user_id, len(codes)) for t in batch), np.int64, len(batch))
        order = np.argsort(who, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(who, minlength=len(codes)))])
        events = codec.event_columns(batch, digests)
        packed = history.unpack([self.histories.get(user) for user in codes])
        folded = features.fold(events[order], bounds, packed)
        matrix, status = np.empty_like(folded.matrix), np.empty_like(folded.status)
        matrix[order], status[order] = folded.matrix, folded.status
        for i, user in enumerate(codes):
            self.histories[user] = history.pack(int(folded.newest[i]), folded.entries[folded.start[i] : folded.stop[i]])
        accepted = np.flatnonzero(status == ACCEPTED)
        part = matrix[accepted]
        merchant_features(part, [batch[i] for i in accepted], events["time"][accepted], self.store)
        matrix[accepted] = part
        return matrix, status


def disordered(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return the rows in another order of arrival: one in a hundred late by up to two days, some twice."""
    rng = np.random.default_rng(seed)
    count = len(table)
    late = np.where(rng.random(count) < 0.01, rng.integers(0, 2 * DAY, count), 0)
    again = rng.choice(count, count // 500, replace=False)
    arrival = table["timestamp"].dt.epoch("ms").to_numpy() + late
    rows = np.concatenate([np.arange(count), again])
    arrival = np.concatenate([arrival, arrival[again] + rng.integers(0, 3 * DAY, len(again))])
    return table[rows[np.argsort(arrival, kind="stable")]]


def cuts(rng: np.random.Generator, count: int, largest: int) -> list[int]:
    """Return random bounds of micro-batches: sizes from 1 to `largest`, small ones as likely as large ones."""
    sizes = np.exp(rng.uniform(0, np.log(largest), count)).astype(int) + 1
    ends = np.cumsum(sizes)
    return [0, *ends[: np.searchsorted(ends, count)].tolist(), count]


def mismatches(found: np.ndarray, expected: np.ndarray) -> dict[str, int]:
    """Return the number of unequal values per feature: integers exactly, floats to 1e-9, null to null."""
    unequal = {}
    for i, name in enumerate(FEATURE_NAMES):
        a, b = found[:, i], expected[:, i]
        both_null = np.isnan(a) & np.isnan(b)
        tolerance = 0.0 if name in INTEGER_FEATURES else 1e-9 * np.maximum(1.0, np.abs(b))
        differ = ~both_null & ~(np.abs(a - b) <= tolerance)
        if differ.any():
            unequal[name] = int(differ.sum())
    return unequal


def stream_equals_builder(table: pl.DataFrame, labels: pl.DataFrame, seed: int, largest: int) -> np.ndarray:
    """Assert 0 mismatches between a table streamed in micro-batches and built at once; return the matrix."""
    changes = bulk_changes(table, labels)
    built = build_features(table, changes)
    messages = as_messages(table)
    digests = table["digest"].to_numpy() if "digest" in table.columns else np.zeros(len(table), np.uint64)
    stream = Stream(changes, last_quarter(table))
    matrix, status = np.empty_like(built.matrix), np.empty_like(built.status)
    bounds = cuts(np.random.default_rng(seed), len(table), largest)
    for start, stop in pairwise(bounds):
        matrix[start:stop], status[start:stop] = stream.process(messages[start:stop], digests[start:stop])
    np.testing.assert_array_equal(status, built.status)
    assert mismatches(matrix, built.matrix) == {}
    assert not np.isinf(matrix).any()
    assert stream.histories == pack_histories(table)
    return matrix


def test_the_whole_handbook_in_micro_batches_equals_the_builder(shared_data: Path) -> None:
    """1.1 million rows, late and repeated ones among them; labels known seven days later."""
    folder = shared_data / "handbook"
    table = disordered(read_handbook(folder), seed=1)
    matrix = stream_equals_builder(table, handbook_labels(folder, timedelta(days=7)), seed=2, largest=60_000)
    rows = len(read_handbook(folder))
    assert rows > 1_000_000
    assert np.isnan(matrix).all(axis=1).sum() == len(table) - rows  # each repeat was recognised, nothing else
    given_here = [name for i, name in enumerate(FEATURE_NAMES) if (~np.isnan(matrix[:, i])).sum() >= 100]
    unknown = {"country_change_flag", "device_change_flag", "km_since_last_txn", "speed_kmh", "channel"}
    assert set(FEATURE_NAMES) - set(given_here) == unknown | {"merchant_category"}


def test_simulated_events_in_micro_batches_equal_the_builder() -> None:
    simulation = generate(Config(start=START, days=45, users=60, merchants=40, per_day=6.0, seed=3))
    table = disordered(simulation.transactions, seed=4)
    digests = np.random.default_rng(5).integers(0, 3, len(table)).astype(np.uint64)
    table = table.with_columns(pl.Series("digest", digests))  # repeats with the same payload, another, none
    matrix = stream_equals_builder(table, simulation.labels, seed=6, largest=400)
    assert ((~np.isnan(matrix)).sum(axis=0) >= 100).all(), "every feature has to be there a hundred times"


def test_the_builder_equals_the_plain_reference() -> None:
    simulation = generate(Config(start=START, days=50, users=4, merchants=30, per_day=5.0, seed=8))
    table = disordered(simulation.transactions, seed=9)
    changes = bulk_changes(table, simulation.labels)
    built = build_features(table, changes)
    users: dict[str, reference.User] = {}
    by_merchant: dict[str, list[tuple[int, int, int, int]]] = {}
    for merchant, *change in changes.iter_rows():
        by_merchant.setdefault(merchant, []).append((change[0], change[1], change[2], change[3]))
    for i, message in enumerate(as_messages(table)):
        event = reference.Event(
            time=codec.parse_time(message.timestamp),
            amount=message.amount,
            merchant=codec.hash_id(message.merchant_id),
            txn=codec.hash_id(message.transaction_id),
            digest=0,
            device=0 if message.device_id is None else codec.hash_id(message.device_id),
            country=codec.country_code(message.country),
            lat=np.nan if message.latitude is None else message.latitude,
            lon=np.nan if message.longitude is None else message.longitude,
            channel=-1 if message.channel is None else CHANNELS.index(message.channel),
            mcc=-1 if message.merchant_category is None else int(message.merchant_category),
        )
        status, row = users.setdefault(message.user_id, reference.User()).add(event)
        assert built.status[i] == status
        if status == ACCEPTED:
            row |= reference.merchant_features(event.time, by_merchant.get(message.merchant_id, []))
            for column, name in enumerate(FEATURE_NAMES):
                assert built.matrix[i, column] == pytest.approx(row[name], rel=1e-9, abs=1e-9, nan_ok=True), (i, name)
        else:
            assert np.isnan(built.matrix[i]).all()


def transactions(*rows: tuple[str, str, str, int, float]) -> pl.DataFrame:
    """Return a table of (transaction, user, merchant, ms since START, amount)."""
    kinds = dict(zip(REQUIRED, (pl.String, pl.String, pl.String, pl.Int64, pl.Float64), strict=True))
    at = (pl.lit(START) + pl.duration(milliseconds="timestamp")).dt.cast_time_unit("ms")
    return pl.DataFrame(rows, schema=kinds, orient="row").with_columns(at.alias("timestamp"))


def test_a_table_of_the_required_columns_alone_has_nulls_elsewhere() -> None:
    built = build_features(transactions(("t1", "u1", "m1", 0, 5.0), ("t2", "u1", "m1", 60_000, 7.0)), None)
    row = dict(zip(FEATURE_NAMES, built.matrix[1], strict=True))
    assert row["rolling_avg_7d"] == 5.0
    assert row["minutes_since_last_txn"] == 1.0
    assert row["merchant_txn_count_30d"] == 0
    for name in ("country_change_flag", "device_change_flag", "km_since_last_txn", "speed_kmh", "channel"):
        assert np.isnan(row[name]), name


def test_rows_keep_their_places() -> None:
    """Users are folded one after the other; the answer comes in the table's order."""
    table = transactions(*((f"t{i}", f"u{i % 3}", "m", i * 1_000, float(i + 1)) for i in range(30)))
    built = build_features(table, None)
    assert built.matrix[:, 0].tolist() == [float(i + 1) for i in range(30)]
    count = FEATURE_NAMES.index("user_txn_count_30d")
    assert built.matrix[:, count].tolist() == [float(i // 3) for i in range(30)]


def test_a_late_event_reads_what_arrived_before_it_and_nothing_of_its_future() -> None:
    hour = 3_600_000
    table = transactions(("t1", "u", "m", 0, 10.0), ("t2", "u", "m", 5 * hour, 30.0), ("t3", "u", "m", 2 * hour, 50.0))
    late = dict(zip(FEATURE_NAMES, build_features(table, None).matrix[2], strict=True))
    assert late["rolling_avg_7d"] == 10.0
    assert late["user_txn_count_24h"] == 1
    assert late["minutes_since_last_txn"] == 120.0


def test_repeats_have_a_status_and_no_features() -> None:
    table = transactions(
        ("t1", "u", "m", 0, 10.0),
        ("t1", "u", "m", 0, 10.0),  # the same
        ("t1", "u", "m", 0, 11.0),  # another amount
        ("t1", "v", "m", 0, 11.0),  # another user's id
    )
    built = build_features(table, bulk_changes(table, None))
    assert built.status.tolist() == [ACCEPTED, DUPLICATE, CONFLICTING, ACCEPTED]
    assert np.isnan(built.matrix[1:3]).all()


def test_an_empty_table_has_no_features() -> None:
    built = build_features(transactions(), bulk_changes(transactions(), None))
    assert built.matrix.shape == (0, len(FEATURE_NAMES))
    assert pack_histories(transactions()) == {}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_column_is_named(name: str) -> None:
    table = transactions(("t1", "u", "m", 0, 10.0)).drop(name)
    with pytest.raises(DataError, match=rf"lacks {name}"):
        event_table(table)
    with pytest.raises(DataError, match=rf"lacks {name}"):
        build_features(table, None)


def test_a_time_that_is_null_is_counted() -> None:
    table = transactions(("t1", "u", "m", 0, 10.0), ("t2", "u", "m", 0, 10.0))
    table = table.with_columns(pl.when(pl.col("transaction_id") == "t1").then("timestamp").alias("timestamp"))
    with pytest.raises(DataError, match="1 of 2 transactions have no timestamp"):
        build_features(table, None)


@dataclasses.dataclass(frozen=True)
class Past:
    """Transactions (user, id, merchant, quarter) in arrival order, and labels (user, id, verdict, quarter)."""

    arrived: list[tuple[str, str, str, int]]
    labels: list[tuple[str, str, bool, int]]

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        table = transactions(*((t, u, m, q * profiles.QUARTER_MS, 1.0) for u, t, m, q in self.arrived))
        schema = {"user_id": pl.String, "transaction_id": pl.String, "is_fraud": pl.Boolean, "labelled_at": pl.Int64}
        labels = pl.DataFrame([(*r[:3], r[3] * profiles.QUARTER_MS + 7) for r in self.labels], schema, orient="row")
        at = (pl.lit(START) + pl.duration(milliseconds="labelled_at")).dt.cast_time_unit("ms")
        return table, labels.with_columns(at.alias("labelled_at"), pl.lit("elsewhere").alias("merchant_id"))


names = st.sampled_from(["a", "b"])
pasts = st.builds(
    Past,
    st.lists(
        st.tuples(names, st.sampled_from(["t1", "t2", "t3"]), st.sampled_from(["m1", "m2"]), st.integers(0, 6)),
        min_size=1,
        max_size=10,
    ),
    st.lists(
        st.tuples(names, st.sampled_from(["t1", "t2", "t3", "t4"]), st.booleans(), st.integers(0, 9)), max_size=12
    ),
)
FIRST = round(START.timestamp() * 1000) // profiles.QUARTER_MS


@settings(max_examples=120, deadline=None)
@given(pasts)
def test_changes_equal_the_plain_reference(past: Past) -> None:
    expected: Counter[tuple[str, int, int, str]] = Counter()
    known: dict[tuple[str, str], tuple[str, int]] = {}
    for user, txn, merchant, quarter in past.arrived:
        if (user, txn) not in known:  # a repeat counts nothing
            known[user, txn] = (merchant, quarter)
            expected[merchant, quarter, quarter + 2, "transactions"] += 1
    verdicts: dict[tuple[str, str], bool] = {}
    for user, txn, is_fraud, labelled in sorted(past.labels, key=lambda label: label[3]):
        before = verdicts.get((user, txn), False)
        verdicts[user, txn] = is_fraud
        if (user, txn) in known and before != is_fraud:
            merchant, quarter = known[user, txn]  # of the stored transaction, whatever the label says
            expected[merchant, quarter, labelled + 2, "frauds"] += int(is_fraud) - int(before)

    changes = bulk_changes(*past.tables())
    assert dict(changes.schema) == CHANGES
    found: Counter[tuple[str, int, int, str]] = Counter()
    for merchant, quarter, effective, count, frauds in changes.iter_rows():
        assert (merchant, quarter - FIRST, effective - FIRST, "transactions") not in found, "one row per key"
        found[merchant, quarter - FIRST, effective - FIRST, "transactions"] = count
        found[merchant, quarter - FIRST, effective - FIRST, "frauds"] = frauds
    assert {k: n for k, n in found.items() if n} == {k: n for k, n in expected.items() if n}
    assert changes.rows() == sorted(changes.rows())


@settings(max_examples=80, deadline=None)
@given(pasts, st.integers(0, 14))
def test_what_is_effective_is_the_last_verdict_known_by_then(past: Past, quarter: int) -> None:
    """The sum of the changes up to any quarter is what somebody with the labels of that time would count."""
    changes = bulk_changes(*past.tables()).filter(pl.col("effective") <= FIRST + quarter)
    firsts: dict[tuple[str, str], tuple[str, int]] = {}
    for user, txn, merchant, at in past.arrived:
        firsts.setdefault((user, txn), (merchant, at))
    verdicts = {}
    for user, txn, is_fraud, labelled in sorted(past.labels, key=lambda label: label[3]):
        if labelled + profiles.GRACE_QUARTERS <= quarter:
            verdicts[user, txn] = is_fraud
    for merchant in ("m1", "m2"):
        frauds = sum(verdicts.get(key, False) for key, (where, _) in firsts.items() if where == merchant)
        seen = sum(at + profiles.GRACE_QUARTERS <= quarter for where, at in firsts.values() if where == merchant)
        mine = changes.filter(pl.col("merchant_id") == merchant)
        assert (mine["transactions"].sum(), mine["frauds"].sum()) == (seen, frauds)


def test_no_labels_are_as_good_as_none() -> None:
    table, labels = Past([("a", "t1", "m1", 0)], []).tables()
    assert bulk_changes(table, labels).equals(bulk_changes(table, None))


def test_packed_profiles_hold_each_merchants_changes_in_order() -> None:
    table, labels = Past(
        [("a", "t1", "m2", 3), ("a", "t2", "m1", 1), ("b", "t1", "m2", 0)], [("a", "t1", True, 5)]
    ).tables()
    packed = dict(pack_profiles(bulk_changes(table, labels)))
    assert sorted(packed) == ["m1", "m2"]
    unpacked = profiles.unpack([packed["m1"], packed["m2"]])
    assert unpacked.bounds.tolist() == [0, 1, 4]
    rows = [(int(c["quarter"]) - FIRST, int(c["transactions"]), int(c["frauds"])) for c in unpacked.changes]
    assert rows == [(1, 1, 0), (0, 1, 0), (3, 1, 0), (3, 0, 1)]


def test_a_merchant_without_changes_counts_nothing() -> None:
    table = transactions(("t1", "u", "m1", 0, 1.0), ("t2", "u", "m2", 30 * DAY, 1.0), ("t3", "u", "m1", 30 * DAY, 1.0))
    changes = bulk_changes(table[:1], None)
    matrix = build_features(table, changes).matrix[:, MERCHANT_COLUMNS]
    assert matrix[:, 2].tolist() == [0, 0, 1]  # merchant_txn_count_30d
    assert np.isnan(matrix[:2, 3:]).all()
    assert matrix[2, 5] == 0.0


def test_the_last_quarter_is_the_newest_events_not_the_last_ones() -> None:
    table = transactions(("t1", "u", "m", 5 * profiles.QUARTER_MS, 1.0), ("t2", "u", "m", 0, 1.0))
    assert last_quarter(table) == FIRST + 5
