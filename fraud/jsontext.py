"""Checks on a JSON text that come before its fields: depth and grammar."""

import re

import msgspec
import numpy as np

# A string with its escapes, unterminated ones too; possessive, so linear on any input.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"{}[]"))
_STEPS = np.zeros(256, dtype=np.int64)
_STEPS[list(b"{[")] = 1
_STEPS[list(b"}]")] = -1

_GRAMMAR = msgspec.json.Decoder(msgspec.Raw)


def depth(raw: bytes) -> int:
    """Return how many brackets are open at once at most, outside strings, in time linear in the length.

    It is exact up to the first place where `raw` isn't JSON, which is as far as any decoder comes.

    >>> depth(b'{"a": [1, "[["]}')
    2
    """
    brackets = _STRING.sub(b"", raw).translate(None, _OTHERS)
    if not brackets:
        return 0
    return max(0, int(np.cumsum(_STEPS[np.frombuffer(brackets, dtype=np.uint8)]).max()))


def grammar_error(raw: bytes) -> str | None:
    """Return what makes `raw` no JSON text (RFC 8259), None if it is one.

    `raw` must be UTF-8 and not nested deeper than the decoder's recursion allows (`depth`). An escape of
    half a surrogate pair is an error (RFC 7493, 2.1): no UTF-8 can say it.

    >>> grammar_error(b'{"a": 01}')
    'JSON is malformed: invalid number (byte 6)'
    """
    try:
        _GRAMMAR.decode(raw)
    except msgspec.DecodeError as exc:
        return str(exc)
    return None
