"""`bench model`: what a row costs to score, by batch: the job's compiled forest, XGBoost and ONNX Runtime beside.

ONNX Runtime is optional (`make peers`). All apply one booster whose calibrator changes nothing, so their
probabilities can be compared; ours and XGBoost's times include the calibrator.
"""

import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.bench.processes import load, machine
from fraud.bench.sample import Sample, simulated
from fraud.bench.timing import Call, measure
from fraud.calibration import Calibrator
from fraud.errors import StateError
from fraud.features import FEATURE_NAMES, FEATURE_VERSION
from fraud.forest import take_over
from fraud.model import Bundle, Scorer

ROWS = (1, 10, 100, 1_000, 10_000)
PEERS = ("onnxmltools", "onnxruntime")

Say = Callable[[str], None]
Predict = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def run(trees: int, depth: int, repeats: int, say: Say, rows: Sequence[int] = ROWS) -> dict[str, Any]:
    """Train a booster on simulated rows and time the three on them, one thread each.

    Returns:
        {trees, depth, features, rows: {n: {compiled_us, xgboost_us, onnx_us}}, difference, repeats, load, machine}; µs
        per row as {median, range}; `difference` is the largest one between ONNX Runtime's probabilities and ours, which
        are XGBoost's; `onnx_us` and `difference` are null where ONNX Runtime isn't installed.
    """
    busy = load()
    say(f"training {trees} trees of depth {depth} (not counted)")
    sample = simulated()
    bundle = trained(sample, trees, depth)
    scorer, plain = Scorer(bundle, take_over), Scorer(bundle)
    if scorer.compiled is None:
        raise StateError("the compiled forest isn't XGBoost's equal on this booster")
    peer = onnx(bundle)
    if peer is None:
        say("ONNX Runtime isn't installed, so only XGBoost stands beside; install it with: make peers")
    matrix = np.resize(sample.matrix, (max(rows), sample.matrix.shape[1]))
    found = {}
    for count in rows:
        found[str(count)] = _times(scorer, plain, peer, np.ascontiguousarray(matrix[:count]), repeats)
        say(f"{count:,} rows: " + ", ".join(f"{name[:-3]} {_median(each)}" for name, each in found[str(count)].items()))
    return {
        "trees": trees,
        "depth": depth,
        "features": len(FEATURE_NAMES),
        "rows": found,
        "difference": None if peer is None else float(np.abs(scorer.predict(matrix) - peer(matrix)).max()),
        "repeats": repeats,
        "load": busy,
        "machine": machine(),
    }


def trained(sample: Sample, trees: int, depth: int) -> Bundle:
    """Return a bundle over the sample's rows whose calibrator changes nothing."""
    import xgboost

    rows = xgboost.DMatrix(sample.matrix, label=sample.frauds.astype(float), nthread=1)
    settings = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.1, "base_score": 0.5, "nthread": 1}
    booster = xgboost.train(settings, rows, trees)
    return Bundle(
        booster=bytes(booster.save_raw("ubj")),
        calibrator=Calibrator(1.0, 1.0, 0.0),
        feature_names=FEATURE_NAMES,
        feature_version=FEATURE_VERSION,
        review=0.5,
    )


def onnx(bundle: Bundle) -> Predict | None:
    """Return ONNX Runtime's prediction by the bundle's booster, None where it isn't installed."""
    if any(find_spec(name) is None for name in PEERS):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's, about libraries of its own
        session = _session(bundle)
    name = session.get_inputs()[0].name

    def predict(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        probabilities = session.run(["probabilities"], {name: matrix.astype(np.float32)})[0]
        return np.asarray(probabilities[:, 1], np.float64)

    return predict


def _session(bundle: Bundle) -> Any:
    from fraud.booster import load_booster

    # By name: mypy shall say the same where they are installed and where they aren't.
    onnxmltools, onnxruntime = (import_module(name) for name in PEERS)
    kind = import_module("onnxmltools.convert.common.data_types").FloatTensorType
    booster = load_booster(bundle.booster, bundle.feature_names)
    inputs = [("input", kind([None, len(bundle.feature_names)]))]
    converted = onnxmltools.convert_xgboost(booster, initial_types=inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(converted.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _times(
    scorer: Scorer, plain: Scorer, peer: Predict | None, matrix: npt.NDArray[np.float64], repeats: int
) -> dict[str, Any]:
    calls: dict[str, Call] = {
        "compiled_us": lambda: scorer.predict(matrix),
        "xgboost_us": lambda: plain.predict(matrix),
    }
    if peer is not None:
        calls["onnx_us"] = lambda: peer(matrix)
    found: dict[str, Any] = {
        name: timing.figures(1e6 / len(matrix)) for name, timing in measure(calls, repeats).items()
    }
    return found if peer is not None else found | {"onnx_us": None}


def _median(figures: dict[str, Any] | None) -> str:
    return "—" if figures is None else f"{figures['median']} µs a row"
