"""Memory that a training set needs grows with the users that are built together, not with the lake."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from fraud.backfill.archived import append_past
from tests import servers
from tests.dataset.lakes import T, lake_at

AT_ONCE = 20_000  # of the lake's commits and of the training set's files
SMALL, LARGE = 20_000, 320_000
MOST_MB = 200  # more for 300,000 rows more: 80 measured, 520 where all users are built together
CHILD = """
import re
import sys
from pathlib import Path
from datetime import UTC, datetime, timedelta
import fraud.dataset as dataset
from fraud.cli.console import settings
dataset.ROWS_AT_ONCE = int(sys.argv[1])
as_of, now = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
made = dataset.build(settings(), as_of, timedelta(days=7), now=now)
# Not what getrusage says: that begins with the size of whoever started this process.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(made.manifest.rows, int(peak[1]) // 1024)
"""


def past(rows: int) -> pl.DataFrame:
    """Return transactions, 50 a user, in the order of their times."""
    number = pl.int_range(rows, eager=True)
    user = (number * 7919) % (rows // 50)
    start = pl.lit(T - timedelta(days=40)).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame({"number": number, "user": user}).select(
        pl.format("t{}", "number").alias("transaction_id"),
        pl.format("c{}", "user").alias("user_id"),
        pl.format("m{}", pl.col("number") % 97).alias("merchant_id"),
        (start + pl.duration(milliseconds=pl.col("number") * (30 * 86_400_000 // rows))).alias("timestamp"),
        (pl.col("number") % 1000 + 1.0).alias("amount"),
        pl.lit("EUR").alias("currency"),
        pl.lit("5411").alias("merchant_category"),
        pl.lit("pos").alias("channel"),
        pl.lit("DE").alias("country"),
        pl.lit("d1").alias("device_id"),
        pl.lit(50.0).alias("latitude"),
        pl.lit(8.0).alias("longitude"),
    )


def peak_mb(folder: Path, rows: int, at_once: int) -> int:
    """Return what building a training set of so many rows takes at most."""
    read, lake = lake_at(folder)
    append_past(lake, past(rows), None, query="past")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(at_once)],
        env=servers.environment(read),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    built, peak = map(int, done.stdout.split())
    assert built == rows
    return peak


def test_sixteen_times_as_many_rows_take_little_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fraud.backfill.archived.ROWS", AT_ONCE)
    small = peak_mb(tmp_path / "small", SMALL, AT_ONCE)
    large = peak_mb(tmp_path / "large", LARGE, AT_ONCE)
    assert large - small < MOST_MB, f"{small} MB for {SMALL:,} rows, {large} MB for {LARGE:,}"
