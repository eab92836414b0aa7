"""The codec's measurement: each call does what its name says, and has its peer beside it."""

import json
from functools import cache

from fraud.bench import codec
from fraud.bench.sample import Sample, simulated
from fraud.codec import Refused
from fraud.features import FEATURE_NAMES
from fraud.schema import Transaction


@cache
def sample() -> Sample:
    return simulated(users=30, days=10).last(50)


def test_every_message_is_what_its_name_says() -> None:
    named, sizes = codec.calls(sample())
    for name, kind in (("decode", Transaction), ("decode_unusual", Transaction), ("decode_refused", Refused)):
        decoded = named[name]()
        assert isinstance(decoded, list)
        assert {type(each) for each in decoded} == {kind}
    assert {name.removesuffix(codec.PEER) for name in named} == set(sizes)


def test_predictions_have_every_feature() -> None:
    told = json.loads(codec.encode(sample())[-1])
    assert set(told["features"]) == set(FEATURE_NAMES)
    assert told["features"]["user_txn_count_30d"] > 0  # of a user with a past


def test_the_result_compares_with_json() -> None:
    result = codec.run(50, 2, lambda _: None)
    assert result["messages"] == 50
    for name, row in result["calls"].items():
        assert row["us"]["median"] > 0
        assert row["bytes"] > 100
        assert (row["ratio"] is None) == (name == "event_columns")
    assert result["calls"]["encode_predictions"]["ratio"] < 1  # json.dumps of a prediction takes five times as long
