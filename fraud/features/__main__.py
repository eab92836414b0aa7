"""`python -m fraud.features > docs/features.md`: the table as Markdown; a test compares the two."""

from fraud.features.table import FEATURES


def markdown() -> str:
    """Return the documentation of every feature."""
    rows = "\n".join(f"| `{f.name}` | {f.kind} | {f.rule} | {f.null} |" for f in FEATURES)
    return f"""# Features

Made from the table in `fraud/features/table.py` by `python -m fraud.features`; don't edit.

A user's features look at the same user's accepted transactions that arrived before this one and whose time
lies in (t - 30 d, t]. A history holds the last 512 arrivals, without those more than 37 days older than the
newest time seen. A merchant's features end seven days and two quarter-hours before t, because labels take
that long. Null is JSON null, and NaN for the model; results beyond ±1e30 are cut there.

| feature | kind | rule | null |
|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201
