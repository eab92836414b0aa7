"""The demo's claim, without servers: a model that never saw the new pattern misses it, one that did finds it.

Both are trained as the demo trains them, on what was known on their days, and judged at their own thresholds on
the days that the demo streams.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from fraud.booster import load_booster, margins
from fraud.builder import build_features, bulk_changes
from fraud.demo.plan import PATTERN, Plan, times
from fraud.demo.run import simulate
from fraud.features import FEATURE_NAMES
from fraud.training import labelled_rows, train


def test_version_1_misses_it_and_version_2_finds_it(tmp_path: Path) -> None:
    plan = Plan(users=2_000, merchants=275)
    when = times(plan, datetime(2026, 11, 25, 12, tzinfo=UTC))
    made = simulate(plan, when, tmp_path, lambda _: None)
    streamed = made.transactions.with_row_index().filter(pl.col("timestamp") >= when.begin)["index"].to_numpy()
    built = build_features(made.transactions, bulk_changes(made.transactions, made.labels))
    matrix, truth = built.matrix[streamed], made.truth[streamed]
    pattern = (truth["scenario"] == PATTERN).fill_null(value=False).to_numpy()
    assert pattern.sum() > 50
    found = {}
    for name, as_of in (("before", when.first), ("after", when.second)):
        known = labelled_rows(made.transactions, made.labels, as_of, timedelta(days=7))
        bundle = train(known, seed=plan.seed).bundle
        scores = bundle.calibrator.apply(margins(load_booster(bundle.booster, FEATURE_NAMES), matrix))
        found[name] = (scores >= bundle.review)[pattern].mean()
    assert found["before"] < 0.3
    assert found["after"] > 0.7
