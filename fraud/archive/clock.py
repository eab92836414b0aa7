"""The label clock of merchant profiles: what a batch of accepted transactions and labels changes, and from when on.

* A transaction counts once, when it is accepted, in its own quarter-hour.
* Of the labels about it the one with the greatest (labelled_at, position) counts. When another one takes its place,
  the fraud count of the transaction's quarter and merchant moves by the difference.
* A label of a transaction that isn't known waits for it; after the parking time it is refused.
* A change takes effect from E = max(own quarter, profile_through before the batch) + 2 on, the own quarter being
  labelled_at's or the transaction's: whoever has read already can't have missed it.

The state is what the lake's tables say (`spark_jobs.archive_state` reads it); the same rows in the same order give
the same changes, however they are cut into batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.archive.changes import PLACE, counted, moved
from fraud.archive.index import Index, Keys, Rows, Seen, keys_of
from fraud.lake.tables import BACKFILL
from fraud.profiles import QUARTER_MS

KNOWN = np.dtype([("merchant", "<i4"), ("quarter", "<i4")])
NEVER = 2**62
WINNER = np.dtype(
    [("labelled_at", "<i8"), ("incarnation", "<i4"), ("partition", "<i4"), ("offset", "<i8"), ("fraud", "?")]
)
# What decides between two labels about the same transaction, in this order: the greatest counts. The training set
# (`fraud.dataset`) goes by the same columns.
RANK = ("labelled_at", "incarnation", "partition", "offset")


class Verdict(NamedTuple):
    """A label, as far as the clock needs it; times in ms."""

    labelled_at: int
    incarnation: int
    partition: int
    offset: int
    fraud: bool
    broker_time: int
    topic_id: str
    user_id: str
    transaction_id: str

    @property
    def rank(self) -> tuple[int, ...]:
        """Return the values of RANK."""
        return self[:4]


@dataclass(frozen=True)
class Step:
    """What a batch changes.

    Attributes:
        changes: rows of the lake's table `profile_changes`, columns CHANGES.
        expired: labels whose transaction wasn't known in time.
        through: the newest transaction quarter accepted so far, None before any.
    """

    changes: pl.DataFrame
    expired: list[Verdict]
    through: int | None


@dataclass
class Clock:
    """What was accepted and what was said about it; `step` takes the next batch.

    Attributes:
        parking_ms: how long a label waits for its transaction, by broker time.
        now: the newest broker time of all rows so far, ms.
        through: as Step's.
    """

    parking_ms: int
    now: int = 0
    through: int | None = None
    known: Index = field(default_factory=lambda: Index(KNOWN, keep="first"))
    winners: Index = field(default_factory=lambda: Index(WINNER, keep="last"))
    seen: Seen = field(default_factory=Seen)
    merchants: list[str] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)
    _parked: dict[int, list[Verdict]] = field(default_factory=dict)
    _oldest: int = NEVER  # no parked label has waited for longer than from then on
    _incarnations: dict[str, int] = field(default_factory=lambda: {BACKFILL: 0})

    def step(self, accepted: pl.DataFrame, labels: pl.DataFrame, *, now: int, through: int | None = None) -> Step:
        """Take a batch: accepted transactions (repeats of accepted ones are skipped) and valid labels.

        Args:
            accepted: PLACE, merchant_id and timestamp; the position is the transaction's.
            labels: PLACE, is_fraud and labelled_at.
            now: the batch's newest broker time, ms.
            through: `profile_through` of the online store, where it may be ahead of the lake's.
        """
        before = max((each for each in (self.through, through) if each is not None), default=None)
        fresh = self._fresh(accepted)
        keys, quarters = self.know(fresh)
        parts = [counted(fresh, quarters, before)]
        verdicts = [one for key in keys.tolist() for one in self._parked.pop(key, ())] if self._parked else []
        verdicts += self.verdicts(labels)
        verdicts.sort(key=lambda one: one[1:4])
        parts.append(self._moved(verdicts, before))
        self.now = max(self.now, now)
        return Step(pl.concat(parts), self._expired(), self.through)

    def know(self, rows: pl.DataFrame) -> tuple[Keys, npt.NDArray[np.int32]]:
        """Remember accepted transactions; return their keys and quarters. `rows` may give `quarter` itself."""
        keys = keys_of(rows["user_id"], rows["transaction_id"])
        if "quarter" in rows.columns:
            quarters = rows["quarter"].to_numpy().astype(np.int32)
        else:
            quarters = (rows["timestamp"].dt.epoch("ms").to_numpy() // QUARTER_MS).astype(np.int32)
        values = np.zeros(len(rows), KNOWN)
        values["merchant"] = [self._code(merchant) for merchant in rows["merchant_id"]]
        values["quarter"] = quarters
        self.known.add(keys, values)
        if len(rows):
            newest = int(quarters.max())
            self.through = newest if self.through is None else max(self.through, newest)
        return keys, quarters

    def verdicts(self, labels: pl.DataFrame) -> list[Verdict]:
        """Return labels as verdicts, in the table's order."""
        for topic_id in labels["topic_id"].unique(maintain_order=True):
            self.incarnation(topic_id)
        return [
            Verdict(at, self._incarnations[topic], partition, offset, fraud, taken, topic, user, one)
            for at, topic, partition, offset, fraud, taken, user, one in labels.select(
                pl.col("labelled_at").dt.epoch("ms"),
                "topic_id",
                "partition",
                "offset",
                "is_fraud",
                pl.col("broker_time").dt.epoch("ms"),
                "user_id",
                "transaction_id",
            ).iter_rows()
        ]

    def incarnation(self, topic_id: str) -> int:
        """Return a topic id's number: 0 is what was loaded, one that is new is the newest."""
        return self._incarnations.setdefault(topic_id, len(self._incarnations))

    def recall(self, keys: Keys, rows: Rows) -> None:
        """Remember labels of known transactions that were weighed before, the greatest of each; shapes (n,)."""
        found, old = self.winners.find(keys)
        keys, rows = np.concatenate([keys[found], keys]), np.concatenate([old[found], rows])
        order = np.lexsort([rows[name] for name in reversed(RANK)])
        self.winners.add(keys[order], rows[order])

    def park(self, keys: Keys, verdicts: Sequence[Verdict]) -> None:
        """Let labels wait for their transactions; shapes (n,)."""
        for key, verdict in zip(keys.tolist(), verdicts, strict=True):
            self._parked.setdefault(key, []).append(verdict)
            self._oldest = min(self._oldest, verdict.broker_time)

    @property
    def parked(self) -> int:
        """Return how many labels wait for their transaction."""
        return sum(map(len, self._parked.values()))

    def _code(self, merchant: str) -> int:
        code = self._codes.setdefault(merchant, len(self.merchants))
        if code == len(self.merchants):
            self.merchants.append(merchant)
        return code

    def _fresh(self, accepted: pl.DataFrame) -> pl.DataFrame:
        """Return the rows whose position wasn't accepted before."""
        new = np.zeros(len(accepted), bool)
        places = accepted.select("topic_id", "partition").unique(maintain_order=True).rows()
        for topic_id, partition in places:
            mine = ((accepted["topic_id"] == topic_id) & (accepted["partition"] == partition)).to_numpy()
            new[mine] = self.seen.add(topic_id, partition, accepted["offset"].to_numpy()[mine])
        return accepted.filter(pl.Series(new))

    def _moved(self, verdicts: list[Verdict], before: int | None) -> pl.DataFrame:
        """Weigh labels in the order in which they arrived; return how they move fraud counts."""
        keys = keys_of([one.user_id for one in verdicts], [one.transaction_id for one in verdicts])
        is_known, about = self.known.find(keys)
        has_winner, winners = self.winners.find(keys)
        unknown = np.flatnonzero(~is_known)
        self.park(keys[unknown], [verdicts[i] for i in unknown])
        current: dict[int, tuple[tuple[int, ...], bool]] = {}
        places, owns, moves = [], [], []
        for i in np.flatnonzero(is_known).tolist():
            key, verdict = int(keys[i]), verdicts[i]
            if key not in current and has_winner[i]:
                *rank, fraud = winners[i].item()
                current[key] = (tuple(rank), fraud)
            rank, counted = current.get(key, ((), False))
            if verdict.rank <= rank:
                continue
            current[key] = (verdict.rank, verdict.fraud)
            if verdict.fraud != counted:
                places.append(i)
                owns.append(verdict.labelled_at // QUARTER_MS)
                moves.append(verdict.fraud - counted)
        rows = np.array([(*rank, fraud) for rank, fraud in current.values()], WINNER)
        self.winners.add(np.fromiter(current, np.uint64, len(current)), rows)
        chosen = about[places]
        return moved(
            _places([verdicts[i] for i in places]),
            merchants=[self.merchants[code] for code in chosen["merchant"]],
            quarters=chosen["quarter"],
            own=np.array(owns, np.int64),
            frauds=moves,
            before=before,
        )

    def _expired(self) -> list[Verdict]:
        """Take out the labels that have waited too long, in the order in which they arrived."""
        until = self.now - self.parking_ms
        if self._oldest >= until:
            return []
        out = [one for waiting in self._parked.values() for one in waiting if one.broker_time < until]
        left = {key: [one for one in ones if one.broker_time >= until] for key, ones in self._parked.items()}
        self._parked = {key: ones for key, ones in left.items() if ones}
        self._oldest = min((one.broker_time for ones in self._parked.values() for one in ones), default=NEVER)
        return sorted(out, key=lambda one: one[1:4])


def _places(verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """Return where labels stand and whom they are about."""
    rows = [
        (one.topic_id, one.partition, one.offset, one.broker_time, one.user_id, one.transaction_id) for one in verdicts
    ]
    types: list[pl.DataType | type[pl.DataType]] = [
        pl.String,
        pl.Int32,
        pl.Int64,
        pl.Datetime("ms", "UTC"),
        pl.String,
        pl.String,
    ]
    return pl.DataFrame(rows, schema=dict(zip(PLACE, types, strict=True)), orient="row")
