"""Depth and grammar of a JSON text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.jsontext import depth, grammar_error

documents = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=8), st.sampled_from(['"[', "\\{"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=20,
)


def plain_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(plain_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(plain_depth, value), default=0)
    return 0


@given(documents, st.booleans())
def test_depth_is_that_of_the_document(document: Any, ensure_ascii: bool) -> None:
    raw = json.dumps(document, ensure_ascii=ensure_ascii).encode()
    assert depth(raw) == plain_depth(document)
    assert grammar_error(raw) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", 0),
        (b"1", 0),
        (b"[]", 1),
        (b"][[", 1),  # closing too much never goes below the ground
        (b"[" * 60_000, 60_000),
        (b'"' + b"[" * 60_000, 0),  # a string that never ends
        (b'"\\' + b"[" * 10, 0),
        (b'["\\"[[", [[]]]', 3),
        (b'["\\\\", [', 2),  # the backslash is escaped, so the string ends
        (b'"' + b"\\" * 60_001, 0),
        ('["ü[", ["😀"]]'.encode(), 2),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else str(value),
)
def test_depth_of_what_no_document_is(raw: bytes, expected: int) -> None:
    assert depth(raw) == expected


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b"[1,]", b"{'a': 1}", b"nul", b"01", b"NaN", b'"\t"', b"1 2", b'"\\ud800"']
)
def test_what_is_no_json_has_its_error(raw: bytes) -> None:
    assert grammar_error(raw)


@given(st.text(max_size=30))
def test_the_grammar_is_that_of_the_standard_library(text: str) -> None:
    """But for the constants that Python adds to JSON: NaN and the infinities."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        assert grammar_error(text.encode()) is not None
    else:
        assert grammar_error(text.encode()) is None
