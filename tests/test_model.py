"""The bundle refuses what it can't serve, and a score never depends on its batch."""

import json

import numpy as np
import pytest

from fraud.calibration import Calibrator
from fraud.errors import ModelError
from fraud.features import FEATURE_NAMES
from fraud.forest import take_over
from fraud.model import BOOSTER, CALIBRATOR, FILES, MANIFEST, Bundle, Scorer, TakeOver, decision
from tests.bundles import random_rows, tiny_booster, tiny_bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return tiny_bundle()


@pytest.mark.parametrize("compiled", [None, take_over])
def test_a_score_is_bit_equal_whatever_the_batch(bundle: Bundle, compiled: TakeOver | None) -> None:
    matrix, _ = random_rows(3_000, seed=7)
    scorer = Scorer(bundle, compiled)
    assert (scorer.compiled is None) == (compiled is None)
    whole = scorer.predict(matrix)
    parts = [scorer.predict(matrix[i : i + 77]) for i in range(0, 3_000, 77)]
    single = [scorer.predict(matrix[i : i + 1]) for i in range(3_000)]
    assert whole.dtype == np.float64
    assert len(np.unique(whole)) > 1_000
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert np.concatenate(single).tobytes() == whole.tobytes()


def test_rows_in_another_memory_layout_score_the_same(bundle: Bundle) -> None:
    matrix, _ = random_rows(500, seed=8)
    scorer = Scorer(bundle)
    assert scorer.predict(np.asfortranarray(matrix)).tobytes() == scorer.predict(matrix).tobytes()


def test_no_rows_no_scores_and_all_missing_is_a_score(bundle: Bundle) -> None:
    scorer = Scorer(bundle)
    assert scorer.predict(np.empty((0, len(FEATURE_NAMES)))).shape == (0,)
    (missing,) = scorer.predict(np.full((1, len(FEATURE_NAMES)), np.nan))
    assert 0.0 < missing < 1.0


def test_a_matrix_of_another_width_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match=r"\(n, 31\)"):
        Scorer(bundle).predict(np.zeros((2, 30)))


def test_bytes_are_the_same_for_the_same_bundle_and_come_back(bundle: Bundle) -> None:
    raw = bundle.to_bytes()
    assert raw == tiny_bundle().to_bytes()
    assert raw != tiny_bundle(review=0.31).to_bytes()
    again = Bundle.from_bytes(raw)
    assert again == bundle
    assert again.to_bytes() == raw


def test_a_folder_holds_three_files_and_comes_back(bundle: Bundle, tmp_path) -> None:  # type: ignore[no-untyped-def]
    bundle.to_dir(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(FILES)
    assert Bundle.from_dir(tmp_path / "model").to_bytes() == bundle.to_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Bundle, name: str) -> None:
    files = bundle.files()
    del files[name]
    with pytest.raises(ModelError, match=f"lacks {name}"):
        Bundle.from_files(files)


@pytest.mark.parametrize("name", [BOOSTER, CALIBRATOR])
def test_a_changed_file_is_refused_by_its_checksum(bundle: Bundle, name: str) -> None:
    files = bundle.files()
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    with pytest.raises(ModelError, match=f"{name} is corrupt"):
        Bundle.from_files(files)


def broken_boosters() -> dict[str, bytes]:
    raw = tiny_booster()
    return {
        "empty": b"",
        "not ubjson": b"garbage",
        "json": b"{}",
        "first 100 bytes": raw[:100],
        "cut in half": raw[: len(raw) // 2],
        "last byte gone": raw[:-1],
        "more behind": raw + b"x",
        "zeros inside": raw[:2_000] + bytes(50) + raw[2_050:],
        "another object": b"{L\x00\x00\x00\x00\x00\x00\x00\x01aZ}",
    }


@pytest.mark.parametrize("case", broken_boosters())
def test_a_corrupt_booster_is_refused_and_the_process_lives(case: str) -> None:
    raw = tiny_bundle(booster=broken_boosters()[case]).to_bytes()
    with pytest.raises(ModelError, match="booster is corrupt"):
        Bundle.from_bytes(raw)


def test_other_features_are_refused_by_name() -> None:
    names = ("velocity", *FEATURE_NAMES[1:])
    other = tiny_bundle(feature_names=names, booster=tiny_booster(names=names)).to_bytes()
    with pytest.raises(ModelError, match=r"other feature names .*velocity"):
        Bundle.from_bytes(other)
    assert Bundle.from_bytes(other, any_features=True).feature_names == names
    with pytest.raises(ModelError, match="feature version '0'"):
        Bundle.from_bytes(tiny_bundle(feature_version="0").to_bytes())


def test_a_booster_over_other_columns_than_the_manifest_is_refused() -> None:
    fewer = FEATURE_NAMES[:-1]
    with pytest.raises(ModelError, match="reads 30 columns"):
        Bundle.from_bytes(tiny_bundle(booster=tiny_booster(names=fewer)).to_bytes())
    swapped = (FEATURE_NAMES[1], FEATURE_NAMES[0], *FEATURE_NAMES[2:])
    with pytest.raises(ModelError, match="aren't the bundle's 31"):
        Bundle.from_bytes(tiny_bundle(booster=tiny_booster(names=swapped)).to_bytes())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("review", 1.5, r"review=1.5 lies outside"),
        ("review", -0.1, r"review=-0.1 lies outside"),
        ("review", None, r"review=None lies outside"),
        ("review", True, r"review=True lies outside"),
        ("review", "0.5", r"review='0.5' lies outside"),
        ("block", 1.01, r"block=1.01 lies outside"),
        ("block", 0.1, r"block=0.1 lies below review=0.3"),
        ("feature_names", None, "malformed"),
        ("seed", "x", "malformed"),
        ("window", 3, "malformed"),
        ("format", 2, "format 2"),
        ("sha256", [], "corrupt"),
    ],
)
def test_a_malformed_manifest_is_refused_with_the_reason(
    bundle: Bundle, field: str, value: object, reason: str
) -> None:
    files = bundle.files()
    files[MANIFEST] = json.dumps(json.loads(files[MANIFEST]) | {field: value}).encode()
    with pytest.raises(ModelError, match=reason):
        Bundle.from_files(files)


@pytest.mark.parametrize("field", ["feature_names", "feature_version", "review", "block", "window", "seed"])
def test_a_manifest_without_a_field_names_it(bundle: Bundle, field: str) -> None:
    files = bundle.files()
    manifest = json.loads(files[MANIFEST])
    del manifest[field]
    files[MANIFEST] = json.dumps(manifest).encode()
    with pytest.raises(ModelError, match=f"lacks '{field}'"):
        Bundle.from_files(files)


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"[1,2]", b"\x81\xa1a\x01", b"\x93\x01\x02\x03"])
def test_bytes_that_are_no_bundle_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelError, match="can't be read"):
        Bundle.from_bytes(raw)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(bundle: Bundle, raw: bytes) -> None:
    with pytest.raises(ModelError, match=f"{MANIFEST}"):
        Bundle.from_files(bundle.files() | {MANIFEST: raw})


def test_block_may_be_off_and_a_threshold_belongs_to_the_harsher_side() -> None:
    assert Bundle.from_bytes(tiny_bundle(block=None).to_bytes()).block is None
    assert [decision(p, 0.3, 0.9) for p in (0.2999, 0.3, 0.9)] == ["APPROVE", "REVIEW", "BLOCK"]
    assert decision(1.0, 0.3, None) == "REVIEW"
    assert decision(0.3, 0.3, 0.3) == "BLOCK"


def test_a_calibrator_that_could_turn_the_ranking_is_refused() -> None:
    for a, b, c in [(0.0, 1.0, 0.0), (1.0, -1.0, 0.0), (float("nan"), 1.0, 0.0), (1.0, 1.0, float("inf"))]:
        with pytest.raises(ModelError, match="strictly increasing"):
            Calibrator(a, b, c)
