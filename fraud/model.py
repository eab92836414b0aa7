"""The model as one bundle of three files, and the scorer that every caller shares.

`model.ubj` is XGBoost's booster, `calibrator.json` maps its margin to a probability, `bundle.json` says what
it was trained on and where its thresholds lie. No pickle: a bundle is data, and reading one runs nothing.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fraud.booster import load_booster, margins
from fraud.calibration import Calibrator
from fraud.errors import ModelError

Array = npt.NDArray[np.float64]

BOOSTER = "model.ubj"
CALIBRATOR = "calibrator.json"
MANIFEST = "bundle.json"
FILES = (BOOSTER, CALIBRATOR, MANIFEST)
FORMAT = 1


def _unit(name: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= float(value) <= 1.0:  # type: ignore[arg-type]
        raise ModelError(f"threshold {name}={value!r} lies outside 0…1")
    return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Bundle:
    """A trained model with everything that is needed to apply it and to judge it later.

    `window` says when it was trained on what (ISO times), `histograms` holds the features' distribution in
    the fit part (reference for drift), `metrics` the judgement, `params` XGBoost's parameters.

    Raises:
        ModelError: a threshold lies outside 0…1, or BLOCK lies below REVIEW.
    """

    booster: bytes
    calibrator: Calibrator
    feature_names: tuple[str, ...]
    feature_version: str
    review: float
    block: float | None = None
    window: Mapping[str, Any] = field(default_factory=dict)
    histograms: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        _unit("review", self.review)
        if self.block is not None and _unit("block", self.block) < self.review:
            raise ModelError(f"threshold block={self.block} lies below review={self.review}")

    def files(self) -> dict[str, bytes]:
        """Return the bundle's three files by name; the same bundle gives the same bytes."""
        parts = {BOOSTER: self.booster, CALIBRATOR: self.calibrator.to_json().encode()}
        manifest = {
            "format": FORMAT,
            "sha256": {name: hashlib.sha256(raw).hexdigest() for name, raw in parts.items()},
            "feature_names": list(self.feature_names),
            "feature_version": self.feature_version,
            "review": self.review,
            "block": self.block,
            "window": self.window,
            "histograms": self.histograms,
            "metrics": self.metrics,
            "params": self.params,
            "seed": self.seed,
        }
        return {**parts, MANIFEST: _json(manifest)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, any_features: bool = False) -> "Bundle":
        """Check the files and return the bundle.

        Args:
            files: name → bytes.
            any_features: accept other features than this version of the platform computes.

        Raises:
            ModelError: a file is missing or corrupt, or the features aren't ours; the message says which.
        """
        for name in FILES:
            if name not in files:
                raise ModelError(f"the bundle lacks {name}; it needs {', '.join(FILES)}")
        manifest = _parse(MANIFEST, files[MANIFEST])
        if manifest.get("format") != FORMAT:
            raise ModelError(f"{MANIFEST}: format {manifest.get('format')!r}; this version reads {FORMAT}")
        sums = manifest.get("sha256")
        for name in (BOOSTER, CALIBRATOR):
            if not isinstance(sums, dict) or hashlib.sha256(files[name]).hexdigest() != sums.get(name):
                raise ModelError(f"{name} is corrupt: its sha256 isn't the one in {MANIFEST}")
        bundle = cls._from_manifest(manifest, files)
        load_booster(bundle.booster, bundle.feature_names)
        if not any_features:
            bundle.require_our_features()
        return bundle

    @classmethod
    def _from_manifest(cls, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> "Bundle":
        try:
            return cls(
                booster=bytes(files[BOOSTER]),
                calibrator=Calibrator.from_json(files[CALIBRATOR]),
                feature_names=tuple(str(name) for name in manifest["feature_names"]),
                feature_version=str(manifest["feature_version"]),
                review=_unit("review", manifest["review"]),
                block=None if manifest["block"] is None else _unit("block", manifest["block"]),
                window=dict(manifest["window"]),
                histograms=dict(manifest["histograms"]),
                metrics=dict(manifest["metrics"]),
                params=dict(manifest["params"]),
                seed=int(manifest["seed"]),
            )
        except KeyError as exc:
            raise ModelError(f"{MANIFEST} lacks {exc.args[0]!r}") from exc
        except (TypeError, ValueError, OverflowError) as exc:
            raise ModelError(f"{MANIFEST} is malformed: {exc}") from exc

    def require_our_features(self) -> None:
        """Raise ModelError unless the bundle reads exactly the features that this version computes."""
        from fraud.features import FEATURE_NAMES, FEATURE_VERSION

        if self.feature_names != tuple(FEATURE_NAMES):
            strange = sorted(set(self.feature_names) ^ set(FEATURE_NAMES)) or ["the order"]
            raise ModelError(
                f"the bundle reads other feature names than this version computes: {', '.join(strange[:5])} "
                f"({len(self.feature_names)} against {len(FEATURE_NAMES)}); train again"
            )
        if self.feature_version != FEATURE_VERSION:
            raise ModelError(
                f"the bundle reads feature version {self.feature_version!r}, this version computes "
                f"{FEATURE_VERSION!r}; train again"
            )

    def to_bytes(self) -> bytes:
        """Return the three files as one MessagePack map, sorted by name: equal bundles, equal bytes."""
        import msgspec

        return msgspec.msgpack.encode(dict(sorted(self.files().items())))

    @classmethod
    def from_bytes(cls, raw: bytes, *, any_features: bool = False) -> "Bundle":
        """Read what `to_bytes` wrote; raises ModelError with the reason."""
        import msgspec

        try:
            files = msgspec.msgpack.decode(raw, type=dict[str, bytes])
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ModelError(f"the bundle can't be read: {exc}") from exc
        return cls.from_files(files, any_features=any_features)

    def to_dir(self, path: Path) -> None:
        """Write the three files into the folder `path`."""
        path.mkdir(parents=True, exist_ok=True)
        for name, raw in self.files().items():
            (path / name).write_bytes(raw)

    @classmethod
    def from_dir(cls, path: Path, *, any_features: bool = False) -> "Bundle":
        """Read the three files from the folder `path`; raises ModelError with the reason."""
        return cls.from_files(read_files(path), any_features=any_features)


def read_files(path: Path) -> dict[str, bytes]:
    """Return those of the bundle's files that the folder `path` holds."""
    return {name: (path / name).read_bytes() for name in FILES if (path / name).is_file()}


class Compiled(Protocol):
    """What gives a booster's margins in its stead."""

    def margins(self, matrix: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Return the margins (n,) of `matrix` (n, width), NaN = missing."""
        ...


# Takes a booster and the width of its matrices over; None where it can't (`fraud.forest.take_over`).
TakeOver = Callable[[Any, int], Compiled | None]


class Scorer:
    """Applies a bundle; the only place where a probability is made.

    A row's probability doesn't depend on the rows beside it: bit-equal in a batch of 1 and of 3,000.

    Attributes:
        compiled: gives XGBoost's own margins sooner; None: XGBoost scores.
    """

    def __init__(self, bundle: Bundle, take_over: TakeOver | None = None) -> None:
        self.bundle = bundle
        self.review = bundle.review
        self.block = bundle.block
        self._calibrator = bundle.calibrator
        self._width = len(bundle.feature_names)
        self._booster = load_booster(bundle.booster, bundle.feature_names)
        self._booster.set_param({"nthread": 1})
        self.compiled = None if take_over is None else take_over(self._booster, self._width)

    def margins(self, matrix: Array) -> npt.NDArray[np.float32]:
        """Return the booster's raw margins (n,) of `matrix` (n, features), NaN = missing."""
        if matrix.ndim != 2 or matrix.shape[1] != self._width:
            raise ModelError(f"a matrix of shape {matrix.shape} was given; the model reads (n, {self._width})")
        return margins(self._booster, matrix) if self.compiled is None else self.compiled.margins(matrix)

    def predict(self, matrix: Array) -> Array:
        """Return calibrated fraud probabilities (n,) of `matrix` (n, features) float64, NaN = missing."""
        return self._calibrator.apply(self.margins(matrix))


def decision(probability: float, review: float, block: float | None) -> str:
    """Return what to do: a threshold belongs to the harsher side.

    >>> [decision(p, 0.2, 0.9) for p in (0.1, 0.2, 0.9)], decision(0.95, 0.2, None)
    (['APPROVE', 'REVIEW', 'BLOCK'], 'REVIEW')
    """
    if block is not None and probability >= block:
        return "BLOCK"
    return "REVIEW" if probability >= review else "APPROVE"


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _parse(name: str, raw: bytes) -> dict[str, Any]:
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"{name} is corrupt: {exc}") from exc
    if not isinstance(values, dict):
        raise ModelError(f"{name} holds {type(values).__name__}, not an object")
    return values
