"""The model for one row at a time: the booster as an ONNX tree ensemble, what stands around it as JSON.

XGBoost's `inplace_predict` costs a quarter of a millisecond a call, ONNX Runtime's 10 to 15 µs; in batches it
is the other way round. A process of its own converts, so that the converter's memory isn't the peer's.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.peers.program import options
from fraud.errors import FraudError, ModelError
from fraud.forest import take_over
from fraud.model import Bundle
from fraud.store import open_store
from fraud.store.base import Store

MODEL = "model.onnx"
TERMS = "model.json"
INPUT, OUTPUT = "features", "probabilities"
TOLERANCE = 1e-5  # of a margin, over SAMPLES rows
SAMPLES = 20_000


class Terms(msgspec.Struct, frozen=True):
    """What a score needs beside the margin: the calibrator's parameters, the thresholds, the name."""

    a: float
    b: float
    c: float
    review: float
    block: float | None
    name: str
    version: str


def convert(bundle: Bundle) -> bytes:
    """Return the booster as an ONNX model that gives margins: `OUTPUT`[:, 1] for `INPUT` (n, features) float32.

    Raises:
        ModelError: it doesn't agree with the booster.
    """
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    from fraud.booster import load_booster

    booster = load_booster(bundle.booster, bundle.feature_names)
    width = len(bundle.feature_names)
    model = onnxmltools.convert_xgboost(booster, initial_types=[(INPUT, FloatTensorType([None, width]))])
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "post_transform":
                attribute.s = b"NONE"  # the calibrator reads margins
    raw = bytes(model.SerializeToString())
    _check(raw, bundle, booster)
    return raw


def session(raw: bytes) -> Any:
    """Open a model on one thread."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = chosen.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(raw, chosen, providers=["CPUExecutionProvider"])


def _check(raw: bytes, bundle: Bundle, booster: Any) -> None:
    """Compare margins with the booster's own on rows where a difference would show."""
    forest = take_over(booster, len(bundle.feature_names))
    if forest is None:
        raise ModelError("the booster isn't a plain forest, and can't be compared at its thresholds")
    rows = forest.trying(SAMPLES)
    found = session(raw).run([OUTPUT], {INPUT: rows.astype(np.float32)})[0][:, 1]
    largest = float(np.abs(found - forest.margins(rows)).max())
    if not largest <= TOLERANCE:
        raise ModelError(f"the converted model's margins differ from the booster's by up to {largest:.2g}")


def write(store: Store, folder: Path) -> None:
    """Convert the model that the store serves into `folder`: model.onnx and model.json."""
    pointer = store.serving.pointer()
    if pointer is None:
        raise ModelError("the store serves no model")
    bundle = Bundle.from_bytes(store.serving.bundle(pointer.sha256))
    calibrator = bundle.calibrator
    terms = Terms(
        calibrator.a,
        calibrator.b,
        calibrator.c,
        bundle.review,
        bundle.block,
        pointer.model_name,
        pointer.model_version,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(convert(bundle))
    (folder / TERMS).write_bytes(msgspec.json.encode(terms))


def main() -> int:
    """Convert; exit 1 where the two models disagree."""
    told = options("Convert the served model to ONNX and check that both agree.")
    store = open_store(told.settings)
    try:
        write(store, told.home)
    except FraudError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
