"""How ids become bytes, in every store that keeps bytes."""

from collections.abc import Iterable

from fraud.errors import StoreError


def encode(what: str, ids: Iterable[str]) -> list[bytes]:
    """Return the ids in UTF-8; StoreError if one isn't valid Unicode (a lone surrogate).

    >>> encode("user", ["u1", "ü"])
    [b'u1', b'\\xc3\\xbc']
    """
    try:
        return [name.encode() for name in ids]
    except UnicodeEncodeError as exc:
        raise StoreError(f"a {what} id isn't valid Unicode: {exc}") from exc
