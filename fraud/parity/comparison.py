"""The stream's answers against the offline ones, value by value."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fraud.features import FEATURE_NAMES, INTEGER_FEATURES, MERCHANT_COLUMNS, Matrix
from fraud.parity.columns import Numbers, Predictions, Rejections, place
from fraud.parity.offline import Offline
from fraud.profiles import are_stale

TOLERANCE = 1e-9  # of a float: |a - b| <= 1e-9 * max(1, |b|); whole numbers must be equal
EXAMPLES = 20
CHUNK = 100_000  # rows compared at once

# What can differ besides features.
ANSWER = "answer"  # predicted where the rules refuse, refused where they accept, or for another reason
REPEAT = "repeat"  # a repeated answer has other bytes than the first

_SLACK = np.array([0.0 if name in INTEGER_FEATURES else TOLERANCE for name in FEATURE_NAMES])


@dataclass(frozen=True)
class Difference:
    """One value that differs."""

    partition: int
    offset: int
    feature: str
    stream: object
    offline: object


@dataclass(frozen=True)
class Result:
    """What came of the comparison.

    Attributes:
        rows: transactions that the offline rules accept, but for those that need no answer.
        compared: of them, those with a prediction that was compared whole.
        stale: of them, those whose merchant profile was behind: user features alone were compared.
        mismatches: values that differ, the sum of `by_feature`.
        examples: the first of them, at most EXAMPLES of each kind, in the order of the stream.
    """

    rows: int
    compared: int
    stale: int
    by_feature: dict[str, int]
    examples: list[Difference] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        return sum(self.by_feature.values())

    @property
    def holds(self) -> bool:
        """Whether parity holds: nothing differs and nothing is missing."""
        return self.mismatches == 0 and self.compared + self.stale >= self.rows

    def report(self) -> dict[str, object]:
        """Return what `parity --json` prints."""
        return {
            "rows": self.rows,
            "compared": self.compared,
            "stale": self.stale,
            "mismatches": self.mismatches,
            "by_feature": self.by_feature,
        }


def compare(
    offline: Offline,
    predictions: Predictions,
    rejections: Rejections,
    collected: npt.NDArray[np.bool_] | None = None,
) -> Result:
    """Compare every prediction's features, every rejection's reason, and repeats with their first.

    Args:
        collected: shape (n,): which messages the job accepted while it had no model; they have no answer.
    """
    found = _Found()
    predicted = _firsts(predictions.sources, predictions.digests, offline.sources, found)
    refused = _firsts(rejections.sources, rejections.digests, offline.sources, found)
    _compare_reasons(offline, rejections, refused, found)
    at = np.searchsorted(offline.sources, predictions.sources[predicted])
    accepted = offline.accepted[at]
    for row in at[~accepted]:
        found.add(int(offline.sources[row]), ANSWER, "prediction", offline.reasons[row])
    at, predicted = at[accepted], predicted[accepted]
    stale = are_stale(offline.times[at], predictions.through[predicted])
    for start in range(0, len(at), CHUNK):
        part = slice(start, start + CHUNK)
        _compare_features(
            predictions.matrix[predicted[part]], offline.matrix[at[part]], stale[part], offline.sources[at[part]], found
        )
    silent = np.zeros(len(offline.sources), bool) if collected is None else collected
    for row in np.flatnonzero(silent & ~offline.accepted):
        found.add(int(offline.sources[row]), ANSWER, "taken without a model", offline.reasons[row])
    return Result(
        rows=int((offline.accepted & ~silent).sum()),
        compared=int((~stale).sum()),
        stale=int(stale.sum()),
        by_feature={name: found.counts[name] for name in (ANSWER, REPEAT, *FEATURE_NAMES) if name in found.counts},
        examples=sorted(found.examples, key=lambda one: (one.offset, one.partition)),
    )


class _Found:
    """The differences, counted, with the first ones in full."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: list[Difference] = []

    def count(self, feature: str, number: int) -> None:
        if number:
            self.counts[feature] = self.counts.get(feature, 0) + number

    def show(self, source: int, feature: str, stream: object, offline: object) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(Difference(*place(source), feature, stream, offline))

    def add(self, source: int, feature: str, stream: object, offline: object) -> None:
        self.count(feature, 1)
        self.show(source, feature, stream, offline)


def _firsts(sources: Numbers, digests: npt.NDArray[np.uint64], known: Numbers, found: _Found) -> npt.NDArray[np.int64]:
    """Return the rows that answer a known message first, by source; repeats must have the first one's bytes."""
    rows = np.flatnonzero(np.isin(sources, known))
    _, first, back = np.unique(sources[rows], return_index=True, return_inverse=True)
    for row in rows[digests[rows] != digests[rows[first]][back]]:
        found.add(int(sources[row]), REPEAT, "other bytes", "the first one's")
    firsts: npt.NDArray[np.int64] = rows[first]
    return firsts


def _compare_reasons(offline: Offline, rejections: Rejections, rows: Numbers, found: _Found) -> None:
    at = np.searchsorted(offline.sources, rejections.sources[rows])
    for row, reason in zip(at, rejections.reasons[rows], strict=True):
        if offline.reasons[row] != reason:
            expected = "prediction" if offline.reasons[row] is None else offline.reasons[row]
            found.add(int(offline.sources[row]), ANSWER, reason, expected)


def _compare_features(
    stream: Matrix, offline: Matrix, stale: npt.NDArray[np.bool_], sources: Numbers, found: _Found
) -> None:
    near = np.abs(stream - offline) <= _SLACK * np.maximum(1.0, np.abs(offline))
    differs = ~(near | (np.isnan(stream) & np.isnan(offline)))
    differs[stale, MERCHANT_COLUMNS] = False
    for column in np.flatnonzero(differs.any(axis=0)):
        found.count(FEATURE_NAMES[column], int(differs[:, column].sum()))
    for row, column in np.argwhere(differs)[:EXAMPLES]:
        found.show(int(sources[row]), FEATURE_NAMES[column], float(stream[row, column]), float(offline[row, column]))
