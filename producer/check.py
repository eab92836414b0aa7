"""What is sent is checked first: with the published JSON Schema, field by field."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fraud.errors import DataError
from fraud.schema import Label, Transaction
from fraud.validation import validator

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

# What the schemas say beyond their fields; all of it holds for a struct by construction.
STRUCTURE = frozenset({"$schema", "$id", "title", "description", "type", "properties", "required"})
_ANNOTATIONS = frozenset({"description", "default"})
_REMEMBERED = 65_536  # values a field: users, merchants, devices come again and again


class Check:
    """Checks transactions or labels with `jsonschema`.

    A message's schema is its fields' schemas and nothing else (a test says so), so each field is checked
    by its own, and texts that were seen before aren't checked again: 20 µs a message instead of 80.
    """

    def __init__(self, kind: type[Transaction | Label]) -> None:
        whole = validator(kind.__name__.lower())
        self.validators = {
            name: whole.evolve(schema=rule)
            for name, rule in whole.schema["properties"].items()  # type: ignore[index]
        }
        self.fields = [(name, _remembering(_verdict(each))) for name, each in self.validators.items()]

    def __call__(self, message: Transaction | Label) -> None:
        """Do nothing where the message may be sent.

        Raises:
            DataError: a field breaks its rule; names transaction, field, value and rule.
        """
        for name, is_valid in self.fields:
            value = getattr(message, name)
            if not is_valid(value):
                why = next(self.validators[name].iter_errors(value)).message
                raise DataError(
                    f"transaction {message.transaction_id!r}: {name} breaks its rule: {why[:200]}; "
                    f"nothing of it was sent (docs/messages.md has the rules)"
                )


def _verdict(field: "Validator") -> Callable[[Any], bool]:
    """Return what tells whether a value keeps a field's rule.

    An alternative (a rule, or null) is asked for its verdict alone: collecting every branch's errors, as
    `jsonschema` does for an `anyOf`, costs three times as much.
    """
    rule = {name: part for name, part in field.schema.items() if name not in _ANNOTATIONS}  # type: ignore[union-attr]
    if set(rule) != {"anyOf"}:
        return field.is_valid
    branches = [_verdict(field.evolve(schema=branch)) for branch in rule["anyOf"]]
    return lambda value: any(holds(value) for holds in branches)


def _remembering(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Remember verdicts on texts and null; numbers rarely come again, and 1 would be taken for True."""
    known = lru_cache(_REMEMBERED)(is_valid)

    def check(value: Any) -> bool:
        return known(value) if value is None or type(value) is str else is_valid(value)

    return check
