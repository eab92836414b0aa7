"""The benchmark of a retraining, small and whole."""

from functools import partial

import pytest

from fraud import training
from fraud.bench.train import Phases, run
from tests.training.synthetic import search_few_trees


def test_a_phase_begins_where_the_training_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 14.0, 16.0, 20.0])
    monkeypatch.setattr("fraud.bench.train.time.monotonic", lambda: next(clock))
    said: list[str] = []
    phases = Phases(said.append, _since=10.0)
    next(clock)
    for words in ("searching 20 candidates", "candidate 1 of 20", "comparing the default", "fitting 100 trees"):
        phases(words)
    phases.begin("end")
    assert phases.seconds == {"features": 1.0, "search": 3.0, "finals": 2.0, "fit": 4.0}
    assert said == ["searching 20 candidates", "candidate 1 of 20", "comparing the default", "fitting 100 trees"]


def test_a_small_retraining_is_measured_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_trees(monkeypatch, 5)
    monkeypatch.setattr(training, "train", partial(training.train, min_frauds=2))
    found = run(30_000, 1, seed=1, threads=1, say=lambda _: None)
    assert set(found["phases"]) == {"features", "search", "finals", "fit", "calibrate and judge", "card and plots"}
    assert sum(found["phases"].values()) == pytest.approx(found["seconds"], abs=0.5)
    assert 0 < found["frauds"] < found["rows"] < found["transactions"]
    assert found["peak_rss_mb"] > 100
    assert found["cpu_seconds"] > 0
