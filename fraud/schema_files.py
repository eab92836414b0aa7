"""The files made from the field tables: `schemas/*.json` and `docs/messages.md`."""

import json
import sys
from pathlib import Path
from typing import Any

from fraud.schema import MAX_BYTES, MAX_DEPTH, MESSAGES, REASONS, Reason, json_schema

TOPICS = {
    "transaction": "transactions",
    "label": "transaction_labels",
    "prediction": "fraud_predictions",
    "rejection": "transactions_dlq",
}

MEANINGS: dict[Reason, str] = {
    "null_value": "The message has no value.",
    "too_large": f"The value has more than {MAX_BYTES:,} bytes.",
    "not_utf8": "The value isn't UTF-8.",
    "too_deep": f"Its brackets are nested deeper than {MAX_DEPTH}.",
    "not_json": "It isn't a JSON text (RFC 8259; half a surrogate pair or a byte order mark isn't either).",
    "schema": "A field is missing or breaks its rule; `field` names it.",
    "key_mismatch": "The message's key isn't `user_id`, or there is no key.",
    "future_timestamp": "The timestamp (of a label: `labelled_at`) is more than 10 minutes after the broker's.",
    "too_old": "The timestamp is older at the broker than the setting `FRAUD_MAX_AGE_DAYS` allows.",
    "duplicate": "The same transaction, byte for byte, was answered before.",
    "conflicting_duplicate": "The transaction_id was answered before for another content.",
    "unknown_transaction": "A label whose transaction wasn't accepted within `FRAUD_LABEL_PARKING_DAYS` (seven).",
    "internal_error": "Scoring this message failed unexpectedly; `detail` says how.",
}

PREAMBLE = """\
# Messages

Made from the field tables in `fraud/schema.py` by `python -m fraud.schema_files`; don't edit. The same tables are
in `schemas/` as JSON Schema (draft 2020-12).

Keys are `user_id` in UTF-8, values are JSON in UTF-8. Unknown extra fields are ignored: read what you know,
and expect more. An optional field may be missing or null, which means the same.

Identifiers have 1 to 64 characters, none of them a control character. Timestamps are RFC 3339 in UTC,
`YYYY-MM-DDTHH:MM:SS[.mmm]Z`, in the calendar, in the years 2000 to 2100; their whole rule is in the schema's
`pattern`, so a validator that ignores `format` refuses 30 February too. Of a field given twice the last counts.
"""

REFUSERS = [
    "The score job refuses transactions, the archive job labels; `source.topic` says which. A label may come before",
    "its transaction: it waits, and counts from the moment at which the transaction is accepted. Labels about one",
    "transaction are never repeats of each other: all are kept, and the one with the greatest `labelled_at` (of equal",
    "ones the one that arrived last) counts; merchant and time are the transaction's own, whatever a label says.",
    "A rejection of a label is published at least once, a repeat being the same bytes: `rejected_at` is the newest",
    "broker time of the batch that it came with.",
]


def _rule(schema: dict[str, Any]) -> str:
    """Say a field's rule in a few words."""
    if "anyOf" in schema:
        return " or ".join(_rule(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return f"object, see {schema['$ref'].rsplit('/', 1)[-1]}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "date-time":
        return "timestamp"
    if schema.get("maxLength") == 64 and "minLength" in schema:
        return "identifier"
    if "pattern" in schema:
        return f"string `{schema['pattern']}`"
    if "additionalProperties" in schema:
        return f"object of name → {_rule(schema['additionalProperties'])}"
    bounds = {"exclusiveMinimum": "> {:,}", "minimum": "≥ {:,}", "maximum": "≤ {:,}"}
    limits = [words.format(schema[key]) for key, words in bounds.items() if key in schema]
    return " ".join([schema["type"], ", ".join(limits)]).strip()


def _table(schema: dict[str, Any]) -> list[str]:
    lines = ["| field | required | rule | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        required = "yes" if name in schema["required"] else ""
        lines.append(f"| {name} | {required} | {_rule(field)} | {field['description']} |")
    return lines


def messages_md() -> str:
    """Return the Markdown of `docs/messages.md`."""
    lines = [PREAMBLE]
    shared: dict[str, Any] = {}
    for name, message in MESSAGES.items():
        schema = json_schema(name)
        shared.update(schema.get("$defs", {}))
        lines += [f"## {message.__name__}", "", f"Topic `{TOPICS[name]}`. {schema['description']}", ""]
        lines += [*_table(schema), ""]
    for name, schema in shared.items():
        lines += [f"### {name}", "", schema["description"], "", *_table(schema), ""]
    lines += ["## Reasons for a rejection", "", "In the order in which they are checked.", "", *REFUSERS, ""]
    lines += ["| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {MEANINGS[reason]} |" for reason in REASONS]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """Return every generated file's text by its path below the repository's root."""
    schemas = {
        f"schemas/{name}.json": json.dumps(json_schema(name), indent=2, ensure_ascii=True) + "\n" for name in MESSAGES
    }
    return {**schemas, "docs/messages.md": messages_md()}


def write(root: Path) -> None:
    """Write the generated files below `root`, the repository's folder."""
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def stale(root: Path) -> list[str]:
    """Return the paths below `root` that aren't what the tables say now."""
    return [
        path
        for path, text in files().items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
