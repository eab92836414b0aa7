"""Labels as they would become known: late, from several sources, a few of them wrong, some corrected."""

import numpy as np
import polars as pl

from producer.rhythm import DAY_MS, HOUR_MS

COLUMNS = ("transaction_id", "user_id", "merchant_id", "timestamp", "is_fraud", "labelled_at", "source")

MISSED = 0.03  # frauds that nobody ever reports
DENIED = 0.02  # frauds first judged legitimate, corrected later
FALSE_ALARMS = 0.03  # honest purchases reported as fraud, per fraud
CLEARED = 1.0  # honest purchases that an analyst looked at and cleared, per fraud
CORRECTED = 0.5  # of the false alarms

# source: share, median delay in hours, spread of its logarithm
_SOURCES = (("chargeback", 0.55, 60.0, 0.7), ("customer", 0.3, 20.0, 1.0), ("analyst", 0.15, 4.0, 0.8))


def make_labels(
    rng: np.random.Generator, transactions: pl.DataFrame, is_fraud: np.ndarray, after_ms: int | None
) -> pl.DataFrame:
    """Return the labels of `transactions` in the order in which they become known.

    With `after_ms` every fraud is labelled exactly that long after it happened and nothing is wrong (the
    Handbook's protocol). Otherwise most labels come within seven days, the rest within weeks; of several
    about one transaction the latest counts. A transaction without a label is taken as legitimate.
    """
    time = transactions["timestamp"].dt.epoch("ms").to_numpy()
    frauds = np.flatnonzero(is_fraud)
    if after_ms is not None:
        full = np.full(len(frauds), after_ms, dtype=np.int64)
        parts = [(frauds, np.ones(len(frauds), dtype=bool), time[frauds] + full, np.full(len(frauds), 3))]
    else:
        parts = _verdicts(rng, time, frauds, np.flatnonzero(~is_fraud))
    row = np.concatenate([p[0] for p in parts])
    at = np.concatenate([p[2] for p in parts])
    source = np.concatenate([p[3] for p in parts])
    names = np.array([s[0] for s in _SOURCES] + ["simulator"], dtype=object)
    known = transactions[row].select("transaction_id", "user_id", "merchant_id", "timestamp")
    return (
        known.with_columns(
            pl.Series("is_fraud", np.concatenate([p[1] for p in parts])),
            pl.Series("labelled_at", at).cast(pl.Datetime("ms", "UTC")),
            pl.Series("source", names[source], dtype=pl.String),
        )
        .sort("labelled_at", maintain_order=True)
        .select(COLUMNS)
    )


Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # row, is_fraud, labelled_at, source


def _verdicts(rng: np.random.Generator, time: np.ndarray, frauds: np.ndarray, honest: np.ndarray) -> list[Part]:
    """Draw true reports, denials, false alarms, clearances and corrections."""
    known = frauds[rng.random(len(frauds)) >= MISSED]
    source = rng.choice(len(_SOURCES), len(known), p=[s[1] for s in _SOURCES])
    median = np.array([s[2] for s in _SOURCES])[source]
    sigma = np.array([s[3] for s in _SOURCES])[source]
    reported = time[known] + _delay(rng, median, sigma)
    denied = rng.random(len(known)) < DENIED
    parts: list[Part] = [(known, ~denied, reported, source)]
    again = reported[denied] + _delay(rng, np.full(int(denied.sum()), 120.0), np.full(int(denied.sum()), 0.6))
    parts.append((known[denied], np.ones(len(again), dtype=bool), again, np.zeros(len(again), dtype=np.int64)))

    alarms = _sample(rng, honest, int(FALSE_ALARMS * len(frauds)))
    raised = time[alarms] + _delay(rng, np.full(len(alarms), 30.0), np.full(len(alarms), 0.8))
    parts.append((alarms, np.ones(len(alarms), dtype=bool), raised, np.ones(len(alarms), dtype=np.int64)))
    back = rng.random(len(alarms)) < CORRECTED
    later = raised[back] + _delay(rng, np.full(int(back.sum()), 120.0), np.full(int(back.sum()), 0.6))
    parts.append((alarms[back], np.zeros(len(later), dtype=bool), later, np.full(len(later), 2)))

    cleared = _sample(rng, np.setdiff1d(honest, alarms, assume_unique=True), int(CLEARED * len(frauds)))
    seen = time[cleared] + _delay(rng, np.full(len(cleared), 4.0), np.full(len(cleared), 0.8))
    parts.append((cleared, np.zeros(len(cleared), dtype=bool), seen, np.full(len(cleared), 2)))
    return parts


def _sample(rng: np.random.Generator, rows: np.ndarray, count: int) -> np.ndarray:
    return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))


def _delay(rng: np.random.Generator, median_hours: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Draw delays in ms, between ten minutes and sixty days."""
    drawn = rng.lognormal(np.log(median_hours * HOUR_MS), sigma)
    return np.asarray(np.clip(drawn, HOUR_MS / 6, 60 * DAY_MS).astype(np.int64))
