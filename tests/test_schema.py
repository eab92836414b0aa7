"""The field tables: what is made from them is up to date, and what we write is what they say."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fraud import schema_files
from fraud.bus import LARGEST_ANSWER
from fraud.codec import decode_transaction, encode_predictions
from fraud.features import FEATURE_NAMES, INTEGER_FEATURES
from fraud.features.__main__ import markdown
from fraud.schema import MESSAGES, REASONS, Transaction, json_schema
from fraud.validation import validator
from tests.messages import REQUIRED, TRANSACTION

ROOT = Path(__file__).resolve().parent.parent


def predictions(transactions: list[Transaction], matrix: np.ndarray, probability: float, **changes: Any) -> list[bytes]:
    count = len(transactions)
    terms: dict[str, Any] = {
        "threshold": 0.25,
        "model_name": "fraud-detector",
        "model_version": "3",
        "feature_version": "1-abc",
        "profile_through": "2026-01-31T09:45:00Z",
        "topic": "transactions",
        "partition": 1,
        "offsets": np.arange(count, dtype=np.int64) + 40,
        "scored_at": "2026-01-31T10:00:00.050Z",
        "names": FEATURE_NAMES,
        "integers": INTEGER_FEATURES,
    }
    verdict = int(probability >= 0.25)
    return encode_predictions(
        transactions,
        matrix,
        np.full(count, probability),
        np.full(count, verdict, dtype=np.int64),
        ["REVIEW" if verdict else "APPROVE"] * count,
        **(terms | changes),
    )


def test_the_generated_schemas_and_pages_are_up_to_date() -> None:
    assert schema_files.stale(ROOT) == [], "run `make docs` and commit what it writes"


def test_the_page_of_features_is_up_to_date() -> None:
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert page == markdown(), "run `make docs` and commit what it writes"


def test_a_stale_or_missing_file_is_named(tmp_path: Path) -> None:
    schema_files.write(tmp_path)
    assert schema_files.stale(tmp_path) == []
    page = tmp_path / "docs" / "messages.md"
    page.write_text(page.read_text(encoding="utf-8").replace("amount", "sum"), encoding="utf-8")
    (tmp_path / "schemas" / "label.json").unlink()
    assert sorted(schema_files.stale(tmp_path)) == ["docs/messages.md", "schemas/label.json"]


@pytest.mark.parametrize("name", MESSAGES)
def test_every_schema_is_a_schema_and_describes_every_field(name: str) -> None:
    schema = json.loads((ROOT / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema == json.loads(json.dumps(json_schema(name)))
    for table in (schema, *schema.get("$defs", {}).values()):
        assert all(field.get("description") for field in table["properties"].values())
        assert table.get("additionalProperties", True) is True  # a newer producer doesn't break an older reader
    assert list(schema["properties"]) == list(MESSAGES[name].__struct_fields__)


def test_every_reason_has_its_meaning_in_the_order_of_the_checks() -> None:
    page = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    told = page.split("## Reasons for a rejection")[1]
    places = [told.index(f"| `{reason}` |") for reason in REASONS]
    assert places == sorted(places)
    assert set(schema_files.MEANINGS) == set(REASONS)


@given(
    st.lists(
        st.one_of(st.just(np.nan), st.floats(-1e30, 1e30)), min_size=len(FEATURE_NAMES), max_size=len(FEATURE_NAMES)
    ),
    st.floats(0, 1),
    st.one_of(st.none(), st.just("2026-01-31T09:45:00Z")),
)
def test_predictions_are_what_the_schema_says(row: list[float], probability: float, through: str | None) -> None:
    values = [np.trunc(v) % 1e6 if name in INTEGER_FEATURES else v for name, v in zip(FEATURE_NAMES, row, strict=True)]
    transaction = Transaction(**TRANSACTION)
    (raw,) = predictions([transaction], np.array([values]), probability, profile_through=through)
    answer = json.loads(raw)
    validator("prediction").validate(answer)
    assert list(answer["features"]) == list(FEATURE_NAMES)
    for name, value in zip(FEATURE_NAMES, values, strict=True):
        told = answer["features"][name]
        assert told is None if np.isnan(value) else told == value, name  # exactly: what the model saw
        assert not (name in INTEGER_FEATURES and isinstance(told, float)), name
    assert answer["rolling_avg_7d"] == answer["features"]["rolling_avg_7d"]
    assert answer["amount_to_avg_ratio"] == answer["features"]["amount_to_avg_ratio"]
    assert answer["fraud_probability"] == probability
    assert {name: answer[name] for name in REQUIRED[:5]} == {name: TRANSACTION[name] for name in REQUIRED[:5]}


def test_the_same_input_gives_the_same_bytes_alone_and_in_company() -> None:
    rng = np.random.default_rng(7)
    transactions = [Transaction(**{**TRANSACTION, "transaction_id": f"t{i}"}) for i in range(50)]
    matrix = np.trunc(rng.normal(0, 100, (50, len(FEATURE_NAMES))) * 4) / 4
    for i, name in enumerate(FEATURE_NAMES):
        if name in INTEGER_FEATURES:
            matrix[:, i] = np.trunc(matrix[:, i])
    matrix[rng.random(matrix.shape) < 0.3] = np.nan
    whole = predictions(transactions, matrix, 0.5)
    assert whole == predictions(transactions, matrix.copy(), 0.5)
    alone = [predictions([transactions[i]], matrix[i : i + 1], 0.5, offsets=np.array([40 + i]))[0] for i in range(50)]
    assert alone == whole


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_a_missing_profile_is_null(probability: float) -> None:
    matrix = np.full((1, len(FEATURE_NAMES)), np.nan)
    (raw,) = predictions([Transaction(**TRANSACTION)], matrix, probability, profile_through=None)
    answer = json.loads(raw)
    assert answer["profile_through"] is None
    assert set(answer["features"].values()) == {None}


def test_the_answer_to_the_largest_transaction_fits_its_topic() -> None:
    ids = dict.fromkeys(("transaction_id", "user_id", "merchant_id", "device_id"), '"\\' * 32)
    transaction = Transaction(**{**TRANSACTION, **ids, "amount": 9_999_999.123456789})
    matrix = np.full((1, len(FEATURE_NAMES)), -1.2345678901234567e-300)
    (raw,) = predictions([transaction], matrix, 0.12345678901234567, model_name="n" * 1_000)
    assert len(raw) + 4 * 64 < LARGEST_ANSWER


def test_an_optional_field_may_be_missing_or_null_in_every_combination() -> None:
    optional = [name for name in TRANSACTION if name not in REQUIRED]
    check = validator("transaction")
    for count in range(len(optional) + 1):
        for names in itertools.combinations(optional, count):
            without = {name: value for name, value in TRANSACTION.items() if name not in names}
            for message in (without, without | dict.fromkeys(names)):
                assert isinstance(decode_transaction(json.dumps(message).encode(), b"u1"), Transaction)
                assert check.is_valid(message)
