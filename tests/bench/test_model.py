"""The model's measurement, with and without the peer."""

import numpy as np
import pytest

from fraud.bench import model
from fraud.bench.sample import simulated


def test_rows_in_a_batch_cost_less_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "find_spec", lambda _: None)
    said: list[str] = []
    result = model.run(10, 3, 2, said.append, rows=(1, 1_000))
    one, many = (result["rows"][rows]["xgboost_us"]["range"][0] for rows in ("1", "1000"))
    assert many < one
    assert result["rows"]["1"]["onnx_us"] is None
    assert result["difference"] is None
    assert any("make peers" in words for words in said)


def test_onnx_runtime_says_the_same() -> None:
    for name in model.PEERS:
        pytest.importorskip(name, reason=f"{name} isn't installed: make peers")
    result = model.run(10, 3, 2, lambda _: None, rows=(1, 100))
    assert result["rows"]["100"]["onnx_us"]["median"] > 0
    assert result["difference"] < 1e-5


def test_the_model_tells_frauds_from_others() -> None:
    from fraud.model import Scorer

    sample = simulated(users=100, days=15)
    probabilities = Scorer(model.trained(sample, 100, 4)).predict(sample.matrix)
    assert np.mean(probabilities[sample.frauds]) > 5 * np.mean(probabilities[~sample.frauds])
