"""Two validators, one set of messages: the job's decoder (msgspec) and the producer's (jsonschema).

They are compared on what both can see, a JSON document: the text's own faults (size, depth, encoding) are
the codec's alone. Generated: valid messages, valid ones with one or two fields damaged, and random objects
whose names are the schema's.
"""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.codec import Refused, decode_label, decode_transaction
from fraud.schema import CHANNELS, Label, Transaction
from fraud.times import format_time, parse_time
from fraud.validation import validator
from tests.messages import LABEL, TRANSACTION

CHECKS = {"transaction": validator("transaction"), "label": validator("label")}
NAMES = {"transaction": list(Transaction.__struct_fields__), "label": list(Label.__struct_fields__)}

ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=64)
moments = st.integers(parse_time("2000-01-01T00:00:00Z"), parse_time("2100-12-31T23:59:59.999Z")).map(format_time)
times = st.one_of(moments, moments.map(lambda text: text[:19] + "Z"))
amounts = st.one_of(
    st.floats(0, 10_000_000, exclude_min=True), st.integers(1, 10_000_000), st.just(5e-324), st.just(10_000_000.0)
)
letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


valid = {
    "transaction": st.fixed_dictionaries(
        {
            "transaction_id": ids,
            "user_id": ids,
            "merchant_id": ids,
            "timestamp": times,
            "amount": amounts,
            "currency": st.text(letters, min_size=3, max_size=3),
        },
        optional={
            "merchant_category": maybe(st.text("0123456789", min_size=4, max_size=4)),
            "channel": maybe(st.sampled_from(CHANNELS)),
            "country": maybe(st.text(letters, min_size=2, max_size=2)),
            "device_id": maybe(ids),
            "latitude": maybe(st.one_of(st.floats(-90, 90), st.integers(-90, 90))),
            "longitude": maybe(st.floats(-180, 180)),
            "something_new": st.integers(),
        },
    ),
    "label": st.fixed_dictionaries(
        {
            "transaction_id": ids,
            "user_id": ids,
            "merchant_id": ids,
            "timestamp": times,
            "is_fraud": st.booleans(),
            "labelled_at": times,
            "source": st.sampled_from(["chargeback", "analyst", "customer", "simulator"]),
        }
    ),
}

# Values at and around the rules' edges, and of every JSON type.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, -1, 1, 10**7, 10**7 + 1, 2**53, 2**64, 10**400, 90, 91, 180.0, -180.5, 0.0, -0.0, 5e-324]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=66),
    st.text(st.sampled_from(["a", "\n", "\x00", "\x7f", "\x85", "ü", "\ud800", "😀"]), min_size=62, max_size=66),
    st.sampled_from(["EUR", "EUR\n", "DE", "5411", "٥٤١١", "pos", "atm ", "simulator", "", " ", "\n"]),
)
bad_times = st.one_of(
    st.from_regex(r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,4})?(Z|\+00:00)?\n?\Z"),
    st.from_regex(r"\A[0-9]{4}-02-(28|29|30)T00:00:00Z\Z"),
)
anything = st.one_of(
    scalars, bad_times, times, st.lists(scalars, max_size=2), st.dictionaries(st.text(max_size=3), scalars, max_size=2)
)


def accepted(kind: str, document: Any) -> tuple[bool, bool]:
    """Return what the codec and what jsonschema say of one document; the key is made to fit."""
    raw = json.dumps(document).encode()
    user = document.get("user_id") if isinstance(document, dict) else None
    try:
        key = user.encode() if isinstance(user, str) else None
    except UnicodeEncodeError:
        key = None
    decode = decode_transaction if kind == "transaction" else decode_label
    got = decode(raw, key)
    if isinstance(got, Refused):
        assert got.reason in ("schema", "not_json"), got
    return not isinstance(got, Refused), CHECKS[kind].is_valid(document)


@pytest.mark.parametrize("kind", CHECKS)
@settings(max_examples=250, deadline=None)
@given(st.data())
def test_both_take_what_is_valid(kind: str, data: st.DataObject) -> None:
    assert accepted(kind, data.draw(valid[kind])) == (True, True)


@pytest.mark.parametrize("kind", CHECKS)
@settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_both_say_the_same_of_a_damaged_message(kind: str, data: st.DataObject) -> None:
    document = dict(TRANSACTION if kind == "transaction" else LABEL)
    for name in data.draw(st.lists(st.sampled_from(NAMES[kind]), min_size=1, max_size=2, unique=True)):
        if data.draw(st.integers(0, 9)) == 0:
            del document[name]
        else:
            document[name] = data.draw(bad_times if name in ("timestamp", "labelled_at") else anything)
    ours, theirs = accepted(kind, document)
    assert ours == theirs, document


@pytest.mark.parametrize("kind", CHECKS)
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_say_the_same_of_random_objects(kind: str, data: st.DataObject) -> None:
    objects = st.dictionaries(st.sampled_from(NAMES[kind]), anything, max_size=12)
    document = data.draw(st.one_of(anything, objects))
    ours, theirs = accepted(kind, document)
    assert ours == theirs, document


def test_a_field_that_is_ignored_may_hold_what_no_field_may() -> None:
    """The one difference on documents: half a surrogate pair in an unknown field is a fault of the text."""
    assert accepted("transaction", {**TRANSACTION, "new": "\ud800"}) == (False, True)
    assert accepted("transaction", {**TRANSACTION, "new": 10**400}) == (True, True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, True, -0.0], ids=str)
@pytest.mark.parametrize("name", ["amount", "latitude", "longitude"])
def test_both_refuse_what_is_no_number_of_the_field(name: str, value: Any) -> None:
    assert accepted("transaction", {**TRANSACTION, name: value}) == (
        (False, False) if value or name == "amount" else (True, True)
    )
