"""What voids a comparison, the peers' one-row arithmetic against the platform's, and a small run of the whole."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.peers.one_row import OneRow, calibrated
from bench.peers.onnx_model import INPUT, TERMS, Terms, write
from bench.peers.plain import decided
from bench.peers.prepared import one_row
from bench.peers.program import options
from fraud.bench import peers
from fraud.bench.peers import NEEDED, compare
from fraud.cli.extras import advice
from fraud.codec import format_time
from fraud.decision import Model, Slice
from fraud.errors import ServiceError, StateError
from fraud.history import NEVER
from fraud.model import Scorer
from fraud.schema import Source
from fraud.store.base import PartitionKey, Pointer
from fraud.store.memory import open_memory
from tests import servers
from tests.bench.command import measured
from tests.messages import transaction
from tests.models import small_bundle

ABSENT = [module for module in NEEDED if find_spec(module) is None]
needs_peers = pytest.mark.skipif(bool(ABSENT), reason=f"{', '.join(ABSENT)} isn't installed: run `make peers`")

BEGIN = 1_769_853_600_000  # ms


def scores(*values: float) -> dict[int, np.ndarray[Any, np.dtype[np.float64]]]:
    return {0: np.array([0.5, 0.25]), 1: np.array(values)}


def test_equal_scores_are_counted() -> None:
    found = compare({"a": scores(0.1, 0.2, 0.3), "b": scores(0.1, 0.2, 0.3), "c": scores(0.1, 0.2, 0.300001)})
    assert found == {"compared": 5, "largest": pytest.approx(1e-6)}


@pytest.mark.parametrize("other", ["b", "c"])
def test_a_difference_voids_the_run(other: str) -> None:
    given = {name: scores(0.1, 0.2, 0.3) for name in ("a", "b", "c")} | {other: scores(0.1, 0.20002, 0.3)}
    with pytest.raises(
        ServiceError, match=f"void: {other} and a score 1 of 3 messages of partition 1 differently; offset 1"
    ):
        compare(given)


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_missing_row_voids_the_run(name: str) -> None:
    given = {"a": scores(0.1, 0.2, 0.3), "b": scores(0.1, 0.2, 0.3)} | {name: scores(0.1, np.nan, 0.3)}
    with pytest.raises(ServiceError, match=f"void: {name} has no score for 1 of 3 messages of partition 1.*offset 1"):
        compare(given)


def test_rows_that_one_system_was_never_sent_void_the_run() -> None:
    with pytest.raises(ServiceError, match="void: b has no score for 1 of 3 messages"):
        compare({"a": scores(0.1, 0.2, 0.3), "b": scores(0.1, 0.2)})
    with pytest.raises(ServiceError, match="void: b has no score for 3 of 3 messages of partition 1"):
        compare({"a": scores(0.1, 0.2, 0.3), "b": {0: np.array([0.5, 0.25])}})


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "NEEDED", ("quixstreams_that_is_nowhere",))
    with pytest.raises(ModuleNotFoundError) as caught:
        peers.require()
    assert caught.value.name == "quixstreams_that_is_nowhere"
    for module in ("quixstreams", "onnxruntime", "onnxmltools"):
        told = advice(ModuleNotFoundError(name=module))
        assert told is not None
        assert f"needs {module}" in told
        assert "make peers" in told
        assert "--require-hashes -r requirements/peers.txt" in told


def test_an_installed_package_has_no_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    with pytest.raises(StateError, match="run this from a checkout"):
        peers.require()


@pytest.mark.parametrize("margin", [-80.0, -5.0, -0.1, 0.0, 0.1, 5.0, 80.0])
def test_one_margin_is_calibrated_as_a_column_is(margin: float) -> None:
    bundle = small_bundle()
    terms = Terms(0.7, 1.3, -2.0, 0.2, 0.9, "m", "1")
    calibrator = type(bundle.calibrator)(terms.a, terms.b, terms.c)
    assert calibrated(terms, margin) == pytest.approx(float(calibrator.apply(np.array([margin]))[0]), rel=1e-12)


class BoosterSession:
    """Stands where an ONNX session stands, with XGBoost's own margins."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def run(self, _names: Sequence[str], given: dict[str, Any]) -> list[Any]:
        margins = self.scorer.margins(given[INPUT])
        return [np.column_stack([-margins, margins])]


def messages() -> list[bytes]:
    """Return a user's transactions: with everything, with nothing that may be missing, elsewhere, late."""
    bare = {
        "merchant_category": None,
        "channel": None,
        "country": None,
        "device_id": None,
        "latitude": None,
        "longitude": None,
    }
    changes: list[dict[str, Any]] = [
        {},
        bare,
        {"latitude": None},
        {"country": "FR", "latitude": 48.9, "longitude": 2.3},
    ]
    return [
        transaction(transaction_id=f"t{i}", timestamp=format_time(BEGIN + i * 977_000), amount=5.0 + 40 * i, **change)
        for i, change in enumerate(changes * 3)
    ] + [transaction(transaction_id="late", timestamp=format_time(BEGIN - 86_400_000), amount=9.99)]


def test_one_row_at_a_time_gives_the_bytes_that_a_slice_gives() -> None:
    bundle, store = small_bundle(), open_memory()
    values, now = messages(), BEGIN + 10**8
    raw = bundle.to_bytes()
    pointer = _pointer(raw)
    part = Slice(
        PartitionKey("topic", 0), "transactions", np.arange(len(values)), [b"u1"] * len(values), values,
        np.full(len(values), now),
    )  # fmt: skip
    answers = decided(part, store, Model(Scorer(bundle), pointer))
    c = bundle.calibrator
    terms = Terms(c.a, c.b, c.c, bundle.review, bundle.block, pointer.model_name, pointer.model_version)
    scorer = OneRow(BoosterSession(Scorer(bundle)), terms, {}, None)
    packed = None
    for offset, value in enumerate(values):
        source = Source("transactions", 0, offset)
        prediction, packed = scorer.score(value, b"u1", packed, source, broker_ms=now, now_ms=now)
        expected = msgspec.json.decode(answers.values[offset])
        found = msgspec.json.decode(prediction)
        probability = expected.pop("fraud_probability")
        assert found.pop("fraud_probability") == pytest.approx(probability, abs=1e-12)
        assert list(found.items())[:-1] == list(expected.items())[:-1]  # the last is the clock's
    assert store.histories.read(0, ["u1"]) == [packed]
    assert packed is not None
    assert int.from_bytes(packed[:8], "little", signed=True) > NEVER


def test_a_refused_message_ends_a_peer() -> None:
    scorer = OneRow(None, Terms(1.0, 1.0, 0.0, 0.2, None, "m", "1"), {}, None)
    with pytest.raises(StateError, match="valid messages only"):
        scorer.score(b"{}", b"u1", None, Source("transactions", 0, 0), broker_ms=BEGIN, now_ms=BEGIN)


@needs_peers
def test_the_converted_model_agrees_with_the_booster(tmp_path: Path) -> None:
    """`write` compares at the booster's own split points, and fails where they differ."""
    bundle, store = small_bundle(seed=3), open_memory()
    raw = bundle.to_bytes()
    store.serving.publish(raw, _pointer(raw), expected_sequence=0)
    write(store, tmp_path)
    assert msgspec.json.decode((tmp_path / TERMS).read_bytes(), type=Terms).review == bundle.review
    scorer, source = one_row(store, tmp_path), Source("transactions", 0, 0)
    prediction, _ = scorer.score(messages()[0], b"u1", None, source, broker_ms=BEGIN, now_ms=BEGIN)
    assert 0 <= msgspec.json.decode(prediction)["fraud_probability"] <= 1


PROGRAM = """
import sys, time
from bench.peers.program import options, run

def work(told, number):
    (told.settings.home / str(number)).touch()
    while number or not {ends} or not (told.settings.home / "1").exists():
        time.sleep(0.01)
    sys.exit(3)

sys.exit(run(work, options("x")))
"""


def started(home: Path, ends: bool) -> "subprocess.Popen[bytes]":
    """Start two processes that wait; the first one fails once the second runs, if it `ends`."""
    command = [sys.executable, "-c", PROGRAM.format(ends=ends), "--home", str(home), "--bootstrap", "127.0.0.1:1"]
    return subprocess.Popen(command, cwd=servers.REPOSITORY)


def test_the_first_process_that_ends_ends_the_others(tmp_path: Path) -> None:
    with started(tmp_path, ends=True) as process:
        assert process.wait(60) == 3


def test_a_peer_that_is_asked_to_end_ends_well(tmp_path: Path) -> None:
    with started(tmp_path, ends=False) as process:
        servers.wait_for("both run", lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), 60)
        process.terminate()
        assert process.wait(60) == 0


def test_a_peer_reads_the_prepared_home(tmp_path: Path) -> None:
    told = options("x", ["--home", str(tmp_path), "--bootstrap", "127.0.0.1:1", "--processes", "3"])
    assert told.processes == 3
    assert told.settings.kafka_bootstrap == "127.0.0.1:1"
    assert told.home == tmp_path / "data" / "peers"


@needs_peers
@pytest.mark.server
@pytest.mark.timeout(1_200)
def test_bench_peers_compares_three_systems(tmp_path: Path) -> None:
    told = measured(tmp_path / "home", "peers", "--events", "12000", "--users", "2000", seconds=1_150)
    assert told["score_differences"]["compared"] == 16_000
    assert told["score_differences"]["largest"] <= 1e-5
    for system in ("spark", "quixstreams", "plain"):
        assert told[system]["events_per_s"] > 50, system
        assert told[system]["cpu_s_per_million"] > 1, system
        assert told[system]["rss_mb"] > 50, system
    assert told["runs"] == 1


def _pointer(raw: bytes) -> Pointer:
    return Pointer(1, hashlib.sha256(raw).hexdigest(), "fraud-detector", "1", BEGIN)
