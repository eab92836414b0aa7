"""The cheap road of decoding: what a strict decoder took before is known, and needn't be asked again.

Four of a transaction's fields have a pattern, and msgspec asks Python's `re` for each: three quarters of the decoder's
time. Here the same fields are read as bare strings, and their values are looked up among those that the strict decoder
has accepted: currency, country and category as they are, a time by its minute, its seconds and its fraction, which
its pattern doesn't connect. Whatever isn't known goes to the strict decoder, which alone refuses.
"""

from typing import Any, Final, get_args, get_type_hints

import msgspec

from fraud.schema import Transaction

MOST = 100_000  # values of a kind to remember; then all are forgotten

_PATTERNED: Final = ("timestamp", "currency", "merchant_category", "country")
_MINUTE: Final = len("2026-01-31T10:00:")
_SECONDS: Final = frozenset(f"{second:02}" for second in range(60))
_FRACTIONS: Final = frozenset(["Z", *(f".{milliseconds:03}Z" for milliseconds in range(1000))])


def _bare() -> Any:
    """Return a struct with a transaction's fields, in its order, without their patterns."""
    hints = get_type_hints(Transaction, include_extras=True)
    fields: list[Any] = []
    for field in msgspec.structs.fields(Transaction):
        kind = hints[field.name]
        if field.name in _PATTERNED:
            kind = str if type(None) not in get_args(get_args(kind)[0]) else str | None
        fields.append((field.name, kind) if field.required else (field.name, kind, field.default))
    return msgspec.defstruct("Bare", fields, frozen=True, gc=False)


class Plain:
    """Decodes messages whose patterned values are known; learns from those that were accepted."""

    def __init__(self) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_bare())
        self._codes: set[tuple[str, str | None, str | None]] = set()
        self._minutes: set[str] = set()

    def decode(self, raw: bytes) -> Transaction | None:
        """Return the transaction, None where the strict decoder has to be asked.

        Raises:
            msgspec.DecodeError: it isn't one; the strict decoder says why.
        """
        values = _fields(self._decoder.decode(raw))
        time = values[3]
        if (
            (values[5], values[6], values[8]) in self._codes
            and time[:_MINUTE] in self._minutes
            and time[_MINUTE : _MINUTE + 2] in _SECONDS
            and time[_MINUTE + 2 :] in _FRACTIONS
        ):
            return Transaction(*values)
        return None

    def learn(self, message: Transaction) -> None:
        """Remember the values of a message that the strict decoder has accepted."""
        for known, value in (
            (self._codes, (message.currency, message.merchant_category, message.country)),
            (self._minutes, message.timestamp[:_MINUTE]),
        ):
            if len(known) >= MOST:
                known.clear()
            known.add(value)  # type: ignore[arg-type]


_fields = msgspec.structs.astuple
