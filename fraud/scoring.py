"""From messages to answers: a slice of a partition is decided once, whatever crashes.

`score_slice` is the whole protocol of design.md 4: answers that exist already come from the outbox, byte for
byte; the rest is decided and committed with histories and position in one conditional transaction; only
then is anything returned. Delivery: each source offset is decided once and published at least once.

Without a model a slice is collected: histories go on, refused messages are answered, accepted ones are kept as
offset ranges and have no answer, then or later. A slice is either collected or scored; a replay may span both.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import codec, features, history, ranges
from fraud.answers import concatenate, empty, take
from fraud.codec import Refused
from fraud.decision import Decision, Model, Slice, Terms
from fraud.errors import FencedError, GapError, StoreError
from fraud.features import ACCEPTED
from fraud.model import Scorer
from fraud.schema import Transaction
from fraud.store.base import Answers, SliceCommit, Store
from fraud.verdicts import decisions, merchant_features, repeat_of

ATTEMPTS = 3  # a fence met by our own retry clears at once; by somebody else never


def score_slice(part: Slice, store: Store, model: Model | None, terms: Terms, *, now_ms: int) -> Answers:
    """Return the answers to publish for a slice, all of them committed; without a model those of refused messages.

    Raises:
        GapError: the store and the topic don't continue each other (a lost store, an old backup).
        FencedError: another job holds the lease; nothing was written.
        StoreError: an answer that must exist doesn't, or a replayed message isn't the one answered.
    """
    for _ in range(ATTEMPTS):
        position = store.histories.positions().get(part.key)
        if position is None:
            raise GapError(
                f"the store has no position for partition {part.key.partition} ({part.key.topic_id}); "
                "it was emptied while the job ran: make it anew with `fraud-detect rebuild`"
            )
        split = int(np.searchsorted(part.offsets, position))
        replayed = _published(part.rows(0, split), store) if split else None
        if split == len(part):
            return replayed if replayed is not None else empty()
        fresh = part.rows(split, len(part))
        if fresh.offsets[0] > position:
            terms.check_gap(position, int(fresh.offsets[0]))
        decided = Decision(fresh, store, model, terms, now_ms)
        answers = decided.decide()
        terms.fault("decided", ())
        try:
            store.histories.commit(
                SliceCommit(
                    part.key,
                    terms.epoch,
                    expected=position,
                    position=int(fresh.offsets[-1]) + 1,
                    histories=decided.changed,
                    answers=answers,
                    committed_at=now_ms,
                    collected=decided.collected,
                )
            )
        except FencedError:
            lease = store.histories.leases().get("score")
            if lease is None or lease.epoch != terms.epoch or store.histories.positions().get(part.key) == position:
                raise
            continue  # an earlier attempt of this very task got there first: its answers stand
        terms.fault("committed", ())
        return answers if replayed is None else concatenate([replayed, answers])
    raise FencedError(
        f"partition {part.key.partition} moved {ATTEMPTS} times while one slice was decided; is a second job running?"
    )


def _published(part: Slice, store: Store) -> Answers:
    """Return the outbox's answers for messages below the position, checked against the messages."""
    end = int(part.offsets[-1]) + 1
    stored = store.histories.answers(part.key, int(part.offsets[0]), end)
    at = np.searchsorted(stored.offsets, part.offsets)
    found = np.zeros(len(part), bool)
    inside = at < len(stored)
    found[inside] = stored.offsets[at[inside]] == part.offsets[inside]
    if not found.all():
        mark = store.histories.marks().get(part.key, 0)
        lost = part.offsets[~found & (part.offsets >= mark)]
        if len(lost):
            lost = lost[~ranges.contain(store.histories.collected(part.key), lost)]
        if len(lost):
            raise StoreError(
                f"partition {part.key.partition}: offset {int(lost[0])} lies below the position and above "
                f"the checkpoint's mark {mark}, and has no answer: the store is damaged; make it anew "
                "with `fraud-detect rebuild`"
            )
    for row in np.flatnonzero(found):
        if int(stored.digests[at[row]]) != codec.digest(part.values[int(row)] or b""):
            raise StoreError(
                f"partition {part.key.partition}, offset {int(part.offsets[row])}: the message isn't the one "
                "that was answered; the topic was rewritten or the store belongs to another cluster"
            )
    return take(stored, at[found])


@dataclass(frozen=True)
class Estimate:
    """What the stream would say of a transaction now: features (31,) float64, probability, decision."""

    features: npt.NDArray[np.float64]
    probability: float
    decision: str
    profile_through: int | None


def score_one(
    transaction: Transaction, store: Store, scorer: Scorer, *, partition: int, digest: int = 0
) -> Estimate | Refused:
    """Estimate one transaction from the state as it is; writes nothing: the decision is the stream's.

    Args:
        transaction: decoded and valid.
        partition: the user's partition of `transactions` (`fraud.bus.partition_of`).
        digest: of the raw message, if there is one; it tells a repeat from a conflicting one.
    """
    events = codec.event_columns([transaction], [digest])
    packed = store.histories.read(partition, [transaction.user_id])
    folded = features.fold(events, np.array([0, 1], np.int64), history.unpack(packed))
    if folded.status[0] != ACCEPTED:
        return repeat_of(int(folded.status[0]), transaction)
    through = merchant_features(folded.matrix, [transaction], events["time"], store)
    probabilities = scorer.predict(folded.matrix)
    return Estimate(folded.matrix[0], float(probabilities[0]), decisions(probabilities, scorer)[0], through)
