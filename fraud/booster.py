"""XGBoost's booster, read with care: XGBoost's own reader can end the process on a file that is cut short."""

import struct
from typing import Any

import numpy as np

from fraud.errors import ModelError

_FIXED = {b"Z": 0, b"T": 0, b"F": 0, b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4, b"d": 4, b"L": 8, b"D": 8}
_LENGTHS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_MAX_DEPTH = 32


class _Ubjson:
    """Walks a UBJSON document without building it; raises ValueError where it is malformed."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.raw):
            raise ValueError(f"it ends within a value at byte {self.at} of {len(self.raw)}")
        self.at += count
        return self.raw[self.at - count : self.at]

    def length(self) -> int:
        marker = self.take(1)
        if marker not in _LENGTHS:
            raise ValueError(f"byte {self.at - 1} holds no length")
        layout = _LENGTHS[marker]
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def value(self, depth: int = 0, marker: bytes | None = None) -> None:
        marker = self.take(1) if marker is None else marker
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if marker in _FIXED:
            self.take(_FIXED[marker])
        elif marker == b"S":
            self.take(self.length())
        elif marker == b"[":
            self.array(depth)
        elif marker == b"{":
            while (self.raw[self.at : self.at + 1]) != b"}":
                self.take(self.length())
                self.value(depth + 1)
            self.take(1)
        else:
            raise ValueError(f"byte {self.at - 1} starts no value")

    def array(self, depth: int) -> None:
        ahead = self.raw[self.at : self.at + 1]
        if ahead == b"$":
            kind = self.raw[self.at + 1 : self.at + 2]
            if self.take(3)[2:] != b"#" or kind not in _FIXED:
                raise ValueError(f"byte {self.at - 3} starts no typed array")
            self.take(self.length() * _FIXED[kind])
        elif ahead == b"#":
            self.take(1)
            for _ in range(self.length()):
                self.value(depth + 1)
        else:
            while self.raw[self.at : self.at + 1] != b"]":
                self.value(depth + 1)
            self.take(1)


def check_ubjson(raw: bytes) -> None:
    """Raise ValueError unless `raw` is one whole UBJSON object (https://ubjson.org)."""
    if raw[:2] not in (b"{L", b"{i", b"{U"):
        raise ValueError("it isn't a UBJSON object")
    walk = _Ubjson(raw)
    walk.value()
    if walk.at != len(raw):
        raise ValueError(f"{len(raw) - walk.at} bytes follow its end")


def load_booster(raw: bytes, names: tuple[str, ...]) -> Any:
    """Return the booster in `raw` (UBJ).

    Raises:
        ModelError: it can't be read, or reads other columns than `names`.
    """
    import xgboost

    try:
        check_ubjson(raw)
        booster = xgboost.Booster()
        booster.load_model(bytearray(raw))
        width = int(booster.num_features())
    except ValueError as exc:  # XGBoostError is one
        raise ModelError(f"the booster is corrupt: {str(exc).strip().splitlines()[0]}") from exc
    inner = tuple(booster.feature_names or names)
    if width != len(names) or inner != names:
        raise ModelError(f"the booster reads {width} columns that aren't the bundle's {len(names)}")
    booster.feature_names = None  # inplace_predict on a plain matrix
    return booster


def margins(booster: Any, matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return raw margins (n,) of `matrix` (n, features), NaN = missing; bit-equal whatever n."""
    if len(matrix) == 0:
        return np.empty(0, np.float32)
    raw = booster.inplace_predict(matrix, predict_type="margin", missing=np.nan)
    return np.asarray(raw, np.float32)
