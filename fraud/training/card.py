"""The model card: what a model is, what it was made of, what it is worth, and where it ends, in Markdown.

Source of the form: Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fraud.training.boosting import Parameters


def model_card(report: Mapping[str, Any], facts: Mapping[str, object]) -> str:
    """Return a model card.

    Args:
        report: as `Trained.report` gives it.
        facts: what else is known, a line each (name → value): as_of, data, seed, revision.
    """
    thresholds = report["thresholds"]
    lines = [
        "# fraud-detector",
        "",
        "Estimates the probability that a payment is fraudulent, from its user's and its merchant's past. A gradient",
        "boosted tree model (XGBoost) with a calibrator behind it. Made to rank and to decide about single payments",
        "while they happen; not to decide about people, and not for data that its features don't describe.",
        "",
        "## How it was made",
        "",
        *_table(("what", "value"), [(name, value) for name, value in facts.items()]),
        "",
        "Four parts in time order: nothing is fitted, calibrated, chosen or judged on rows of another part.",
        "",
        *_table(
            ("part", "rows", "frauds", "from", "to"),
            [
                (name, *(part[key] for key in ("rows", "frauds", "from", "to")))
                for name, part in report["parts"].items()
            ],
        ),
        "",
        *_searched(report.get("search")),
        "## What it is worth",
        "",
        "On the part `judge`, at the REVIEW threshold where one is needed. Random and oracle are what the same rows",
        "give to scores without and with knowledge of the truth.",
        "",
        *_table(
            ("metric", "value", "random", "oracle"),
            [
                (
                    name,
                    *(f"{figures[name]:.4f}" for figures in (report["metrics"], report["floors"], report["oracles"])),
                )
                for name in report["metrics"]
            ],
        ),
        "",
        *_table(("", "flagged", "not flagged"), _confusion(report["confusion"])),
        "",
        f"REVIEW from {thresholds['review']:.4f} on, the best F2 of the part `threshold` ({thresholds['f2']:.4f}).",
        f"{thresholds['note']}.",
        "",
        "## Where it ends",
        "",
        "* A label takes about seven days; a transaction without one counts as legitimate. Fraud that nobody ever",
        "  reports is learnt as legitimate.",
        "* Merchant features look at windows that end seven days ago: what is new at a merchant shows after that.",
        "* Users without a history have missing values for averages and ratios; the model knows fewer of them.",
        "* What was never seen in the time of `fit` is extrapolation. `plots/` shows scores, reliability and features.",
        "",
    ]
    return "\n".join(lines)


def _searched(search: Mapping[str, Any] | None) -> list[str]:
    if search is None:
        return []
    tried, rows, of = len(search["candidates"]), search["rows"], search["of_rows"]
    best = search["best"]
    return [
        f"{tried} candidates were tried over {search['folds']} folds in time order, by average precision on",
        f"{rows:,} of {of:,} rows (every fraud, and others thinned evenly over time). The best of them and the default",
        "were compared once more, on all rows; the final fit took all rows of `fit`.",
        "",
        *_table(
            ("finalist", "average precision, mean of the folds", "taken"),
            [(_named(each), _mean(each), "yes" if best.items() <= each.items() else "") for each in search["finals"]],
        ),
        "",
    ]


def _named(parameters: Mapping[str, Any]) -> str:
    """Return parameters in words, every number short."""
    names = [each.name for each in fields(Parameters)]
    values = [(name.replace("_", " "), parameters[name]) for name in names]
    return ", ".join(f"{name} {value:.3g}" for name, value in values if value is not None)


def _mean(finalist: Mapping[str, Any]) -> str:
    mean = finalist["average_precision"]
    return "failed" if mean is None else f"{mean:.4f}"


def _confusion(counts: Mapping[str, int]) -> list[tuple[object, ...]]:
    return [("fraud", counts["tp"], counts["fn"]), ("legitimate", counts["fp"], counts["tn"])]


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    def line(cells: tuple[object, ...]) -> str:
        return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]
