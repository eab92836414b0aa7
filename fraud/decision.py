"""What is decided of one slice: messages and state in, answers and changed histories out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from fraud import codec, features, history, profiles, ranges
from fraud.answers import concatenate, take
from fraud.codec import Refused
from fraud.errors import FraudError, GapError, StateError
from fraud.features import ACCEPTED, FEATURE_NAMES, FEATURE_VERSION, INTEGER_FEATURES, Matrix
from fraud.model import Scorer
from fraud.rejections import FUTURE_MS
from fraud.schema import Transaction
from fraud.store.base import Answers, Kind, PartitionKey, Pointer, Store
from fraud.verdicts import decisions, merchant_features, repeat_of

Offsets = npt.NDArray[np.int64]

_T = TypeVar("_T")

BLOCK = 256  # rows that are decoded and laid out while the processor's cache holds them: a fifth cheaper
# Whose histories are read and folded: all of a large slice's would be laid out in fresh memory, page by page.
USERS_AT_ONCE = 2_000
# Where this many rows fail alike and none is scored, it is no row's fault.
ALIKE = 9


@dataclass(frozen=True)
class Slice:
    """A task's whole input: messages of one partition in offset order, as columns of equal length.

    `offsets` int64; `broker_times` int64, ms since the epoch (LogAppendTime).
    """

    key: PartitionKey
    topic: str
    offsets: Offsets
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    broker_times: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, start: int, stop: int) -> "Slice":
        """Return the messages start..stop of this slice."""
        cut = slice(start, stop)
        return Slice(self.key, self.topic, self.offsets[cut], self.keys[cut], self.values[cut], self.broker_times[cut])


@dataclass(frozen=True)
class Model:
    """The model in production: what scores, and what to sign with."""

    scorer: Scorer
    pointer: Pointer


def _no_gap(start: int, end: int) -> None:
    raise GapError(f"the slice starts at offset {end}, the store's position is {start}")


@dataclass(frozen=True)
class Terms:
    """What holds for a whole run of the job.

    Attributes:
        epoch: the lease's; a commit under another one is fenced.
        max_age_ms: transactions older than this at the broker are refused; None: never.
        check_gap: called with (position, first offset) where a slice starts beyond the position; raises
            GapError unless the broker holds no readable record between them.
        fault: called with a step and the ids in it; tests raise or end the process there.
    """

    epoch: int
    max_age_ms: int | None
    check_gap: Callable[[int, int], None] = _no_gap
    fault: Callable[[str, Sequence[str]], None] = field(default=lambda _step, _ids: None)


class Decision:
    """One slice's decision: rows in, answers and changed histories out; nothing is written.

    Without a model it is collected: decoded, checked and folded into histories all the same, refused rows are
    answered, and accepted ones have no answer (`collected`).
    """

    def __init__(self, part: Slice, store: Store, model: Model | None, terms: Terms, now_ms: int) -> None:
        self.part, self.store, self.model, self.terms = part, store, model, terms
        self.at = codec.format_time(now_ms)
        self.changed: dict[str, bytes] = {}
        self.failed: list[Exception] = []  # a row's each
        self._accepted: list[Offsets] = []
        self.digests = np.fromiter((codec.digest(value or b"") for value in part.values), np.uint64, len(part))

    def decide(self) -> Answers:
        """Decide every row.

        Raises:
            StateError: every row that was accepted failed with the same error: the code or the model is broken.
            FraudError, MemoryError: the store, a server or the machine failed; no row's fault either.
        """
        answers = concatenate(self._decide(0, len(self.part)))
        alike = len(self.failed) >= ALIKE and len(set(map(type, self.failed))) == 1
        if alike and not any(map(len, self._accepted)):
            self._broken(self.failed[0])
        return answers

    @property
    def collected(self) -> ranges.Ranges | None:
        """What was accepted without a model; None where there is one."""
        return None if self.model is not None else ranges.of(np.concatenate([np.empty(0, np.int64), *self._accepted]))

    def _broken(self, cause: Exception) -> NoReturn:
        with_what, cure = "collected", "Repair the installation"
        if self.model is not None:
            pointer = self.model.pointer
            with_what = f"scored with {pointer.model_name} version {pointer.model_version}"
            cure = "Promote another version, or repair the installation"
        raise StateError(
            f"none of {len(self.failed)} transactions of {self.part.topic}, partition {self.part.key.partition}, from "
            f"offset {self.part.offsets[0]}, can be {with_what} "
            f"({type(cause).__name__}: {str(cause)[:300]}): nothing was decided. {cure}"
        ) from cause

    def _decide(self, start: int, stop: int) -> list[Answers]:
        """Decide rows start..stop; where that fails, halve until the culprit stands alone."""
        try:
            changed, accepted, answers = self._attempt(start, stop)
        except (FraudError, MemoryError):
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a row does, only that row suffers
            if stop - start > 1:
                middle = (start + stop) // 2
                return self._decide(start, middle) + self._decide(middle, stop)
            self.failed.append(exc)
            refused = Refused("internal_error", None, f"{type(exc).__name__}: {exc}"[:500])
            return [self._answers(start, stop, {0: refused}, [], [])]
        self.changed.update(changed)
        self._accepted.append(accepted)
        return [answers]

    def _attempt(self, start: int, stop: int) -> tuple[dict[str, bytes], Offsets, Answers]:
        part = self.part.rows(start, stop)
        rows, transactions, events, refused = _decoded(part, self.digests[start:stop])
        late = events["time"] - part.broker_times[rows]
        beyond = late > FUTURE_MS
        if self.terms.max_age_ms is not None:
            beyond |= late < -self.terms.max_age_ms
        for i in np.flatnonzero(beyond):
            verdict = codec.check_clock(int(events["time"][i]), int(part.broker_times[rows[i]]), self.terms.max_age_ms)
            if verdict is not None:
                refused[rows[i]] = verdict
        kept = np.flatnonzero(~beyond)
        rows, transactions = _at(rows, kept), _at(transactions, kept)
        changed, matrix, status = self._user_features(transactions, events[kept])
        for i in np.flatnonzero(status != ACCEPTED):
            refused[rows[i]] = repeat_of(int(status[i]), transactions[i])
        accepted = np.flatnonzero(status == ACCEPTED)
        rows, transactions = _at(rows, accepted), _at(transactions, accepted)
        self.terms.fault("features", [t.transaction_id for t in transactions])
        offsets = part.offsets[rows]
        if self.model is None:
            return changed, offsets, self._answers(start, stop, refused, rows, None)
        times = events["time"][kept][accepted]
        values = self._predictions(self.model, offsets, transactions, times, matrix[accepted])
        return changed, offsets, self._answers(start, stop, refused, rows, values)

    def _user_features(
        self, transactions: list[Transaction], events: history.Events
    ) -> tuple[dict[str, bytes], Matrix, npt.NDArray[np.int8]]:
        codes: dict[str, int] = {}
        who = np.fromiter((codes.setdefault(t.user_id, len(codes)) for t in transactions), np.int64, len(transactions))
        users = list(codes)
        order = np.argsort(who, kind="stable")
        events = events[order]
        bounds = np.zeros(len(users) + 1, np.int64)
        np.cumsum(np.bincount(who, minlength=len(users)), out=bounds[1:])
        changed: dict[str, bytes] = {}
        matrix, status = np.empty((len(events), len(FEATURE_NAMES))), np.empty(len(events), np.int8)
        for first in range(0, len(users), USERS_AT_ONCE):
            some = users[first : first + USERS_AT_ONCE]
            ends = bounds[first : first + len(some) + 1]
            inside = slice(ends[0], ends[-1])
            folded = features.fold(events[inside], ends - ends[0], history.unpack(self._histories(some)))
            rows = order[inside]
            matrix[rows], status[rows] = folded.matrix, folded.status
            touched = np.unique(who[rows[folded.status == ACCEPTED]]) - first
            newest, start, stop = folded.newest[touched], folded.start[touched], folded.stop[touched]
            packed = history.pack_all(newest, folded.entries, start, stop)
            changed.update(zip([some[i] for i in touched], packed, strict=True))
        return changed, matrix, status

    def _histories(self, users: list[str]) -> list[bytes | None]:
        """Return the users' histories, those that this slice already changed among them."""
        if not self.changed:
            return self.store.histories.read(self.part.key.partition, users)
        absent = [user for user in users if user not in self.changed]
        stored = dict(zip(absent, self.store.histories.read(self.part.key.partition, absent), strict=True))
        return [self.changed[user] if user in self.changed else stored[user] for user in users]

    def _predictions(
        self,
        model: Model,
        offsets: Offsets,
        transactions: list[Transaction],
        times: npt.NDArray[np.int64],
        matrix: Matrix,
    ) -> list[bytes]:
        through = merchant_features(matrix, transactions, times, self.store)
        scorer, pointer = model.scorer, model.pointer
        probabilities = scorer.predict(matrix)
        return codec.encode_predictions(
            transactions,
            matrix,
            probabilities,
            (probabilities >= scorer.review).astype(np.int64),
            decisions(probabilities, scorer),
            threshold=scorer.review,
            model_name=pointer.model_name,
            model_version=pointer.model_version,
            feature_version=FEATURE_VERSION,
            profile_through=None if through is None else codec.format_time(through * profiles.QUARTER_MS),
            topic=self.part.topic,
            partition=self.part.key.partition,
            offsets=offsets,
            scored_at=self.at,
            names=FEATURE_NAMES,
            integers=INTEGER_FEATURES,
        )

    def _answers(
        self, start: int, stop: int, refused: dict[int, Refused], rows: list[int], values: list[bytes] | None
    ) -> Answers:
        """Return the rows' answers; `rows` were accepted and have `values`, or with None of them no answer."""
        part = self.part.rows(start, stop)
        kinds = np.full(len(part), Kind.REJECTION, np.uint8)
        kinds[rows] = Kind.PREDICTION
        keys: list[bytes | None] = list(part.keys)
        out: list[bytes] = [b""] * len(part)
        if values is not None:
            for row, value in zip(rows, values, strict=True):
                out[row] = value
        for row, verdict in refused.items():
            keys[row], out[row] = codec.reject(
                verdict,
                topic=part.topic,
                partition=part.key.partition,
                offset=int(part.offsets[row]),
                key=part.keys[row],
                raw=part.values[row],
                rejected_at=self.at,
            )
        answers = Answers(part.offsets, kinds, self.digests[start:stop], keys, out)
        return answers if values is not None else take(answers, np.flatnonzero(kinds == Kind.REJECTION))


def _decoded(
    part: Slice, digests: npt.NDArray[np.uint64]
) -> tuple[list[int], list[Transaction], history.Events, dict[int, Refused]]:
    """Return the rows that are transactions, these, their columns, and why the others are refused."""
    refused: dict[int, Refused] = {}
    rows: list[int] = []
    transactions: list[Transaction] = []
    columns = [np.empty(0, history.EVENT)]
    for start in range(0, len(part), BLOCK):
        first = len(rows)
        for row, (value, key) in enumerate(
            zip(part.values[start : start + BLOCK], part.keys[start : start + BLOCK], strict=True), start
        ):
            outcome = codec.decode_transaction(value, key)
            if isinstance(outcome, Refused):
                refused[row] = outcome
            else:
                rows.append(row)
                transactions.append(outcome)
        columns.append(codec.event_columns(transactions[first:], digests[rows[first:]]))
    return rows, transactions, np.concatenate(columns), refused


def _at(values: list[_T], places: npt.NDArray[np.int64]) -> list[_T]:
    """Return the values at ascending places: mostly all of them."""
    return values if len(places) == len(values) else [values[i] for i in places]
