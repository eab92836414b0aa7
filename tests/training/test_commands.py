"""`train` and `bench handbook` as their users call them."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from fraud import registry
from fraud.cli.main import app
from fraud.errors import ConfigError, ModelError
from fraud.model import Bundle
from fraud.registry.connection import connected
from fraud.settings import Settings
from tests import servers


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty days of 500 users: some 40,000 transactions and 250 frauds."""
    out = tmp_path_factory.mktemp("simulated")
    run("simulate", "--days", "40", "--seed", "2", "--users", "500", "--merchants", "100", "--out", str(out))
    (out / "truth.parquet").unlink()  # nothing that trains may need it
    return out


def run(*words: str, **variables: str) -> str:
    result = CliRunner().invoke(app, list(words), env=variables, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


SMALL = ("--trees", "30", "--depth", "3", "--min-frauds", "10", "--threads", "1", "--json")


def test_train_writes_a_bundle_and_says_what_it_is_worth(tables: Path, tmp_path: Path) -> None:
    said = run("train", "--from", str(tables), "--no-register", "--out", str(tmp_path / "bundle"), *SMALL)
    result = json.loads(said)
    assert result["version"] is None
    assert result["rows"] == sum(part["rows"] for part in result["parts"].values())
    assert result["frauds"] == sum(part["frauds"] for part in result["parts"].values())
    assert result["metrics"]["average_precision"] > 10 * result["floors"]["average_precision"]
    bundle = Bundle.from_dir(tmp_path / "bundle")
    assert bundle.review == result["thresholds"]["review"]
    assert bundle.params["trees"] == 30


def test_an_earlier_moment_knows_less(tables: Path) -> None:
    whole = json.loads(run("train", "--from", str(tables), "--no-register", *SMALL))
    earlier = json.loads(run("train", "--from", str(tables), "--no-register", "--as-of", "2026-01-31", *SMALL))
    assert earlier["as_of"] == "2026-01-31T00:00:00.000Z"
    assert earlier["rows"] < whole["rows"]
    assert earlier["parts"]["judge"]["to"] < "2026-01-24T00:00:01"


def test_what_cannot_be_trained_is_said(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"part `fit` .* at least 9999"):
        run("train", "--from", str(tables), "--no-register", "--min-frauds", "9999")
    with pytest.raises(ConfigError, match="simulate --out"):
        run("train", "--from", str(tmp_path / "nowhere"), "--no-register")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "say what to train on"),
        (("--dataset", "s3://lake/datasets/x", "--as-of", "2026-01-31"), "leave out --as-of"),
        (("--dataset", "s3://lake/datasets/x", "--from", "past"), "not both"),
    ],
)
def test_contradictions_are_noticed_before_anything_is_read(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run("train", "--no-register", *words)


@pytest.mark.server
def test_a_training_is_registered_with_its_metrics_and_once_where_reuse_is_asked(
    tables: Path, mlflow_server: servers.Server, stack_settings: Settings
) -> None:
    words = ("train", "--from", str(tables), *SMALL, "--seed", "17", "--reuse")
    first, again = (json.loads(run(*words, **servers.environment(stack_settings))) for _ in range(2))
    assert (first["reused"], again["reused"]) == (False, True)
    assert (again["version"], again["run_id"]) == (first["version"], first["run_id"])
    assert again["metrics"] == first["metrics"]
    assert registry.fetch(stack_settings, first["version"]).review == first["thresholds"]["review"]
    with connected(stack_settings) as client:
        metrics = client.get_run(first["run_id"]).data.metrics
        logged = {entry.path for entry in client.list_artifacts(first["run_id"])}
        assert {"report.json", "model_card.md", "plots"} <= logged
    assert metrics["average_precision"] == pytest.approx(first["metrics"]["average_precision"])
    assert metrics["average_precision_floor"] == pytest.approx(first["floors"]["average_precision"])


def test_bench_handbook_reports_weeks_means_floor_and_oracle(tmp_path: Path) -> None:
    count = 8_000
    pl.DataFrame({"TRANSACTION_ID": range(count)}).with_columns(
        TX_DATETIME=pl.datetime(2018, 4, 1) + pl.duration(minutes=pl.col("TRANSACTION_ID") * 5),
        CUSTOMER_ID=pl.col("TRANSACTION_ID") * 7919 % 97,
        TERMINAL_ID=pl.col("TRANSACTION_ID") * 104729 % 41,
        TX_AMOUNT=pl.when(pl.col("TRANSACTION_ID") % 50 == 0).then(250.0).otherwise(pl.col("TRANSACTION_ID") % 200 + 1),
        TX_FRAUD=(pl.col("TRANSACTION_ID") % 50 == 0).cast(pl.Int8),
        TX_FRAUD_SCENARIO=(pl.col("TRANSACTION_ID") % 50 == 0).cast(pl.Int8),
    ).write_parquet(tmp_path / "handbook.parquet")
    words = ("bench", "handbook", "--data", str(tmp_path / "handbook.parquet"), "--trees", "5", "--threads", "1")
    found = json.loads(run(*words, "--start", "2018-04-03", "--json"))
    assert [week["start"] for week in found["weeks"]] == ["2018-04-03"]
    assert found.keys() == {"weeks", "mean", "book", "floor", "oracle"}
    assert found["mean"]["average_precision"] > 0.9  # every large amount is a fraud
    with pytest.raises(ConfigError, match="needs 21 days"):
        run(*words, "--start", "2018-03-01")
