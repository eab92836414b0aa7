"""How good scores are, each figure beside its floor (random) and its ceiling (an oracle that knows the truth).

Shapes: every array is (n,), one element a transaction. Scores need only rank, except where probabilities
are named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.errors import DataError

Scores = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer[Any]]

BETA = 2.0  # a missed fraud weighs four times a false alarm
TOP_CARDS = 100  # what a team of investigators can call in a day (Handbook, chapter 4)
LABEL_DELAY_DAYS = 7
DRAWS = 20  # of random scores, for the floor that has no closed form


@dataclass(frozen=True)
class Judgement:
    """What a model is worth on rows that nothing was chosen on.

    `values`, `floors` and `oracles` have the same names: average_precision, roc_auc, f2, precision, recall,
    card_precision_100 (larger is better), brier and ece (smaller is better).
    """

    rows: int
    frauds: int
    confusion: Mapping[str, int]
    values: Mapping[str, float]
    floors: Mapping[str, float]
    oracles: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it stands in the bundle and in the report."""
        return {
            "rows": self.rows,
            "frauds": self.frauds,
            "confusion": dict(self.confusion),
            "values": dict(self.values),
            "floors": dict(self.floors),
            "oracles": dict(self.oracles),
        }


def judge(
    probabilities: Scores, frauds: Flags, threshold: float, days: Integers, cards: Integers, open_cards: Flags
) -> Judgement:
    """Judge probabilities at a threshold.

    Args:
        probabilities, frauds: what the model says, and the truth.
        threshold: a row at or above it is flagged.
        days, cards: of each row, as integers from 0 on; for Card Precision@100 alone.
        open_cards: False where the card was known to be compromised (`not_yet_known`); for Card
            Precision@100 alone.

    The floor of precision, recall and F2 flags as many rows at random; Brier's says the share of frauds of
    every row; ECE's draws from 0…1.

    Raises:
        DataError: there are no frauds, or nothing else.
    """
    from sklearn.metrics import brier_score_loss, roc_auc_score

    rows, positive = len(frauds), int(frauds.sum())
    if not 0 < positive < rows:
        raise DataError(f"{positive} of {rows} rows are frauds; judging needs frauds and others")
    flagged = probabilities >= threshold
    counts = confusion(flagged, frauds)
    ranking = ranking_quality(probabilities, frauds)
    share, reach = positive / rows, float(flagged.mean())
    of_cards = card_precision_quality(
        days[open_cards], cards[open_cards], probabilities[open_cards], frauds[open_cards]
    )
    triples = {
        "average_precision": (ranking["value"], ranking["floor"], ranking["oracle"]),
        "roc_auc": (float(roc_auc_score(frauds, probabilities)), 0.5, 1.0),
        "f2": (f_score(counts), (1 + BETA**2) * share * reach / (BETA**2 * share + reach), 1.0),
        "precision": (counts["tp"] / max(counts["tp"] + counts["fp"], 1), share, 1.0),
        "recall": (counts["tp"] / positive, reach, 1.0),
        f"card_precision_{TOP_CARDS}": (of_cards["value"], of_cards["floor"], of_cards["oracle"]),
        "brier": (float(brier_score_loss(frauds, probabilities)), share * (1 - share), 0.0),
        "ece": (calibration_error(probabilities, frauds), (share**2 + (1 - share) ** 2) / 2, 0.0),
    }
    values, floors, oracles = ({name: triple[i] for name, triple in triples.items()} for i in range(3))
    return Judgement(rows, positive, counts, values, floors, oracles)


def ranking_quality(scores: Scores, frauds: Flags) -> dict[str, float]:
    """Return the average precision of `scores` as {value, floor, oracle}; all 0 where there are no frauds.

    >>> ranking_quality(np.array([0.9, 0.8, 0.1, 0.0]), np.array([True, False, True, False]))["value"]
    0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

    if not frauds.any():
        return {"value": 0.0, "floor": 0.0, "oracle": 0.0}
    value = float(average_precision_score(frauds, scores))
    return {"value": value, "floor": random_average_precision(len(frauds), int(frauds.sum())), "oracle": 1.0}


def random_average_precision(rows: int, frauds: int) -> float:
    """Return the expected average precision of a random order; for many rows it is the share of frauds.

    Source: Bestgen, Exact expected average precision of the random baseline, PBML 103, 2015.

    >>> random_average_precision(2, 1)
    0.75
    """
    if rows == frauds:
        return 1.0
    harmonic = float(np.sum(1.0 / np.arange(1, rows + 1)))
    return ((frauds - 1) / (rows - 1) * (rows - harmonic) + harmonic) / rows


def confusion(flagged: Flags, frauds: Flags) -> dict[str, int]:
    """Return the counts tp, fp, fn, tn."""
    tp = int((flagged & frauds).sum())
    fp, fn = int(flagged.sum()) - tp, int(frauds.sum()) - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": len(frauds) - tp - fp - fn}


def f_score(counts: Mapping[str, int], beta: float = BETA) -> float:
    """Return F-beta from `confusion`'s counts; 0 where nothing is flagged and nothing was to be found."""
    weighted = (1 + beta**2) * counts["tp"]
    whole = weighted + beta**2 * counts["fn"] + counts["fp"]
    return weighted / whole if whole else 0.0


def calibration_error(probabilities: Scores, frauds: Flags, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width.

    Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017.
    """
    which = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    said = np.bincount(which, weights=probabilities, minlength=bins)
    happened = np.bincount(which, weights=frauds, minlength=bins)
    return float(np.abs(said - happened).sum() / len(frauds))


def not_yet_known(days: Integers, cards: Integers, frauds: Flags, delay: int = LABEL_DELAY_DAYS) -> Flags:
    """Return False where the card's fraud of an earlier day was known on the row's day.

    A fraud of day d is known from day d + delay + 1 on: its label needs `delay` days, and the day is over.
    Source: the Handbook's `get_train_test_set`.
    """
    never = np.iinfo(np.int64).max
    first = np.full(int(cards.max(initial=-1)) + 1, never, np.int64)
    np.minimum.at(first, cards[frauds], days[frauds])
    return np.asarray(first[cards] >= days - delay)


def card_precision(days: Integers, cards: Integers, scores: Scores, frauds: Flags, top: int = TOP_CARDS) -> float:
    """Return the share of compromised cards among each day's `top` cards, averaged over the days.

    A card counts by its highest score of the day; once found, its later days leave the contest. Cards of
    equal score stand in the order of their numbers. Source: the Handbook's Card Precision top-k, chapter 4.
    """
    found = np.zeros(int(cards.max(initial=-1)) + 1, bool)
    shares = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & ~found[cards])
        who, at = np.unique(cards[rows], return_inverse=True)
        highest = np.full(len(who), -np.inf)
        np.maximum.at(highest, at, scores[rows])
        compromised = np.zeros(len(who), bool)
        compromised[at[frauds[rows]]] = True
        first = np.argsort(-highest, kind="stable")[:top]
        hits = who[first][compromised[first]]
        found[hits] = True
        shares.append(len(hits) / top)
    return float(np.mean(shares)) if shares else 0.0


def card_precision_quality(
    days: Integers, cards: Integers, scores: Scores, frauds: Flags, top: int = TOP_CARDS
) -> dict[str, float]:
    """Return `card_precision` as {value, floor, oracle}.

    The floor is the mean of seeded random orders. The oracle ranks by the truth day by day; it is a ceiling
    wherever no day has more than `top` compromised cards.
    """
    rng = np.random.default_rng(0)
    return {
        "value": card_precision(days, cards, scores, frauds, top),
        "floor": float(
            np.mean([card_precision(days, cards, rng.random(len(days)), frauds, top) for _ in range(DRAWS)])
        ),
        "oracle": card_precision(days, cards, frauds.astype(np.float64), frauds, top),
    }
