"""One transaction at a time: the arithmetic of `fraud.decision.Decision`, without what only batches repay.

Decoder, kernel, profiles' format and message are the platform's own. What NumPy does for a column of one at
ten times the cost of the number itself (encoding, the calibrator's formula) is written out for one row.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from bench.peers.onnx_model import INPUT, OUTPUT, Terms
from fraud import codec, features, history, profiles
from fraud.codec import Refused
from fraud.errors import StateError
from fraud.features import ACCEPTED, FEATURE_NAMES, FEATURE_VERSION, INTEGER_FEATURES
from fraud.model import decision
from fraud.profiles import Profiles
from fraud.schema import CHANNELS, Prediction, Source, Transaction
from fraud.times import parse_time
from fraud.verdicts import repeat_of

_CHANNEL: dict[str | None, int] = {None: -1, **{name: i for i, name in enumerate(CHANNELS)}}
_ONE = np.array([0, 1], np.int64)
_FIRST = np.zeros(1, np.int64)
_NOBODY = profiles.unpack([None])
_INTEGER = tuple(name in INTEGER_FEATURES for name in FEATURE_NAMES)
_AVERAGE, _RATIO = FEATURE_NAMES.index("rolling_avg_7d"), FEATURE_NAMES.index("amount_to_avg_ratio")
_ENCODER = msgspec.json.Encoder()
_Features = msgspec.defstruct("Features", list(FEATURE_NAMES), frozen=True, gc=False)


class OneRow:
    """Scores message after message.

    Args:
        session: an ONNX Runtime session of `bench.peers.onnx_model`.
        merchants: each merchant's profile, unpacked once.
        through: the profiles' `profile_through` as the messages have it.
    """

    def __init__(self, session: Any, terms: Terms, merchants: Mapping[str, Profiles], through: str | None) -> None:
        self.session, self.terms, self.merchants, self.through = session, terms, merchants, through

    def score(
        self,
        value: bytes | None,
        key: bytes | None,
        packed: bytes | None,
        source: Source,
        *,
        broker_ms: int,
        now_ms: int,
    ) -> tuple[bytes, bytes]:
        """Return the prediction and the user's new history, packed.

        Args:
            packed: the user's history before; None: none.

        Raises:
            StateError: the message is refused; a benchmark sends none that is.
        """
        transaction = codec.decode_transaction(value, key)
        if isinstance(transaction, Refused):
            raise StateError(f"{source}: {transaction}; the benchmark sends valid messages only")
        event = _event(transaction, codec.digest(value or b""))
        refused = codec.check_clock(int(event["time"][0]), broker_ms, None)
        folded = features.fold(event, _ONE, _unpacked(packed))
        if refused is None and folded.status[0] != ACCEPTED:
            refused = repeat_of(int(folded.status[0]), transaction)
        if refused is not None:
            raise StateError(f"{source}: {refused}; the benchmark sends valid messages only")
        changed = history.pack(int(folded.newest[0]), folded.entries[folded.start[0] : folded.stop[0]])
        profile = self.merchants.get(transaction.merchant_id, _NOBODY)
        features.add_merchant_features(folded.matrix, event["time"], _FIRST, profile)
        margin = self.session.run([OUTPUT], {INPUT: folded.matrix.astype(np.float32)})[0][0, 1]
        probability = calibrated(self.terms, float(margin))
        return self.encode(transaction, folded.matrix[0], probability, source, codec.format_time(now_ms)), changed

    def encode(
        self,
        transaction: Transaction,
        row: npt.NDArray[np.float64],
        probability: float,
        source: Source,
        scored_at: str,
    ) -> bytes:
        """Return the prediction's bytes: those of `fraud.predictions.encode_predictions` for this row."""
        values: list[Any] = [
            None if value != value else int(value) if integer else value  # NaN is null
            for value, integer in zip(row.tolist(), _INTEGER, strict=True)
        ]
        terms = self.terms
        return _ENCODER.encode(
            Prediction(
                transaction.transaction_id,
                transaction.user_id,
                transaction.merchant_id,
                transaction.timestamp,
                transaction.amount,
                values[_AVERAGE],
                values[_RATIO],
                probability,
                1 if probability >= terms.review else 0,
                cast(Any, decision(probability, terms.review, terms.block)),
                terms.review,
                terms.name,
                terms.version,
                FEATURE_VERSION,
                cast("dict[str, float | None]", _Features(*values)),
                self.through,
                source,
                scored_at,
            )
        )


def calibrated(terms: Terms, margin: float) -> float:
    """Return `fraud.calibration.Calibrator.apply` of one margin.

    >>> calibrated(Terms(1.0, 1.0, 0.0, 0.2, None, "m", "1"), 0.0)
    0.5
    """
    log_q = -_softplus(-margin)
    return math.exp(-_softplus(-(terms.a * log_q - terms.b * (log_q - margin) + terms.c)))


def _softplus(x: float) -> float:
    """Return log(1 + exp(x)) without overflow."""
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def _event(transaction: Transaction, digest: int) -> history.Events:
    """Return `fraud.codec.event_columns` of one transaction."""
    mcc, device = transaction.merchant_category, transaction.device_id
    lat, lon = transaction.latitude, transaction.longitude
    if lat is None or lon is None:
        lat = lon = math.nan
    return np.array(
        [
            (
                parse_time(transaction.timestamp),
                transaction.amount,
                codec.hash_id(transaction.merchant_id),
                0 if device is None else codec.hash_id(device),
                lat,
                lon,
                codec.hash_id(transaction.transaction_id),
                digest,
                codec.country_code(transaction.country),
                _CHANNEL[transaction.channel],
                -1 if mcc is None else int(mcc),
            )
        ],
        history.EVENT,
    )


def _unpacked(packed: bytes | None) -> history.Histories:
    """Return `fraud.history.unpack` of one value."""
    if packed is None:
        return history.unpack([None])
    entries = np.frombuffer(packed, history.ENTRY, offset=history.HEADER)
    newest = int.from_bytes(packed[: history.HEADER], "little", signed=True)
    return history.Histories(entries, np.array([0, len(entries)], np.int64), np.array([newest], np.int64))
