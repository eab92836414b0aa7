"""Simulated transactions with everything that follows from them: messages, columns, features, verdicts."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from fraud import codec
from fraud.builder import build_features, bulk_changes, event_table
from fraud.features import Matrix
from fraud.history import Events
from fraud.schema import Transaction

USERS, DAYS = 400, 25
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sample:
    """Transactions in arrival order, as lists and columns of equal length.

    Attributes:
        matrix: shape (n, features), float64, NaN is null.
        frauds: shape (n,), bool, the truth.
        digests: shape (n,), uint64, of the messages.
    """

    transactions: list[Transaction]
    keys: list[bytes]
    messages: list[bytes]
    digests: npt.NDArray[np.uint64]
    events: Events
    matrix: Matrix
    frauds: npt.NDArray[np.bool_]

    def last(self, count: int) -> "Sample":
        """Return the last `count` of them: users have a past by then."""
        cut = slice(max(len(self.messages) - count, 0), None)
        return Sample(
            self.transactions[cut],
            self.keys[cut],
            self.messages[cut],
            self.digests[cut],
            self.events[cut],
            self.matrix[cut],
            self.frauds[cut],
        )


def simulated(users: int = USERS, days: int = DAYS, seed: int = 1) -> Sample:
    """Simulate about two transactions a day and user."""
    from producer.replay import transactions
    from producer.simulate import Config, generate

    made = generate(Config(start=START, days=days, seed=seed, users=users, merchants=100))
    rows = list(transactions(made.transactions))
    messages = [codec.encode(row) for row in rows]
    return Sample(
        transactions=rows,
        keys=[row.user_id.encode() for row in rows],
        messages=messages,
        digests=np.array([codec.digest(raw) for raw in messages], np.uint64),
        events=event_table(made.transactions),
        matrix=build_features(made.transactions, bulk_changes(made.transactions, made.labels)).matrix,
        frauds=made.truth["is_fraud"].to_numpy(),
    )
