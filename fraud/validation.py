"""Validation by the published JSON Schemas, for who writes messages: `jsonschema` on Python objects."""

import math
from typing import TYPE_CHECKING, Any

from fraud.errors import ConfigError
from fraud.schema import json_schema

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def _is_number(_: object, instance: Any) -> bool:
    """Tell whether JSON can write the number: NaN and the infinities pass every bound."""
    if isinstance(instance, bool):
        return False
    return isinstance(instance, int) or (isinstance(instance, float) and math.isfinite(instance))


def _is_string(_: object, instance: Any) -> bool:
    """Tell whether UTF-8 can write the text: half a surrogate pair it can't."""
    if not isinstance(instance, str):
        return False
    try:
        instance.encode()
    except UnicodeEncodeError:
        return False
    return True


def validator(name: str) -> "Validator":
    """Return a validator for a message's Python object; `name` is a key of `fraud.schema.MESSAGES`.

    It accepts and refuses what `fraud.codec` does, but for what only a text has: size, depth, a duplicate
    name, half a surrogate pair in a field that is ignored. It costs about 0.1 ms a message.

    Raises:
        ConfigError: `jsonschema` isn't installed.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend
    except ImportError as exc:
        raise ConfigError("checking messages needs jsonschema: pip install 'fraud-detect[producer]'") from exc
    types = Draft202012Validator.TYPE_CHECKER.redefine_many({"number": _is_number, "string": _is_string})
    strict: type[Validator] = extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
    return strict(json_schema(name))
