"""The simulator: always the same for a seed, fast, and what it promises about people, fraud and labels."""

import hashlib
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fraud.codec import decode_label, decode_transaction
from fraud.errors import ConfigError, DataError
from fraud.schema import Label, Transaction
from fraud.validation import validator
from producer import tables
from producer.scenarios import SCENARIOS, choose, scenario
from producer.simulate import Config, Simulation, generate, make_world

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [each.name for each in SCENARIOS]


def config(**changes: Any) -> Config:
    given: dict[str, Any] = {"start": START, "days": 20, "users": 400, "merchants": 100, "seed": 11}
    return Config(**(given | changes))


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """Ninety thousand transactions of three thousand users."""
    return generate(Config(start=START, days=20, users=3_000, merchants=400, per_day=1.5, seed=5))


@pytest.fixture(scope="module")
def million() -> tuple[Simulation, float]:
    """A million transactions, and how many seconds they took."""
    started = time.perf_counter()
    made = generate(Config(start=START, days=90, users=5_600, merchants=1_000, per_day=2.0, seed=1))
    return made, time.perf_counter() - started


def messages(table: pl.DataFrame, *times: str) -> list[dict[str, Any]]:
    """Return rows as they are sent: times as text."""
    return table.with_columns(pl.col(*times).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")).to_dicts()


def digest(simulation: Simulation) -> str:
    """Return a digest of the three tables' bytes on disk."""
    hashed = hashlib.sha256()
    for name in tables.SCHEMAS:
        buffer = io.BytesIO()
        getattr(simulation, name).write_parquet(buffer, compression="zstd")
        hashed.update(buffer.getvalue())
    return hashed.hexdigest()


def joined(simulation: Simulation) -> pl.DataFrame:
    return simulation.transactions.join(simulation.truth, on="transaction_id")


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    small = "Config(start=datetime(2026, 1, 1, tzinfo=UTC), days=20, users=400, merchants=100, seed=11)"
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from producer.simulate import Config, generate; from producer.tables import write_tables\n"
        f"write_tables(generate({small}), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "other"], cwd=ROOT, check=True)
    tables.write_tables(generate(config()), tmp_path / "here")
    for name in tables.SCHEMAS:
        here, other = ((tmp_path / which / f"{name}.parquet").read_bytes() for which in ("here", "other"))
        assert here == other, name


def test_another_seed_gives_other_people_and_events() -> None:
    assert digest(generate(config())) == digest(generate(config()))
    assert digest(generate(config())) != digest(generate(config(seed=12)))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = generate(config())
    paths = tables.write_tables(made, tmp_path / "deep" / "down")
    assert set(paths) == set(tables.SCHEMAS)
    assert tables.has_tables(tmp_path / "deep" / "down")
    for name in tables.SCHEMAS:
        assert tables.read_table(tmp_path / "deep" / "down", name).equals(getattr(made, name))


def test_a_million_takes_a_minute_at_most(million: tuple[Simulation, float]) -> None:
    made, seconds = million
    assert len(made.transactions) >= 1_000_000
    assert seconds < 60


def test_tables_have_their_columns_and_types(simulation: Simulation) -> None:
    for name, schema in tables.SCHEMAS.items():
        table: pl.DataFrame = getattr(simulation, name)
        assert dict(table.schema) == schema, name


def test_an_event_says_nothing_of_its_label(simulation: Simulation) -> None:
    assert simulation.transactions.columns == list(Transaction.__struct_fields__)
    for column in simulation.transactions.columns:
        for word in ("fraud", "scenario", "label", "truth"):
            assert word not in column
    # Nor does a name: the columns that could carry one look the same for frauds and honest events.
    rows = joined(simulation)
    for column, pattern in (("transaction_id", r"^t\d{9}$"), ("device_id", r"^d\d+$"), ("user_id", r"^u\d{8}$")):
        assert rows[column].drop_nulls().str.contains(pattern).all(), column
    frauds = rows.with_row_index("at").filter("is_fraud")["at"].to_numpy() / len(rows)
    assert abs(frauds.mean() - 0.5) < 0.1  # ids are counted in arrival order, so frauds are among them everywhere


def test_every_row_is_a_valid_message(simulation: Simulation) -> None:
    checks = {"transactions": validator("transaction"), "labels": validator("label")}
    sample = simulation.transactions.sample(400, seed=1)
    for message in messages(sample, "timestamp"):
        checks["transactions"].validate(message)
    for message in messages(simulation.labels.sample(200, seed=1), "timestamp", "labelled_at"):
        checks["labels"].validate(message)


def test_every_row_is_taken_by_the_codec(simulation: Simulation) -> None:
    for message in messages(simulation.transactions[:20_000], "timestamp"):
        got = decode_transaction(json.dumps(message).encode(), message["user_id"].encode())
        assert isinstance(got, Transaction), (message, got)
    for message in messages(simulation.labels, "timestamp", "labelled_at"):
        assert isinstance(decode_label(json.dumps(message).encode(), message["user_id"].encode()), Label)


def test_ids_are_unique_and_counted_in_arrival_order(simulation: Simulation) -> None:
    ids = simulation.transactions["transaction_id"]
    assert ids.n_unique() == len(ids)
    assert ids.is_sorted()
    assert simulation.truth["transaction_id"].equals(ids)


def test_times_lie_in_the_simulated_days_and_some_arrive_late(simulation: Simulation) -> None:
    times = simulation.transactions["timestamp"].dt.epoch("ms").to_numpy()
    first = round(START.timestamp() * 1000)
    assert first <= times.min()
    assert times.max() < first + 20 * 86_400_000
    behind = (np.maximum.accumulate(times) - times) / 60_000  # minutes behind the newest seen
    assert 0.002 < (behind > 1).mean() < 0.02
    assert behind.max() < 6 * 60 + 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fraud_is_half_to_one_percent(seed: int) -> None:
    made = generate(Config(start=START, days=30, users=2_000, merchants=400, per_day=1.5, seed=seed))
    assert 0.005 <= made.truth["is_fraud"].mean() <= 0.01  # type: ignore[operator]


def test_every_scenario_happens_and_is_named_in_the_truth_alone(simulation: Simulation) -> None:
    counts = dict(simulation.truth["scenario"].value_counts().iter_rows())
    assert set(counts) == {None, *NAMES}
    assert all(counts[name] >= 50 for name in NAMES), counts
    assert simulation.truth.filter(pl.col("is_fraud") != pl.col("scenario").is_not_null()).is_empty()


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_switched_off_without_moving_the_others(name: str) -> None:
    def contents(made: Simulation) -> pl.DataFrame:
        return (
            joined(made)
            .drop("transaction_id", "country", "merchant_category", "device_id")
            .filter(pl.col("scenario").ne_missing(name))
        )

    everything = ["user_id", "merchant_id", "timestamp", "amount", "scenario"]
    whole = generate(config())
    without = generate(config(scenarios=choose([], [name])))
    assert name in set(whole.truth["scenario"])
    assert name not in set(without.truth["scenario"])
    assert contents(whole).sort(everything).equals(contents(without).sort(everything))
    alone = generate(config(scenarios=choose([name], [])))
    assert set(alone.truth["scenario"]) == {None, name}


def test_no_scenario_means_no_fraud() -> None:
    made = generate(config(scenarios=()))
    assert not made.truth["is_fraud"].any()
    assert made.labels.is_empty()
    assert dict(made.labels.schema) == tables.SCHEMAS["labels"]


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_begins_on_its_day(name: str) -> None:
    made = generate(config(users=1_500, scenarios=choose([f"{name}@12"], [])))
    frauds = joined(made).filter("is_fraud")
    assert len(frauds) >= 10
    assert frauds["timestamp"].min() >= START + timedelta(days=12)  # type: ignore[operator]


def test_scenarios_look_like_what_they_are_called(million: tuple[Simulation, float]) -> None:
    rows = joined(million[0])
    home = rows.filter(~pl.col("is_fraud")).group_by("user_id").agg(pl.col("country").mode().first().alias("home"))
    rows = rows.join(home, on="user_id")
    by = {name: rows.filter(pl.col("scenario") == name) for name in NAMES}
    honest = rows.filter(~pl.col("is_fraud"))

    def share(table: pl.DataFrame, condition: pl.Expr) -> float:
        return float(table.select(condition.mean()).item())

    abroad = pl.col("country") != pl.col("home")
    assert share(by["stolen_card"], abroad) > 0.6 > 0.1 > share(honest, abroad)
    assert set(by["stolen_card"]["channel"]) <= {"pos", "atm"}
    assert set(by["card_testing"]["channel"]) == {"ecom"}
    assert share(by["card_testing"], pl.col("amount") < 25) > 0.5
    assert set(by["account_takeover"]["channel"]) <= {"transfer", "ecom"}
    known = {(user, device) for user, device in honest.select("user_id", "device_id").iter_rows() if device}
    took_over = [(u, d) in known for u, d in by["account_takeover"].select("user_id", "device_id").iter_rows() if d]
    assert np.mean(took_over) < 0.3  # from a new device
    hit = by["merchant_compromise"]["merchant_id"]
    assert hit.n_unique() < len(hit) / 3  # the same merchants again and again


def test_a_fake_shop_is_new_and_gone_within_a_week_and_its_victims_do_as_always(
    million: tuple[Simulation, float],
) -> None:
    rows = joined(million[0])
    frauds, honest = rows.filter(pl.col("scenario") == "fake_shops"), rows.filter(~pl.col("is_fraud"))
    assert len(frauds) > 1_000
    shops = frauds.group_by("merchant_id").agg(pl.col("timestamp").max() - pl.col("timestamp").min(), pl.len())
    assert shops["timestamp"].max() < timedelta(days=7)  # type: ignore[operator]
    assert 5 < shops["len"].mean() < 40  # type: ignore[operator]
    assert not set(shops["merchant_id"]) & set(honest["merchant_id"])
    assert set(frauds["channel"]) == {"ecom"}
    known = set(honest.select("user_id", "device_id").drop_nulls().iter_rows())
    own = [pair in known for pair in frauds.select("user_id", "device_id").drop_nulls().iter_rows()]
    assert np.mean(own) > 0.9
    # By the clock, the price and the name of the shop they are purchases like others.
    online = honest.filter(pl.col("merchant_category").is_in(frauds["merchant_category"].unique().implode()))
    for column in (pl.col("amount").log(), pl.col("timestamp").dt.hour()):
        theirs, ours = frauds.select(column).to_series().to_numpy(), online.select(column).to_series().to_numpy()
        assert abs(theirs.mean() - ours.mean()) < 0.5 * ours.std()
    assert rows["merchant_id"].str.contains(r"^m\d{7}$").all()


def test_honest_merchants_change_hands_and_their_customers_stay(million: tuple[Simulation, float]) -> None:
    honest = joined(million[0]).filter(~pl.col("is_fraud"))
    lives = honest.group_by("merchant_id").agg(
        pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"), pl.len()
    )
    begun = lives.filter((pl.col("first") > START + timedelta(days=20)) & (pl.col("len") > 50))
    ended = lives.filter((pl.col("last") < START + timedelta(days=70)) & (pl.col("len") > 50))
    assert len(begun) > 20
    assert len(ended) > 20
    first = honest.filter(pl.col("timestamp") < pl.col("timestamp").min().over("merchant_id") + timedelta(days=7))
    young = first.filter(pl.col("timestamp") > START + timedelta(days=40))
    # New is not fraudulent: in a week there is more honest trade with new merchants than fraud in fake shops.
    weekly = len(joined(million[0]).filter(pl.col("scenario") == "fake_shops")) / 90 * 7
    assert len(young) / 50 * 7 > weekly


def test_users_have_a_home_devices_and_a_rhythm(simulation: Simulation) -> None:
    honest = joined(simulation).filter(~pl.col("is_fraud"))
    busy = honest.filter(pl.len().over("user_id") >= 20)
    per_user = busy.group_by("user_id").agg(
        (pl.col("country") == pl.col("country").mode().first()).mean().alias("at_home"),
        pl.col("currency").n_unique().alias("currencies"),
        pl.col("device_id").drop_nulls().n_unique().alias("devices"),
        pl.col("amount").log().std().alias("spread"),
        pl.col("merchant_id").n_unique().truediv(pl.len()).alias("new_merchants"),
    )
    assert per_user["at_home"].median() > 0.9  # type: ignore[operator]
    assert per_user["currencies"].max() == 1
    assert per_user["devices"].max() <= 4  # type: ignore[operator]
    assert per_user["devices"].mean() > 1.2  # type: ignore[operator]
    assert per_user["new_merchants"].mean() < 0.8  # type: ignore[operator]
    # The median amount differs between users by more than chance: they have levels of their own.
    halves = busy.with_columns((pl.int_range(pl.len()).over("user_id") % 2).alias("half"))
    medians = halves.group_by("user_id", "half").agg(pl.col("amount").log().mean()).pivot("half", values="amount")
    assert np.corrcoef(medians["0"], medians["1"])[0, 1] > 0.3
    hours = honest["timestamp"].dt.hour().value_counts().sort("timestamp")["count"].to_numpy()
    assert hours.max() > 4 * hours.min()  # nights are quiet


def test_merchants_keep_their_place_and_trade(simulation: Simulation) -> None:
    till = simulation.transactions.filter((pl.col("channel") == "pos") & pl.col("latitude").is_not_null())
    per_merchant = simulation.transactions.group_by("merchant_id").agg(
        pl.col("merchant_category").drop_nulls().n_unique().alias("categories")
    )
    assert per_merchant["categories"].max() == 1
    assert len(till) > 1_000
    remote = simulation.transactions.filter(pl.col("channel").is_in(["ecom", "transfer"]))
    assert remote["device_id"].null_count() < len(remote) / 10
    unknown = {
        name: simulation.transactions[name].null_count() for name in ("country", "merchant_category", "latitude")
    }
    assert all(0 < count < len(simulation.transactions) / 2 for count in unknown.values()), unknown


def test_labels_come_late_and_a_few_are_wrong(simulation: Simulation) -> None:
    labels = simulation.labels.with_row_index("at").join(simulation.truth, on="transaction_id", suffix="_truth")
    assert simulation.labels["labelled_at"].is_sorted()
    delay = (labels["labelled_at"] - labels["timestamp"]).dt.total_minutes()
    assert delay.min() >= 10  # type: ignore[operator]
    assert delay.max() <= 2 * 60 * 24 * 60  # type: ignore[operator]
    within_a_week = (delay <= 7 * 24 * 60).mean()
    assert 0.7 < within_a_week < 0.999  # type: ignore[operator]
    last = labels.sort("labelled_at", "at").group_by("transaction_id", maintain_order=True).last()
    frauds = int(simulation.truth["is_fraud"].sum())
    missed = frauds - len(last.filter(pl.col("is_fraud") & pl.col("is_fraud_truth")))
    false_alarms = len(last.filter(pl.col("is_fraud") & ~pl.col("is_fraud_truth")))
    assert 0 < missed < 0.1 * frauds
    assert 0 < false_alarms < 0.05 * frauds
    first = labels.sort("labelled_at", "at").group_by("transaction_id", maintain_order=True).first()
    corrected = first.join(last, on="transaction_id").filter(pl.col("is_fraud") != pl.col("is_fraud_right"))
    assert len(corrected) > 0
    assert set(labels["source"]) == {"chargeback", "customer", "analyst"}


def test_labels_belong_to_their_transactions(simulation: Simulation) -> None:
    keys = ["transaction_id", "user_id", "merchant_id", "timestamp"]
    matched = simulation.labels.select(keys).join(simulation.transactions.select(keys), on=keys, how="inner")
    assert len(matched) == len(simulation.labels)


def test_the_handbooks_protocol_labels_every_fraud_on_its_day() -> None:
    made = generate(config(labels_after=timedelta(days=7)))
    assert (made.labels["labelled_at"] - made.labels["timestamp"]).unique().to_list() == [timedelta(days=7)]
    assert set(made.labels["transaction_id"]) == set(made.truth.filter("is_fraud")["transaction_id"])
    assert made.labels["is_fraud"].all()
    assert set(made.labels["source"]) == {"simulator"}


def test_a_longer_simulation_has_the_same_people() -> None:
    short, long = make_world(config(days=5)), make_world(config(days=50))
    assert short.users.ids.tolist() == long.users.ids.tolist()
    assert short.users.lat.tolist() == long.users.lat.tolist()
    assert short.merchants.ids.tolist() == long.merchants.ids.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"days": 0}, "days is 0; the simulator needs at least 1"),
        ({"users": 0}, "users is 0"),
        ({"merchants": 3}, "merchants is 3"),
        ({"per_day": 0.0}, r"0\.0 transactions a day and user"),
        ({"per_day": 101.0}, r"101\.0 transactions a day and user"),
        ({"start": datetime(2026, 1, 1)}, "has no zone"),  # noqa: DTZ001
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_configuration_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_the_least_simulation_works() -> None:
    made = generate(Config(start=START, days=1, users=1, merchants=19, per_day=0.01, seed=3))
    assert len(made.transactions) == len(made.truth)
    assert dict(made.transactions.schema) == tables.SCHEMAS["transactions"]


def test_an_unknown_scenario_is_named_with_those_there_are() -> None:
    for call in (lambda: scenario("bad_luck"), lambda: choose(["bad_luck"], []), lambda: choose([], ["bad_luck"])):
        with pytest.raises(ConfigError, match=r"bad_luck.*stolen_card, card_testing, account_takeover"):
            call()
    with pytest.raises(ConfigError, match="the day after @ is a number"):
        choose(["card_testing@noon"], [])


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a directory; `fraud-detect simulate --out .*` makes one"):
        tables.read_table(tmp_path / "nowhere", "labels")
    with pytest.raises(ConfigError, match=r"has no labels\.parquet"):
        tables.read_table(tmp_path, "labels")
    (tmp_path / "labels.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="can't be read as Parquet"):
        tables.read_table(tmp_path, "labels")
    made = generate(config(days=2)).labels
    made.drop("is_fraud").write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(DataError, match=r"lacks the column\(s\) is_fraud"):
        tables.read_table(tmp_path, "labels")
    made.with_columns(pl.col("is_fraud").cast(pl.Int8)).write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(DataError, match="is_fraud is Int8, not Boolean"):
        tables.read_table(tmp_path, "labels")
    made.with_columns(pl.lit(1).alias("more")).write_parquet(tmp_path / "labels.parquet")
    assert tables.read_table(tmp_path, "labels").equals(made)
