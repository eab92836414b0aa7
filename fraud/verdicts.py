"""What the stream and a single estimate say in the same words: merchants' features, decisions, repeats."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fraud import features, profiles
from fraud.codec import Refused
from fraud.features import DUPLICATE, Matrix
from fraud.model import Scorer
from fraud.schema import Decision, Transaction
from fraud.store.base import Store


def merchant_features(
    matrix: Matrix, transactions: Sequence[Transaction], times: npt.NDArray[np.int64], store: Store
) -> int | None:
    """Fill the merchant columns of `matrix` in place from the store; return profile_through."""
    codes: dict[str, int] = {}
    who = np.fromiter((codes.setdefault(t.merchant_id, len(codes)) for t in transactions), np.int64, len(transactions))
    packed, through = store.profiles.read(list(codes))
    features.add_merchant_features(matrix, times, who, profiles.unpack(packed))
    return through


def decisions(probabilities: npt.NDArray[np.float64], scorer: Scorer) -> list[Decision]:
    """Return each probability's decision; a threshold belongs to the harsher side."""
    chosen = np.where(probabilities >= scorer.review, "REVIEW", "APPROVE").astype(object)
    if scorer.block is not None:
        chosen[probabilities >= scorer.block] = "BLOCK"
    result: list[Decision] = chosen.tolist()
    return result


def repeat_of(status: int, transaction: Transaction) -> Refused:
    if status == DUPLICATE:
        return Refused("duplicate", "transaction_id", f"{transaction.transaction_id} was decided before")
    return Refused(
        "conflicting_duplicate",
        "transaction_id",
        f"{transaction.transaction_id} was decided before with another payload; send a new id",
    )
